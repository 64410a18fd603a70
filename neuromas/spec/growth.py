"""The section of a run spec that says when and how the graph grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, model_validator

from neuromas.schema.bounds import MAX_EXAMPLES, MAX_STEPS, MAX_WEIGHT, Count, Reference
from neuromas.schema.model import Retired, SpecModel
from neuromas.topology.graph import MAX_EDGES, MAX_NODES

Size = Annotated[int, Field(ge=1, le=MAX_NODES)]
NodeId = Annotated[str, Field(max_length=63)]
_MAX_STAGES = 1000


class AppendSpec(SpecModel):
    """New output after the old one, with the siblings its layer needs."""

    edit: Literal["append"]
    layers: tuple[Size, ...] = Field(default=(1, 1), max_length=MAX_NODES)
    """Widths of the layers added after the old output; the last must be 1, the new output."""


class BeforeOutputSpec(SpecModel):
    """A new layer between the output and what it reads."""

    edit: Literal["before_output"]
    width: int = Field(default=1, ge=1, le=MAX_NODES)
    """Nodes of the new layer."""


class WidenSpec(SpecModel):
    """More nodes in one layer, wired like their siblings."""

    edit: Literal["widen"]
    layer: int = Field(ge=1, le=MAX_NODES)
    """1-based layer, counted from the input."""
    count: int = Field(default=1, ge=1, le=MAX_NODES)
    """How many."""


class DeepenSpec(SpecModel):
    """A new layer after the named one; edges that crossed the gap pass through it."""

    edit: Literal["deepen"]
    after_layer: int = Field(ge=1, le=MAX_NODES)
    """1-based layer, counted from the input."""
    width: int = Field(default=1, ge=1, le=MAX_NODES)
    """Nodes of the new layer."""


class GraftSpec(SpecModel):
    """Trained graphs as modules of a larger one: this graph becomes a subtree of a new output."""

    edit: Literal["graft"]
    siblings: int | None = Field(default=None, ge=0, le=7)
    """Further subtrees of the same shape beside the trained one; None = 1. Not with ``modules``."""
    siblings_from: Literal["fresh", "copy"] = "fresh"
    """Adapters of the sibling subtrees: new ones, or copies of the trained module."""
    modules: tuple[Reference, ...] = Field(default=(), max_length=64)
    """Checkpoints of further trained graphs, used as the subtrees beside this graph or, in series, as front parts."""
    arrange: Literal["subtrees", "series"] = "subtrees"
    """"subtrees": all feed a new output; "series": each module's answer is read by the next, this graph is the last."""

    @property
    def num_siblings(self) -> int:
        """Sibling subtrees that the edit makes."""
        return 1 if self.siblings is None and not self.modules else self.siblings or 0

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> GraftSpec:
        if self.modules and (self.siblings is not None or self.siblings_from == "copy"):
            raise ValueError("siblings and siblings_from belong to a graft without modules")
        if self.arrange == "series" and not self.modules:
            raise ValueError("arrange = 'series' needs modules")
        return self


class ConnectSpec(SpecModel):
    """New edges between existing nodes."""

    edit: Literal["connect"]
    edges: tuple[tuple[NodeId, NodeId], ...] = Field(min_length=1, max_length=MAX_EDGES)
    """Pairs [from, to]: ``to`` reads what ``from`` writes."""


class PruneSpec(SpecModel):
    """Nodes to remove, with their edges; what remains must be a valid topology."""

    edit: Literal["prune"]
    nodes: tuple[NodeId, ...] = Field(min_length=1, max_length=MAX_NODES)
    """Their ids."""


EditSpec = Annotated[
    AppendSpec | BeforeOutputSpec | WidenSpec | DeepenSpec | GraftSpec | ConnectSpec | PruneSpec,
    Field(discriminator="edit"),
]


