"""The section of a run spec that says when and how the graph grows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from neuromas.spec.model import SpecModel


class AppendSpec(SpecModel):
    """New output after the old one, with the siblings its layer needs."""

    edit: Literal["append"]
    layers: tuple[int, ...] = (1, 1)
    """Widths of the layers added after the old output; the last must be 1, the new output."""


class BeforeOutputSpec(SpecModel):
    """A new layer between the output and what it reads."""

    edit: Literal["before_output"]
    width: int = Field(default=1, ge=1)


class WidenSpec(SpecModel):
    """More nodes in one layer, wired like their siblings."""

    edit: Literal["widen"]
    layer: int = Field(ge=1)
    """1-based layer, counted from the input."""
    count: int = Field(default=1, ge=1)


class DeepenSpec(SpecModel):
    """A new layer after the named one; edges that crossed the gap pass through it."""

    edit: Literal["deepen"]
    after_layer: int = Field(ge=1)
    width: int = Field(default=1, ge=1)


class GraftSpec(SpecModel):
    """Trained graphs as modules of a larger one: this graph becomes a subtree of a new output."""

    edit: Literal["graft"]
    siblings: int = Field(default=1, ge=0, le=7)
    """Further subtrees of the same shape beside the trained one."""
    siblings_from: Literal["fresh", "copy"] = "fresh"
    """Adapters of the sibling subtrees: new ones, or copies of the trained module."""
    modules: tuple[str, ...] = ()
    """Checkpoints of further trained graphs used as subtrees or, in series, as front parts."""
    arrange: Literal["subtrees", "series"] = "subtrees"


class ConnectSpec(SpecModel):
    """New edges between existing nodes."""

    edit: Literal["connect"]
    edges: tuple[tuple[str, str], ...] = Field(min_length=1)


class PruneSpec(SpecModel):
    """Nodes to remove, with their edges; what remains must be a valid topology."""

    edit: Literal["prune"]
    nodes: tuple[str, ...] = Field(min_length=1)


EditSpec = Annotated[
    AppendSpec | BeforeOutputSpec | WidenSpec | DeepenSpec | GraftSpec | ConnectSpec | PruneSpec,
    Field(discriminator="edit"),
]


class InheritanceSpec(SpecModel):
    """What new nodes start from and what happens to old ones."""

    new: Literal["fresh", "zero", "copy", "interpolate"] = "fresh"
    """fresh: random A, zero B of its own seed; zero: no trainable effect, A and B zero-effect as the base; copy: the
    node it feeds (or its sibling) plus noise; interpolate: mean of the nodes before and after it."""
    noise: float = Field(default=0.0, ge=0)
    """Standard deviation of the noise added by "copy", relative to each tensor's own standard deviation."""
    optimizer: Literal["renew", "keep"] = "renew"
    """Adam's moments of old nodes after growth; new nodes always start with none."""
    old: Literal["train", "freeze", "pull"] = "train"
    """Old nodes: trained, frozen for ``freeze_steps``, or pulled to their snapshot with ``pull_weight``."""
    freeze_steps: int | None = Field(default=None, ge=1)
    """Steps old nodes stay frozen; None with old = "freeze" means for the whole stage."""
    pull_weight: float = Field(default=0.0, ge=0)
    """Weight of the squared distance of old adapters to their snapshot; only with old = "pull"."""

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> InheritanceSpec:
        if self.freeze_steps is not None and self.old != "freeze":
            raise ValueError("freeze_steps needs old = 'freeze'")
        if (self.pull_weight > 0) != (self.old == "pull"):
            raise ValueError("pull_weight > 0 and old = 'pull' go together")
        if self.noise > 0 and self.new != "copy":
            raise ValueError("noise needs new = 'copy'")
        return self


class PlanSpec(SpecModel):
    """One growth: edits in order, and the inheritance of all nodes."""

    edits: tuple[EditSpec, ...] = Field(min_length=1)
    inherit: InheritanceSpec = InheritanceSpec()


class TriggerSpec(SpecModel):
    """When a stage ends."""

    type: Literal["threshold", "steps", "plateau", "collapse"] = "threshold"
    accuracy: float = Field(default=0.95, gt=0, le=1)
    """threshold: greedy held-out accuracy on the current level that ends the stage."""
    every: int = Field(default=5, ge=1)
    """Steps between the held-out checks of threshold and plateau."""
    examples: int = Field(default=128, ge=8)
    """Held-out examples of each check."""
    min_steps: int = Field(default=10, ge=0)
    patience: int = Field(default=4, ge=1)
    """plateau and collapse: checks without improvement, or below half of the best, before the trigger fires."""
    min_improvement: float = Field(default=0.01, ge=0)


class TrialSpec(SpecModel):
    """How a growth is judged: after ``steps`` against the parent trained on for the same rollouts, on paired
    held-out examples; a growth that is not better is rolled back and the next plan tried."""

    steps: int = Field(default=30, ge=1)
    examples: int = Field(default=512, ge=8)
    min_gain: float = 0.0
    """Smallest paired gain in greedy accuracy over the parent that keeps the growth."""


class GrowthSpec(SpecModel):
    """A schedule of stages. Without it a run has one stage."""

    levels: tuple[int, ...] = ()
    """Task levels of the stages, increasing; the last is the target. Empty = the task is fixed over all stages."""
    plans: tuple[PlanSpec, ...] = (PlanSpec(edits=(AppendSpec(edit="append"),)),)
    """Growth applied at each level change; with one plan it is used at every change, else plan k at change k. With
    ``trial`` they are candidates instead, tried in order."""
    trigger: TriggerSpec = TriggerSpec()
    max_steps_per_level: int = Field(default=60, ge=1)
    """A level that the trigger has not ended by then ends the schedule: a plateau is not grown from."""
    steps_per_level: tuple[int, ...] = ()
    """Fixed stage lengths (trigger type "steps"), one per level."""
    final_steps: int | None = Field(default=None, ge=1)
    """Steps of the last stage, with the learning rate's decay; None = training.steps minus those already spent."""
    trial: TrialSpec | None = None
    max_stages: int = Field(default=8, ge=1)

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> GrowthSpec:
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError("levels must increase")
        if (self.trigger.type == "steps") != bool(self.steps_per_level):
            raise ValueError("steps_per_level and trigger.type = 'steps' go together")
        if self.steps_per_level and self.levels and len(self.steps_per_level) != len(self.levels):
            raise ValueError(f"steps_per_level needs one entry per level: {len(self.levels)}")
        if not self.plans:
            raise ValueError("plans must hold at least one plan")
        return self
