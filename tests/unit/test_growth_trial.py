"""The paired judgement of a growth, against hand-computed and brute-force values."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromas.errors import GrowthError
from neuromas.growth.trial import judge, sign_test, trial_steps
from neuromas.spec.growth import AppendSpec, BeforeOutputSpec, GraftSpec, PlanSpec, TrialSpec, WidenSpec


def answers(both: int, mine: int, theirs: int, neither: int) -> tuple[list[bool], list[bool]]:
    grown = [True] * both + [True] * mine + [False] * theirs + [False] * neither
    parent = [True] * both + [False] * mine + [True] * theirs + [False] * neither
    return grown, parent


def test_a_clear_paired_gain_is_kept() -> None:
    verdict = judge(*answers(both=40, mine=30, theirs=5, neither=25), TrialSpec())
    assert (verdict.grown, verdict.parent, verdict.wins, verdict.losses) == (0.70, 0.45, 30, 5)
    assert verdict.gain == pytest.approx(0.25)
    assert verdict.p_value == pytest.approx(1.117e-5, rel=1e-3)
    assert verdict.kept


def test_a_gain_that_chance_explains_is_not_kept_unless_asked() -> None:
    close = answers(both=50, mine=6, theirs=4, neither=40)
    assert judge(*close, TrialSpec()).p_value == pytest.approx(386 / 1024)
    assert not judge(*close, TrialSpec()).kept
    assert judge(*close, TrialSpec(max_p_value=1)).kept


def test_p_values_are_corrected_for_the_number_of_plans() -> None:
    gain = answers(both=50, mine=10, theirs=2, neither=40)  # p = 79 / 4096 = .0193
    assert [judge(*gain, TrialSpec(), plans).kept for plans in (1, 2, 3, 8)] == [True, True, False, False]
    assert judge(*gain, TrialSpec(), 2).p_value == pytest.approx(2 * 79 / 4096)
    assert judge(*gain, TrialSpec(), 100).p_value == 1.0


@pytest.mark.parametrize("plans", [1, 2, 4, 8])
def test_of_any_number_of_useless_plans_one_is_kept_in_5_percent_of_trials_at_most(plans: int) -> None:
    """The parent and all grown graphs are equally good, so every keep is false."""
    random, trials, kept = np.random.default_rng(20), 1000, 0
    for _ in range(trials):
        lucky = random.random(100) < 0.5  # the rest of the questions all graphs answer alike
        parent, *grown = (np.where(lucky, random.random(100) < 0.5, 1).tolist() for _ in range(1 + plans))
        kept += any(judge(one, parent, TrialSpec(), plans).kept for one in grown)
    assert kept / trials <= 0.05


def test_a_gain_is_kept_up_to_the_p_value_that_is_asked_for() -> None:
    """Of 20 questions that differ 15 are won: p = 21700 / 2^20, summed by hand over 15 to 20."""
    for most, kept in ((0.0206, False), (0.0207, True), (1.0, True)):
        outcome = judge(*answers(both=400, mine=15, theirs=5, neither=80), TrialSpec(max_p_value=most))
        assert (outcome.gain, outcome.p_value) == (pytest.approx(0.02), pytest.approx(21700 / 2**20))
        assert outcome.kept == kept


def test_partial_rewards_are_compared_example_by_example() -> None:
    verdict = judge([0.5, 1.0, 0.2], [0.4, 0.9, 0.2], TrialSpec(max_p_value=1))
    assert (verdict.wins, verdict.losses, verdict.p_value, verdict.kept) == (2, 0, 0.25, True)


def test_a_tie_is_never_kept() -> None:
    assert not judge(*answers(both=10, mine=0, theirs=0, neither=0), TrialSpec(max_p_value=1)).kept


def test_answers_that_are_not_paired_are_refused() -> None:
    with pytest.raises(GrowthError, match="3 and 2"):
        judge([True] * 3, [True] * 2, TrialSpec())
    with pytest.raises(GrowthError, match="0 and 0"):
        judge([], [], TrialSpec())


@given(st.integers(0, 6), st.integers(0, 6))
def test_the_sign_test_equals_counting_all_coin_tosses(wins: int, losses: int) -> None:
    tosses = list(product([0, 1], repeat=wins + losses))
    assert sign_test(wins, losses) == pytest.approx(sum(sum(row) >= wins for row in tosses) / len(tosses))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_grown_and_parent_are_never_both_better(pairs) -> None:
    left, right = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assert not (judge(left, right, TrialSpec()).kept and judge(right, left, TrialSpec()).kept)


@pytest.mark.parametrize(
    ("edit", "steps"),
    [
        (AppendSpec(edit="append"), 30),
        (BeforeOutputSpec(edit="before_output"), 30),
        (GraftSpec(edit="graft", arrange="series", modules=("m",)), 30),
        (GraftSpec(edit="graft"), 180),
        (WidenSpec(edit="widen", layer=1), 180),
    ],
)
def test_a_trial_is_as_long_as_its_family_needs(edit, steps: int) -> None:
    assert trial_steps(TrialSpec(), PlanSpec(edits=(edit,))) == steps
    assert trial_steps(TrialSpec(steps=12), PlanSpec(edits=(edit,))) == 12
