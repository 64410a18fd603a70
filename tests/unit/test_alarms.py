"""When a stage is told that it cannot learn, as tables of literal metrics."""

from collections.abc import Iterable

import pytest

from neuromas.journal.events import Notice
from neuromas.training.alarms import Alarms

Step = tuple[float, float, float]
"""Groups with a gradient, mean reward, share of messages cut at their budget."""

# The first 45 steps of examples/quickstart.toml: (groups with a gradient, mean reward); chance is 1/7.
QUICKSTART = [
    (4, 0.021), (2, 0.01), (0, 0.0), (0, 0.0), (4, 0.021), (1, 0.005), (5, 0.031), (4, 0.021), (3, 0.016), (8, 0.052),
    (14, 0.094), (9, 0.083), (11, 0.062), (13, 0.099), (9, 0.062), (13, 0.109), (17, 0.214), (19, 0.182), (16, 0.172),
    (16, 0.172), (19, 0.26), (24, 0.302), (22, 0.297), (23, 0.458), (24, 0.479), (24, 0.505), (24, 0.589), (23, 0.625),
    (22, 0.729), (19, 0.75), (16, 0.88), (12, 0.901), (17, 0.885), (3, 0.979), (8, 0.948), (11, 0.938), (9, 0.948),
    (8, 0.953), (7, 0.964), (3, 0.984), (3, 0.984), (8, 0.953), (2, 0.99), (0, 1.0), (5, 0.974),
]  # fmt: skip


def told(steps: Iterable[Step], chance: float | None = None) -> list[tuple[int, str]]:
    """Return (step, kind) of all that is told."""
    alarms = Alarms(0, chance)
    return [
        (step, notice.source)
        for step, (kept, reward, cut) in enumerate(steps, start=1)
        for notice in alarms.after_step(step, metrics(kept, reward, cut))
    ]


def metrics(kept: float, reward: float, cut: float = 0.0) -> dict[str, float]:
    return {
        "rollout/rollouts": 192.0,
        "train/groups_kept": kept,
        "rollout/reward_mean": reward,
        "rollout/truncated_fraction": cut,
    }


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([(0, 0.0, 0.0)] * 20, [(5, "gradient")]),
        ([(0, 0.0, 0.0)] * 4 + [(1, 0.0, 0.0)] + [(0, 0.0, 0.0)] * 4, []),
        ([(0, 0.0, 0.0)] * 4 + [(1, 0.0, 0.0)] + [(0, 0.0, 0.0)] * 9, [(10, "gradient")]),
        ([(0, 1.0, 0.0)] * 8, [(5, "gradient")]),
        ([(3, 0.95, 0.0)] + [(0, 1.0, 0.0)] * 8, []),
        ([(3, 0.5, 0.0)] + [(0, 0.7, 0.0)] * 8, [(6, "gradient")]),
        ([(3, 0.5, 0.95)] * 12, [(5, "truncation")]),
        ([(3, 0.5, 0.94)] * 12, []),
        (([(3, 0.5, 1.0)] * 4 + [(3, 0.5, 0.5)]) * 4, []),
        ([(0, 0.0, 1.0)] * 9, [(5, "gradient"), (5, "truncation")]),
    ],
)
def test_each_kind_is_told_once_and_at_its_step(steps: list[Step], expected: list[tuple[int, str]]) -> None:
    assert told(steps) == expected


@pytest.mark.parametrize(
    ("rewards", "chance", "expected"),
    [
        ([0.1] * 100, 0.1, [(60, "chance")]),
        ([0.145] * 60, 0.1, [(60, "chance")]),
        ([0.146] * 100, 0.1, []),
        ([0.02] * 100, 1 / 7, [(60, "chance")]),
        ([0.52] * 100, 0.5, [(60, "chance")]),
        ([0.1] * 100, None, []),
        ([0.93] * 100, 0.93, [(60, "chance")]),
        ([1.0] * 100, 1.0, []),  # nothing lies beyond: validate points the task out
        ([0.1] * 100, 1.0, []),
        ([0.1] * 50 + [0.2] * 50, 0.1, []),  # leaves chance just in time
        ([0.1] * 50 + [0.2] * 9 + [0.1] * 50, 0.1, [(65, "chance")]),  # back: 4 of the last 10 are .2, mean .14
    ],
)
def test_a_reward_that_stays_at_chance_is_told_once(
    rewards: list[float], chance: float | None, expected: list[tuple[int, str]]
) -> None:
    assert told([(9, reward, 0.0) for reward in rewards], chance) == expected


def test_a_run_that_learns_is_left_alone() -> None:
    steps = [(kept, reward, 0.0) for kept, reward in QUICKSTART] + [(0, 1.0, 0.0)] * 40
    assert told(steps, 1 / 7) == []


def test_steps_on_the_rollouts_of_an_earlier_one_do_not_count() -> None:
    alarms, first = Alarms(0, None), metrics(0, 0.0)
    again = {
        name: value for name, value in first.items() if name not in ("rollout/rollouts", "rollout/truncated_fraction")
    }
    batches = [first, again, again, again] * 5
    assert [step for step, seen in enumerate(batches, start=1) if alarms.after_step(step, seen)] == [17]


def test_a_warning_says_where_and_what_to_try() -> None:
    alarms = Alarms(2, None)
    notices = [notice for step in range(11, 16) for notice in alarms.after_step(step, metrics(0, 0.0))]
    assert [(type(notice), notice.severity, notice.data) for notice in notices] == [
        (Notice, "warning", {"stage": 2, "step": 15})
    ]
    assert notices[0].message.startswith("stage 2, step 15: no group had a gradient for 5 steps in a row")
    assert "training.group_size" in notices[0].message
