"""Every trigger keeps the Trigger protocol's promises, whatever the checks."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromas.growth.triggers import Check, Collapse, Plateau, Steps, Threshold, Trigger, make_trigger
from neuromas.spec.growth import TriggerSpec

TRIGGERS = [
    Threshold(0.95, every=5, examples=128, min_steps=10),
    Threshold(0.95, every=5, examples=128, min_steps=10, sampled_accuracy=0.9),
    Plateau(patience=2, min_improvement=0.01, every=5, examples=64, min_steps=10),
    Collapse(patience=2, every=5, examples=64, min_steps=10),
    Steps(30),
]
CHECKS = st.lists(st.floats(0, 1), max_size=12).map(
    lambda accuracies: [Check(5 * (index + 1), accuracy, accuracy) for index, accuracy in enumerate(accuracies)]
)
all_triggers = pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: type(trigger).__name__)


@all_triggers
@given(checks=CHECKS)
def test_a_trigger_answers_with_its_own_reason_or_none_and_the_same_each_time(trigger: Trigger, checks) -> None:
    step = checks[-1].step if checks else 30
    reason = trigger.fires(checks, step)
    assert reason in (None, type(trigger).__name__.lower())
    assert trigger.fires(tuple(checks), step) == reason


@all_triggers
def test_a_trigger_says_nothing_before_the_first_step(trigger: Trigger) -> None:
    assert trigger.fires((), 0) is None


@all_triggers
@given(checks=CHECKS)
def test_no_rule_on_accuracy_fires_before_min_steps(trigger: Trigger, checks) -> None:
    assert trigger.fires(checks, 9) is None


@all_triggers
def test_a_trigger_survives_the_way_to_another_process(trigger: Trigger) -> None:
    assert pickle.loads(pickle.dumps(trigger)) == trigger


@pytest.mark.parametrize("kind", ["threshold", "plateau", "collapse"])
def test_rules_on_accuracy_carry_the_checks_that_the_spec_asks_for(kind) -> None:
    trigger = make_trigger(TriggerSpec(type=kind, every=7, examples=99))
    assert (trigger.every, trigger.examples) == (7, 99)


def test_fixed_steps_need_no_checks() -> None:
    trigger = make_trigger(TriggerSpec(type="steps"), steps=12)
    assert (trigger.every, trigger.examples) == (0, 0)
