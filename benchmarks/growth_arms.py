"""The arms of the growth evidence: what is trained, as run specs. Pure; `growth_evidence.py` runs them.

Arms of a family spend the same rollouts unless their name says otherwise. "levels" controls get the levels and the
stage lengths that the grown graph of the same seed found; "calls" controls get as many node calls as it used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class GrownArm:
    """What controls need to know of the grown arm of their seed."""

    stage_steps: tuple[int, ...]
    calls: int


@dataclass(frozen=True)
class Family:
    """One task and the graphs compared on it.

    Attributes:
        levels: task levels of the grown graph's stages.
        parent: topology that growth starts from.
        full: topology of the size it ends with.
        plan: growth at each change of level.
        training: training section shared by all arms; its ``steps`` is the budget.
    """

    task: Document
    levels: tuple[int, ...]
    parent: Document
    full: Document
    plan: Document
    training: Document
    growth: Document

    @property
    def rollouts_per_step(self) -> int:
        """Rollouts of one optimizer step."""
        return int(self.training["prompts_per_step"]) * int(self.training["group_size"])


def _chain(levels: tuple[int, ...], cycles: str, steps: int) -> Family:
    """Chains of as many Nodes as hops, grown from the first level's by appending."""
    return Family(
        task={"type": "chain", "hops": levels[-1], "cycles": cycles},
        levels=levels,
        parent={"chain": levels[0]},
        full={"chain": levels[-1]},
        plan={"edits": [{"edit": "append"}]},
        training={"steps": steps, "prompts_per_step": 24, "group_size": 8},
        growth={},
    )


def _tree(levels: tuple[int, ...], steps: int, **growth: Any) -> Family:
    """Trees as deep as the task's, grown from the first level's as subtrees of a deeper one."""
    return Family(
        task={"type": "tree", "depth": levels[-1]},
        levels=levels,
        parent={"tree": {"depth": levels[0]}},
        full={"tree": {"depth": levels[-1]}},
        plan={"edits": [{"edit": "graft"}]},
        training={"steps": steps, "prompts_per_step": 32, "group_size": 8},
        growth={"max_steps_per_level": 100} | growth,
    )


FAMILIES: Mapping[str, Family] = {
    "chain7": _chain((3, 5, 7), "any", steps=100),
    "cycle7": _chain((3, 5, 7), "one", steps=100),
    "chain9": _chain((3, 5, 7, 9), "any", steps=120),
    "tree3": _tree((2, 3), steps=140),
    "tree3-85": _tree((2, 3), steps=85, max_steps_per_level=60),
    # New nodes learn from sampled answers, which are right long after the greedy ones, by which growth is triggered.
    "tree4": _tree((2, 3, 4), steps=240, trigger={"min_steps": 50}),
}


def arm_spec(family: str, arm: str, seed: int, grown: GrownArm | None) -> Document:
    """Return the run spec of one arm.

    Args:
        family: key of ``FAMILIES``.
        arm: key of ``ARMS``.
        seed: of the run.
        grown: the grown arm's outcome; read by the arms in ``NEEDS_GROWN``.

    Raises:
        KeyError: the family or the arm does not exist.
        ValueError: the arm needs the grown arm's outcome.
    """
    if arm in NEEDS_GROWN and grown is None:
        raise ValueError(f"arm {arm!r} takes its lengths from the grown arm of the same seed; run that first")
    base = FAMILIES[family]
    spec: Document = {
        "name": f"{family}-{arm}-s{seed}",
        "seed": seed,
        "task": base.task,
        "training": base.training,
        "evaluation": {"examples": 512},
        "checkpoint": {"every": 0},
        "tracking": {"rollouts_per_sample": 0},
    }
    return spec | ARMS[arm](base, grown)


def _grown(family: Family, _: GrownArm | None) -> Document:
    growth = {"levels": family.levels, "plans": [family.plan], **family.growth}
    return {"topology": family.parent, "growth": growth}


def _grown_fixed_steps(family: Family, _: GrownArm | None) -> Document:
    """Stage lengths fixed in advance, in the proportions of the first study."""
    total = int(family.training["steps"])
    share = total * 35 // 100 if len(family.levels) == 3 else total * 60 // 260
    lengths = [share] * (len(family.levels) - 1)
    return _with_growth(family, family.parent, [family.plan], (*lengths, total - sum(lengths)))


