from dataclasses import replace

import pytest

from neuromas.errors import RolloutError
from neuromas.report.numbers import proportion
from neuromas.rollout.record import Group, NodeCall, Provenance, Rollout
from neuromas.tasks.base import Example
from neuromas.training.evaluate import accuracy
from neuromas.training.statistics import bootstrap_interval, reward_interval, wilson_interval

CALL = NodeCall("n1", None, (1,), (2,), (0.0,), "stop", "x")
REFUSED = replace(CALL, completion_token_ids=(), logprobs=(), finish_reason="error", error="the prompt is too long")
QUESTION = Example("a", "q", "1")


def group(reward: float, *calls: NodeCall, failure: str | None = None) -> Group:
    where = Provenance("run", 0, 0)
    return Group(QUESTION, (Rollout("h", where, QUESTION, 0, 0, calls or (CALL,), "x", reward, failure),))


def test_rewards_of_0_and_1_have_wilsons_interval_and_graded_ones_a_bootstrap() -> None:
    assert reward_interval([1, 0, 1, 1]) == wilson_interval(3, 4)
    graded = reward_interval([0.5] * 50 + [0.7] * 50)
    assert graded.method == "bootstrap"
    assert graded.value == pytest.approx(0.6)
    # The standard error of the mean is .1 / 10; Wilson's interval of 60 of 100 is .50 to .69.
    assert graded.low == pytest.approx(0.58, abs=0.004)
    assert graded.high == pytest.approx(0.62, abs=0.004)
    assert bootstrap_interval([0.3, 0.3]).bootstrap == pytest.approx((0.3, 0.3))
    with pytest.raises(ValueError, match="got no values"):
        bootstrap_interval([])


def test_what_could_not_be_asked_is_not_called_wrong() -> None:
    refused = group(0.0, REFUSED, failure="node 'n1': the prompt is too long")
    unscored = group(0.0, failure="scoring took longer than 10 s")
    found = accuracy([group(1.0), refused, group(1.0), unscored])
    assert (found.value, found.examples, found.unasked) == (pytest.approx(2 / 3), 3, 1)
    assert found.rewards == (1.0, 0.0, 1.0, 0.0)  # in the order of the examples, for paired tests
    with pytest.raises(RolloutError, match="none of 2 held-out examples could be asked; node 'n1': the prompt is too"):
        accuracy([refused, refused])


def test_the_report_shows_the_interval_that_applies() -> None:
    assert proportion(3, 4) == ("75.0 %", "30.1 % to 95.4 %", "3 of 4")
    assert proportion(2.5, 4, [0.5, 0.75]) == ("62.5 %", "50.0 % to 75.0 %", "2.5 of 4")
