"""The controller's rules: what follows after which history, by literal outcomes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromas.errors import GrowthError
from neuromas.growth.controller import Controller, Decision, Stop, Train
from neuromas.growth.ledger import Spending
from neuromas.growth.stage import StageOutcome
from neuromas.growth.triggers import Steps, Threshold
from neuromas.spec.growth import AppendSpec, GrowthSpec, PlanSpec, TrialSpec, TriggerSpec, WidenSpec

APPEND = PlanSpec(edits=(AppendSpec(edit="append"),))
WIDEN = PlanSpec(edits=(WidenSpec(edit="widen", layer=1),))
LEVELS = GrowthSpec(levels=(3, 5, 7))
CHAIN = Controller(LEVELS, task_levels=tuple(range(1, 8)), total_steps=100)


def ended(steps: int, reason: str, accuracy: float, sampled: float = 0.0) -> StageOutcome:
    return StageOutcome("stage", 0, 3, None, steps, reason, accuracy, sampled, 100, Path("checkpoint"), Spending())


def grows(decision: Decision) -> bool:
    return isinstance(decision, Train) and bool(decision.plans)


SOLVED = ended(20, "threshold", 0.97)


def test_the_first_stage_trains_the_first_level_without_decay_under_the_trigger() -> None:
    decision = CHAIN.decide([])
    assert isinstance(decision, Train)
    assert not decision.plans
    assert (decision.level, decision.steps, decision.is_last) == (3, 60, False)
    assert decision.trigger == Threshold(0.95, every=5, examples=128, min_steps=10)


def test_a_solved_level_is_followed_by_growth_and_the_next_level_at_once() -> None:
    decision = CHAIN.decide([SOLVED])
    assert grows(decision)
    assert decision.plans == (APPEND,)
    assert (decision.number, decision.level, decision.is_last) == (1, 5, False)


def test_the_last_stage_decays_has_no_trigger_and_gets_what_is_left_of_the_budget() -> None:
    decision = CHAIN.decide([SOLVED, ended(25, "threshold", 0.96)])
    assert grows(decision)
    assert (decision.level, decision.steps, decision.is_last) == (7, 55, True)
    assert decision.trigger is None


def test_the_last_stage_may_have_a_length_of_its_own() -> None:
    spec = GrowthSpec(levels=(3, 5), final_steps=30)
    decision = Controller(spec, (1, 3, 5), total_steps=10).decide([ended(60, "threshold", 1.0)])
    assert grows(decision)
    assert decision.steps == 30


def test_the_schedule_ends_after_its_last_stage() -> None:
    decision = CHAIN.decide([SOLVED, SOLVED, ended(60, "budget", 0.4)])
    assert isinstance(decision, Stop)
    assert decision.finished


def test_a_plateau_below_the_threshold_is_not_grown_from_and_the_user_is_told() -> None:
    decision = CHAIN.decide([ended(60, "budget", 0.39)])
    assert isinstance(decision, Stop)
    assert not decision.finished
    assert decision.notices[0].kind == "growth_refused"
    assert "0.390" in decision.notices[0].message
    assert "growth.max_steps_per_level" in decision.notices[0].message


def test_a_stage_that_reaches_the_threshold_with_its_last_step_is_grown_from() -> None:
    assert grows(CHAIN.decide([ended(60, "budget", 0.96)]))


def test_a_plateau_of_sampled_answers_is_not_grown_from_where_they_are_asked_for() -> None:
    spec = GrowthSpec(levels=(3, 5), trigger=TriggerSpec(sampled_accuracy=0.9))
    controller = Controller(spec, (3, 5), 100)
    decision = controller.decide([ended(60, "budget", 0.99, sampled=0.89)])
    assert isinstance(decision, Stop)
    assert "sampled accuracy 0.890" in decision.notices[0].message
    assert "growth.trigger.sampled_accuracy = 0.9" in decision.notices[0].message
    assert grows(controller.decide([ended(60, "budget", 0.99, sampled=0.9)]))


def test_a_collapsed_stage_is_never_grown_from() -> None:
    spec = GrowthSpec(levels=(3, 5), trigger=TriggerSpec(type="collapse", accuracy=0.1))
    decision = Controller(spec, (3, 5), 100).decide([ended(30, "collapse", 0.2)])
    assert isinstance(decision, Stop)
    assert decision.notices[0].data["reason"] == "collapse"


def test_a_plateau_above_the_threshold_is_grown_from() -> None:
    spec = GrowthSpec(levels=(3, 5), trigger=TriggerSpec(type="plateau", accuracy=0.8))
    controller = Controller(spec, (3, 5), 100)
    assert grows(controller.decide([ended(30, "plateau", 0.85)]))
    assert isinstance(controller.decide([ended(30, "plateau", 0.79)]), Stop)


def test_no_stage_is_started_without_budget() -> None:
    decision = Controller(LEVELS, (3, 5, 7), total_steps=40).decide([ended(20, "threshold", 1.0)] * 2)
    assert isinstance(decision, Stop)
    assert "training.steps" in decision.notices[0].message


def test_fixed_lengths_grow_at_any_accuracy() -> None:
    spec = GrowthSpec(levels=(3, 5, 7), trigger=TriggerSpec(type="steps"), steps_per_level=(35, 35, 30))
    controller = Controller(spec, (3, 5, 7), total_steps=1)
    first = controller.decide([])
    assert isinstance(first, Train)
    assert not first.plans
    assert (first.steps, first.trigger) == (35, Steps(35))
    last = controller.decide([ended(35, "steps", 0.1), ended(35, "steps", 0.0)])
    assert grows(last)
    assert (last.steps, last.is_last, last.trigger) == (30, True, None)


def test_one_plan_per_change_is_used_in_order() -> None:
    controller = Controller(GrowthSpec(levels=(3, 5, 7), plans=(APPEND, WIDEN)), (3, 5, 7), 100)
    assert [controller.decide([SOLVED] * stages).plans for stages in (1, 2)] == [(APPEND,), (WIDEN,)]


def test_no_plans_raise_the_level_and_keep_the_graph() -> None:
    decision = Controller(GrowthSpec(levels=(3, 5), plans=()), (3, 5), 100).decide([SOLVED])
    assert isinstance(decision, Train)
    assert not decision.plans
    assert decision.level == 5


def test_a_trial_hands_over_all_candidates() -> None:
    spec = GrowthSpec(levels=(3, 5), plans=(APPEND, WIDEN), trial=TrialSpec())
    decision = Controller(spec, (3, 5), 100).decide([SOLVED])
    assert grows(decision)
    assert decision.plans == (APPEND, WIDEN)


def test_without_levels_the_full_size_is_trained_from_scratch_and_the_user_is_told() -> None:
    decision = Controller(GrowthSpec(), (), total_steps=100).decide([])
    assert isinstance(decision, Train)
    assert decision.is_scratch
    assert (decision.plans, decision.steps, decision.is_last) == ((APPEND,), 100, True)
    assert "the task has no levels" in decision.notices[0].message


def test_levels_that_the_schedule_does_not_use_are_named() -> None:
    decision = Controller(GrowthSpec(), (1, 2, 3), total_steps=100).decide([])
    assert "the task has levels [1, 2, 3]" in decision.notices[0].message


def test_growth_on_a_fixed_task_can_be_asked_for() -> None:
    controller = Controller(GrowthSpec(without_levels="grow"), (), 100)
    first = controller.decide([])
    assert isinstance(first, Train)
    assert not first.plans
    assert first.notices[0].kind == "growth_without_levels"
    assert (first.level, first.is_last) == (None, False)
    last = controller.decide([SOLVED])
    assert grows(last)
    assert (last.steps, last.is_last) == (80, True)


@pytest.mark.parametrize("max_stages", [2, 4])
def test_on_a_fixed_task_trials_go_on_until_max_stages(max_stages: int) -> None:
    spec = GrowthSpec(without_levels="grow", trial=TrialSpec(), max_stages=max_stages)
    controller = Controller(spec, (), 10_000)
    history = [SOLVED] * (max_stages - 1)
    assert [grows(controller.decide(history[:ended])) for ended in range(1, max_stages)] == [True] * (max_stages - 1)
    assert isinstance(controller.decide([*history, SOLVED]), Stop)


def test_more_stages_than_max_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="max_stages = 2 is less than the 3 stages asked for"):
        GrowthSpec(levels=(1, 2, 3), max_stages=2)


def test_on_a_fixed_task_a_trial_without_a_winner_is_followed_by_the_last_stage() -> None:
    spec = GrowthSpec(without_levels="grow", trial=TrialSpec(), final_steps=10)
    controller = Controller(spec, (), 100)
    decision = controller.decide([SOLVED, ended(80, "threshold", 1.0)], {1})
    assert isinstance(decision, Train)
    assert not decision.plans
    assert (decision.steps, decision.is_last) == (10, True)
    assert isinstance(controller.decide([SOLVED, ended(80, "threshold", 1.0), SOLVED], {1}), Stop)


def test_levels_that_the_task_does_not_have_are_refused_with_those_it_has() -> None:
    with pytest.raises(GrowthError, match=r"got \[7\], allowed are the task's levels \[1, 2, 3, 4, 5\]"):
        Controller(GrowthSpec(levels=(5, 7)), (1, 2, 3, 4, 5), 100)
    with pytest.raises(GrowthError, match="the task has no levels"):
        Controller(GrowthSpec(levels=(1, 2)), (), 100)


ENDED = st.builds(
    ended,
    steps=st.integers(1, 80),
    reason=st.sampled_from(["threshold", "budget", "plateau", "collapse"]),
    accuracy=st.floats(0, 1),
)


@given(st.lists(ENDED, max_size=3))
def test_the_level_only_rises_and_the_budget_is_never_exceeded(history) -> None:
    decision = CHAIN.decide(history)
    if not isinstance(decision, Stop):
        assert decision.level == LEVELS.levels[len(history)]
        assert 1 <= decision.steps <= 100 - sum(stage.steps for stage in history)


@given(st.lists(ENDED, min_size=1, max_size=2))
def test_growth_only_follows_a_solved_level(history) -> None:
    if grows(CHAIN.decide(history)):
        assert history[-1].reason == "threshold" or history[-1].accuracy >= 0.95
