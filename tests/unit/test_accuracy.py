from dataclasses import replace

import pytest

from neuromas.errors import RolloutError
from neuromas.report.numbers import proportion
from neuromas.rollout.record import Group, NodeCall, Provenance, Rollout
from neuromas.tasks.base import Example, Split, Task
from neuromas.tasks.file import FileSpec, FileTask
from neuromas.training.evaluate import accuracy, vote
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


def ballot(*answers: str | None) -> Group:
    """A group whose rollouts answer so; None for one that failed. Rewards name the rollout: 0, 1/8, 2/8, ..."""
    where = Provenance("r", 0, 0)
    rollouts = [
        Rollout("h", where, QUESTION, place, 0, (CALL,), answer or "", place / 8, "broken" if answer is None else None)
        for place, answer in enumerate(answers)
    ]
    return Group(QUESTION, tuple(rollouts))


class Plain(Task):
    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        return QUESTION

    def score(self, example: Example, text: str) -> float:
        return float(text == example.answer)


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        (("7", "8", " 8\n"), 1),  # the most frequent, whatever its spacing
        (("7", "8"), 0),  # of equally frequent ones the first
        ((None, None, "7"), 2),  # what failed has no vote
        (("", "", "7"), 2),  # nor has an empty answer
        ((None, None), 0),
    ],
)
def test_the_most_frequent_answer_is_scored(answers: tuple[str | None, ...], chosen: int) -> None:
    (rollout,) = vote(ballot(*answers), Plain()).rollouts
    assert rollout.reward == chosen / 8


def test_answers_of_a_file_are_counted_as_its_verifier_reads_them() -> None:
    task = FileTask(FileSpec(type="file", train="a.jsonl", test="b.jsonl", verifier="number"))
    said = ("So it is 5.", "It is 6", "The answer is 6.0", "unknown", "unknown", "unknown")
    (rollout,) = vote(ballot(*said), task).rollouts
    assert rollout.answer == "It is 6"
