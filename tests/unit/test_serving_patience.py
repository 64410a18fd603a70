"""Patience: how long an engine may wait for those it has just answered, and when it stops waiting for them."""

from __future__ import annotations

import pytest

from neuromas.serving.patience import Patience


def patience(steps: float = 1.0, step_s: float = 0.02) -> Patience:
    made = Patience(steps)
    made.took(step_s)
    return made


def test_a_wait_is_a_steps_time_in_the_share_that_was_answered() -> None:
    assert patience().wait_s(12, 52) == pytest.approx(0.02 * 12 / 64)
    assert patience().wait_s(64, 0) == pytest.approx(0.02)
    assert patience(steps=0.5).wait_s(64, 0) == pytest.approx(0.01)


def test_there_is_no_wait_without_answers_nor_without_patience() -> None:
    assert patience().wait_s(0, 64) == 0
    assert patience(steps=0).wait_s(12, 52) == 0


def test_a_step_that_takes_unusually_long_moves_the_wait_by_a_tenth() -> None:
    made = patience(step_s=0.02)
    made.took(0.12)
    assert made.wait_s(1, 0) == pytest.approx(0.03)


def test_where_nobody_comes_back_a_wait_is_tried_once_in_the_answers_of_four_rounds() -> None:
    made = patience()
    made.waited(0.00375, 52, 0)
    waits = [made.wait_s(12, 52) for _ in range(22)]
    assert waits == [0] * 21 + [pytest.approx(0.00375)]  # 22 x 12 answers, of 64 that are under way


def test_a_wait_that_brings_more_than_it_costs_is_kept_up() -> None:
    made = patience()
    made.waited(0.01, 12, 52)  # 52 x 20 ms gained, (12 + 26) x 10 ms lost
    made.waited(0.00375, 52, 0)
    assert made.wait_s(12, 52) > 0


def test_those_who_come_back_turn_the_waiting_on_again() -> None:
    made = patience()
    made.waited(0.00375, 52, 0)
    assert made.wait_s(12, 52) == 0
    made.waited(0.001, 52, 12)
    assert made.wait_s(12, 52) > 0