class InheritanceSpec(SpecModel):
    """What new nodes start from and what happens to old ones."""

    new: Literal["fresh", "eva", "zero", "copy", "interpolate"] = "fresh"
    """fresh: as the adapters of a new graph; eva: as those with start = "eva", whatever the first graph's had; zero: A
    of the node that "copy" would take, B = 0, so the base's behaviour in a learned input subspace; copy: the old node
    whose place it repeats, else the one it feeds, else the nearest before it, plus noise; interpolate: mean of the
    nearest old nodes before and after it."""
    noise: float = Field(default=0.0, ge=0, le=MAX_WEIGHT)
    """Standard deviation of the noise added by "copy", relative to each tensor's own standard deviation."""
    optimizer: Literal["renew", "keep"] = "renew"
    """Adam's moments of old nodes after growth; new nodes always start with none."""
    old: Literal["train", "freeze", "pull"] = "train"
    """Old nodes: trained, frozen for ``freeze_steps``, or pulled to their snapshot with ``pull_weight``."""
    freeze_steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    """Steps old nodes stay frozen; None with old = "freeze" means for the whole stage."""
    pull_weight: float = Field(default=0.0, ge=0, le=MAX_WEIGHT)
    """Weight of the squared distance of old adapters to their snapshot; only with old = "pull"."""
    pull_by: Literal["parameters", "update"] = "parameters"
    """pull: distance of the trained tensors, or of the updates B A of the layers that they make."""
    pull_to: Literal["start", "base"] = "start"
    """pull: to their state when the stage begins, so that they keep what they do; or to the base, that is to no update,
    so that they stay small (pull_by = "update" only)."""
    pull_selective: bool = False
    """pull: an adapter only in steps in which that does not raise the loss to first order."""

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> InheritanceSpec:
        if self.freeze_steps is not None and self.old != "freeze":
            raise ValueError("freeze_steps needs old = 'freeze'")
        if (self.pull_weight > 0) != (self.old == "pull"):
            raise ValueError("pull_weight > 0 and old = 'pull' go together")
        if self.old != "pull" and not all(map(self.is_default, ("pull_by", "pull_to", "pull_selective"))):
            raise ValueError("pull_by, pull_to and pull_selective need old = 'pull'")
        if self.pull_to == "base" and self.pull_by != "update":
            raise ValueError("pull_to = 'base' needs pull_by = 'update'")
        if self.noise > 0 and self.new != "copy":
            raise ValueError("noise needs new = 'copy'")
        return self


class PlanSpec(SpecModel):
    """One growth: edits in order, and the inheritance of all nodes."""

    edits: tuple[EditSpec, ...] = Field(min_length=1, max_length=64)
    inherit: InheritanceSpec = InheritanceSpec()


_READ_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "sampled_accuracy": ("threshold",),
    "patience": ("plateau", "collapse"),
    "min_improvement": ("plateau",),
}
"""Settings of a trigger that not every type of it reads."""


class TriggerSpec(SpecModel):
    """When a stage ends."""

    type: Literal["threshold", "steps", "plateau", "collapse"] = "threshold"
    """threshold: once its level is solved; steps: after the lengths of steps_per_level; plateau: once it improves no
    more; collapse: once it has lost what it had."""
    accuracy: float = Field(default=0.95, gt=0, le=1)
    """threshold: greedy accuracy on validation questions on the current level that ends the stage."""
    sampled_accuracy: float = Field(default=0.0, ge=0, le=1)
    """threshold: the same of sampled answers, needed too; 0 = not looked at. Greedy answers pass long before sampled
    ones, and it is sampled ones that new nodes learn from."""
    every: int = Field(default=5, ge=1, le=MAX_STEPS)
    """Steps between the held-out checks of threshold and plateau."""
    examples: int = Field(default=128, ge=8, le=MAX_EXAMPLES)
    """Validation questions of each check."""
    min_steps: int = Field(default=10, ge=0, le=MAX_STEPS)
    """Steps that a stage takes at least. A deep graph may need more: sampled answers pass long after greedy ones."""
    patience: int = Field(default=4, ge=1, le=MAX_STEPS)
    """plateau and collapse: checks without improvement, or below half of the best, before the trigger fires. More where
    a stage stands still for long and then learns."""
    min_improvement: float = Field(default=0.01, ge=0, le=1)
    """plateau: rise over the best accuracy that counts as one; more with few ``examples``, whose noise would."""

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> TriggerSpec:
        for setting, types in _READ_BY.items():
            if self.type not in types and not self.is_default(setting):
                raise ValueError(f"{setting} needs type = {' or '.join(map(repr, types))}")
        return self


