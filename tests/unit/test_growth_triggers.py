"""Triggers on hand-made histories, by literal outcomes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromas.errors import GrowthError
from neuromas.growth.triggers import Check, Collapse, Plateau, Steps, Threshold, make_trigger
from neuromas.spec.growth import TriggerSpec


def checks(*accuracies: float) -> list[Check]:
    return [Check(5 * (index + 1), accuracy) for index, accuracy in enumerate(accuracies)]


def test_threshold_fires_at_the_accuracy_itself_and_looks_at_the_newest_check_only() -> None:
    rule = Threshold(0.95, every=5, examples=128, min_steps=10)
    assert rule.fires(checks(0.2, 0.949), 10) is None
    assert rule.fires(checks(0.2, 0.95), 10) == "threshold"
    assert rule.fires(checks(0.96, 0.9), 10) is None


def test_threshold_waits_for_min_steps() -> None:
    rule = Threshold(0.95, every=5, examples=128, min_steps=10)
    assert rule.fires(checks(1.0), 5) is None
    assert rule.fires(checks(1.0, 1.0), 10) == "threshold"


def test_threshold_on_sampled_answers_asks_for_them_once_greedy_ones_pass() -> None:
    rule = Threshold(0.95, every=5, examples=128, min_steps=10, sampled_accuracy=0.9)
    assert [rule.wants_sampled(Check(10, accuracy)) for accuracy in (0.94, 0.95, 1.0)] == [False, True, True]
    assert not rule.wants_sampled(Check(5, 1.0)), "it could not fire yet"
    assert not Threshold(0.95, every=5, examples=128).wants_sampled(Check(10, 1.0))


def test_threshold_on_sampled_answers_needs_both() -> None:
    rule = Threshold(0.95, every=5, examples=128, sampled_accuracy=0.9)
    assert rule.fires([Check(10, 1.0, 0.0)], 10) is None
    assert rule.fires([Check(5, 0.94)], 5) is None
    assert rule.fires([Check(5, 1.0, 0.22)], 5) is None
    assert rule.fires([Check(5, 1.0, 0.22), Check(10, 1.0, 0.9)], 10) == "threshold"
    assert rule.fires([Check(5, 1.0, 0.9), Check(10, 0.9)], 10) is None


@pytest.mark.parametrize("kind", ["steps", "plateau", "collapse"])
def test_sampled_answers_belong_to_the_threshold(kind: str) -> None:
    with pytest.raises(ValueError, match="sampled_accuracy needs type = 'threshold'"):
        TriggerSpec(type=kind, sampled_accuracy=0.9)


def test_steps_fire_at_their_number_whatever_the_accuracy() -> None:
    assert Steps(30).fires((), 29) is None
    assert Steps(30).fires(checks(0.0), 30) == "steps"


def test_a_plateau_needs_patience_checks_without_enough_improvement() -> None:
    rule = Plateau(patience=3, min_improvement=0.01, every=5, examples=128)
    assert rule.fires(checks(0.1, 0.4, 0.405, 0.4), 20) is None
    assert rule.fires(checks(0.1, 0.4, 0.405, 0.4, 0.39), 25) == "plateau"
    assert rule.fires(checks(0.1, 0.4, 0.405, 0.4, 0.42), 25) is None


def test_a_plateau_counts_the_first_check_as_an_improvement_even_at_zero() -> None:
    rule = Plateau(patience=2, min_improvement=0.01, every=5, examples=128)
    assert rule.fires(checks(0.0, 0.0), 10) is None
    assert rule.fires(checks(0.0, 0.0, 0.0), 15) == "plateau"


def test_collapse_needs_every_recent_check_below_half_of_the_earlier_best() -> None:
    rule = Collapse(patience=2, every=5, examples=128)
    assert rule.fires(checks(0.8, 0.39), 10) is None
    assert rule.fires(checks(0.8, 0.39, 0.41), 15) is None
    assert rule.fires(checks(0.8, 0.39, 0.1), 15) == "collapse"


def test_a_stage_that_never_learned_has_nothing_to_lose() -> None:
    assert Collapse(patience=2, every=5, examples=128).fires(checks(0.0, 0.0, 0.0, 0.0), 20) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10).map(sorted))
def test_accuracies_that_only_rise_never_collapse(accuracies) -> None:
    assert Collapse(patience=1, every=5, examples=8).fires(checks(*accuracies), 50) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.floats(0.1, 1), st.floats(0, 0.1))
def test_a_lower_threshold_fires_wherever_a_higher_one_does(accuracies, high, step_down) -> None:
    strict, lax = Threshold(high, 5, 8), Threshold(high - step_down, 5, 8)
    assert strict.fires(checks(*accuracies), 50) is None or lax.fires(checks(*accuracies), 50) == "threshold"


def test_fixed_steps_without_a_length_are_refused_with_the_setting_to_change() -> None:
    with pytest.raises(GrowthError, match=r"growth\.steps_per_level"):
        make_trigger(TriggerSpec(type="steps"))