def _grown_fixed_task(family: Family, _: GrownArm | None) -> Document:
    """Growth without levels: equal shares of the budget for every size, on the target task all along."""
    changes = len(family.levels) - 1
    return _without_levels(family, int(family.training["steps"]) // (changes + 1))


def _grown_thawed(family: Family, _: GrownArm | None) -> Document:
    """As "grown-fixed-task", from the plateau: old nodes frozen for ten steps after each growth, then thawed."""
    plan = family.plan | {"inherit": {"old": "freeze", "freeze_steps": 10}}
    share = int(family.training["steps"]) // len(family.levels)
    return _without_levels(replace(family, plan=plan), share)


def _grown_early(family: Family, _: GrownArm | None) -> Document:
    """Growth without levels after five steps each, before the small graph has settled on anything."""
    return _without_levels(family, 5)


def _without_levels(family: Family, share: int) -> Document:
    changes = len(family.levels) - 1
    growth = {
        "without_levels": "grow",
        "plans": [family.plan] * changes,
        "trigger": {"type": "steps"},
        "steps_per_level": [*[share] * changes, int(family.training["steps"]) - share * changes],
    }
    return {"topology": family.parent, "growth": growth}


def _grown_frozen(family: Family, grown: GrownArm | None) -> Document:
    """As "grown", with old nodes frozen for the first ten steps after each growth."""
    return _grown(replace(family, plan=family.plan | {"inherit": {"old": "freeze", "freeze_steps": 10}}), grown)


def _grown_sampled(family: Family, grown: GrownArm | None, *, needed: float) -> Document:
    """As "grown", but grown when this share of sampled answers is right, however many steps that takes."""
    return _grown(replace(family, growth=family.growth | {"trigger": {"sampled_accuracy": needed}}), grown)


def _grown_copies(family: Family, grown: GrownArm | None) -> Document:
    """As "grown", with both subtrees of a graft from the one trained module."""
    return _grown(replace(family, plan={"edits": [{"edit": "graft", "siblings_from": "copy"}]}), grown)


def _scratch(family: Family, _: GrownArm | None) -> Document:
    return {"topology": family.full}


def _scratch_levels(family: Family, grown: GrownArm | None) -> Document:
    assert grown is not None
    return _with_growth(family, family.full, [], grown.stage_steps)


def _parent(family: Family, _: GrownArm | None) -> Document:
    return {"topology": family.parent}


def _parent_levels(family: Family, grown: GrownArm | None) -> Document:
    assert grown is not None
    return _with_growth(family, family.parent, [], grown.stage_steps)


def _parent_calls(family: Family, grown: GrownArm | None) -> Document:
    """The parent on the target for as many steps as give it the grown graph's calls."""
    assert grown is not None
    steps = round(grown.calls / (3 * family.rollouts_per_step))
    return {"topology": family.parent, "training": family.training | {"steps": steps}}


def _with_growth(family: Family, topology: Document, plans: Sequence[Document], lengths: Sequence[int]) -> Document:
    growth = {
        "levels": family.levels,
        "plans": list(plans),
        "trigger": {"type": "steps"},
        "steps_per_level": list(lengths),
    }
    return {"topology": topology, "growth": growth}


ARMS: Mapping[str, Callable[[Family, GrownArm | None], Document]] = {
    "grown": _grown,
    "scratch": _scratch,
    "parent": _parent,
    "scratch-levels": _scratch_levels,
    "parent-levels": _parent_levels,
    "parent-calls": _parent_calls,
    "grown-sampled-90": partial(_grown_sampled, needed=0.9),
    "grown-sampled-98": partial(_grown_sampled, needed=0.98),
    "grown-steps": _grown_fixed_steps,
    "grown-fixed-task": _grown_fixed_task,
    "grown-thawed": _grown_thawed,
    "grown-early": _grown_early,
    "grown-frozen": _grown_frozen,
    "grown-copies": _grown_copies,
}
NEEDS_GROWN = frozenset({"scratch-levels", "parent-levels", "parent-calls"})