class TrialSpec(SpecModel):
    """How a growth is judged: against its parent, trained on for the same rollouts, on paired validation questions.

    A growth that is not better is rolled back, and the next plan tried.
    """

    retired: ClassVar[Retired] = {
        "min_gain": ((0.0,), "a growth is kept by its p-value alone, max_p_value"),
    }

    steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    """Steps of each arm; None = long enough for the family: 30 for edits in series, 180 for a graft as subtrees, which
    overtakes its parent that late."""
    examples: int = Field(default=512, ge=8, le=MAX_EXAMPLES)
    """Validation questions that the arms are compared on; more of them show smaller gains."""
    max_p_value: float = Field(default=0.05, gt=0, le=1)
    """Largest p-value (exact sign test, paired, one-sided, times the number of plans) of the gain in greedy accuracy
    that keeps the growth; 1 = any gain does, none at all never."""


class GrowthSpec(SpecModel):
    """A schedule of stages. Without it a run has one stage."""

    levels: tuple[Count, ...] = Field(default=(), max_length=_MAX_STAGES)
    """Task levels of the stages, increasing; the last is the target. Empty = the task is fixed over all stages."""
    without_levels: Literal["scratch", "grow"] = "scratch"
    """What a schedule without levels does. "scratch": all plans at once, trained from scratch at full size, because
    no growth on a fixed task was seen to beat that; "grow": the plans all the same, one per stage."""
    plans: tuple[PlanSpec, ...] = Field(default=(PlanSpec(edits=(AppendSpec(edit="append"),)),), max_length=_MAX_STAGES)
    """Growth applied at each change of stage; with levels and one plan it is used at every change, else plan k at
    change k. With ``trial`` they are candidates instead, tried in order. Left out = one ``append``; empty = the levels
    change, the graph stays."""
    trigger: TriggerSpec = TriggerSpec()
    max_steps_per_level: int = Field(default=60, ge=1, le=MAX_STEPS)
    """A level that the trigger has not ended by then ends the schedule, unless it has reached ``trigger.accuracy`` and
    ``trigger.sampled_accuracy`` after all: a plateau is not grown from."""
    steps_per_level: tuple[Count, ...] = Field(default=(), max_length=_MAX_STAGES)
    """Fixed stage lengths (trigger type "steps"), one per stage, the last included; they grow at any accuracy."""
    final_steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    """Steps of the last stage, with the learning rate's decay; None = training.steps minus those already spent, so that
    training.steps is the whole run's budget, trials included."""
    trial: TrialSpec | None = None
    max_stages: int = Field(default=8, ge=1, le=_MAX_STAGES)
    """Upper bound on stages; with ``trial`` and without levels also their number, unless all candidates fail."""

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> GrowthSpec:
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError("levels must increase")
        if (self.trigger.type == "steps") != bool(self.steps_per_level):
            raise ValueError("steps_per_level and trigger.type = 'steps' go together")
        if self.steps_per_level and self.final_steps is not None:
            raise ValueError("final_steps is the last entry of steps_per_level; give one of them")
        if not self.plans and (self.trial is not None or not self.levels):
            raise ValueError("plans may be empty only where levels change and no trial asks for candidates")
        if self.num_stages > self.max_stages:
            raise ValueError(f"max_stages = {self.max_stages} is less than the {self.num_stages} stages asked for")
        if self.levels and self.trial is None and len(self.plans) not in (0, 1, len(self.levels) - 1):
            raise ValueError(f"plans needs none, one, or one per change of level: {len(self.levels) - 1}")
        if self.steps_per_level and len(self.steps_per_level) != self.num_stages:
            raise ValueError(f"steps_per_level needs one entry per stage: {self.num_stages}")
        return self

    @property
    def num_stages(self) -> int:
        """Stages of the whole schedule, if no stage ends it early."""
        if self.levels:
            return len(self.levels)
        if self.without_levels == "scratch":
            return 1
        return self.max_stages if self.trial is not None else len(self.plans) + 1
