"""Where a graph comes from: one entry per growth, from checkpoint to checkpoint. Pure data and its drawing as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from neuromas.errors import Fault, SpecError
from neuromas.growth.ledger import Ledger
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.spec.growth import EditSpec, PlanSpec


@dataclass(frozen=True, slots=True)
class Descent:
    """One graph and what it was made from.

    Attributes:
        stage: name of the stage that trained it.
        nodes: size of the graph.
        level: task level it was trained on; None = the task's target.
        parent: checkpoint whose weights it inherited; None = trained from new adapters.
        parent_stage: stage of this run that made the parent; None = it came from elsewhere, or there is none.
        plan: what was done to the parent's graph; None = nothing.
        mapping: old node -> new node; empty where nothing was grown.
        modules: further checkpoints that a graft took in.
        kept: False for a growth that a trial rolled back.
        accuracy: greedy held-out accuracy on its level at the stage's end.
        steps: optimizer steps of the stage.
    """

    stage: str
    nodes: int
    level: int | None
    parent: str | None = None
    parent_stage: str | None = None
    plan: PlanSpec | None = None
    mapping: Mapping[str, str] | None = None
    modules: tuple[str, ...] = ()
    kept: bool = True
    accuracy: float | None = None
    steps: int = 0

    def to_document(self) -> dict[str, Any]:
        """Return the entry as plain data for JSON."""
        return {
            "stage": self.stage,
            "nodes": self.nodes,
            "level": self.level,
            "parent": self.parent,
            "parent_stage": self.parent_stage,
            "plan": None if self.plan is None else self.plan.model_dump(mode="json"),
            "mapping": dict(self.mapping or {}),
            "modules": list(self.modules),
            "kept": self.kept,
            "accuracy": self.accuracy,
            "steps": self.steps,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Descent:
        """Return the entry that ``to_document`` wrote.

        Raises:
            SpecError: a field is missing or unknown.
        """
        fields = dict(document)
        try:
            plan = fields.pop("plan")
            fields["plan"] = None if plan is None else PlanSpec.model_validate_json(json.dumps(plan))
            fields["modules"] = tuple(fields["modules"])
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError("a lineage entry cannot be read", [Fault("lineage", str(error))]) from error


@dataclass(slots=True)
class Lineage:
    """Everything that a run has trained so far.

    Attributes:
        entries: one per stage and trial arm, in the order they were trained.
        ledger: what each of them spent.
    """

    entries: list[Descent] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)

    def add(self, stage: Stage, outcome: StageOutcome, parent: StageOutcome | None, arm: str = "main") -> None:
        """Take in a stage that was trained.

        Args:
            stage: what was asked for.
            outcome: what came of it.
            parent: of the stage of this run that made ``stage.start``; None = it came from elsewhere, or there is none.
            arm: whose cost it is, see ``ledger``.
        """
        grown = stage.grown
        self.entries.append(
            Descent(
                stage=stage.name,
                nodes=len(stage.topology.nodes),
                level=stage.level,
                parent=None if stage.start is None else str(stage.start),
                parent_stage=None if parent is None else parent.name,
                plan=None if grown is None else grown.plan,
                mapping=None if grown is None else grown.mapping,
                modules=() if grown is None else grown.modules,
                accuracy=outcome.accuracy,
                steps=outcome.steps,
            )
        )
        self.ledger = self.ledger.add(arm, stage.name, len(stage.topology.nodes), outcome.spending)

    def roll_back(self, stage: str) -> None:
        """Mark a growth that no trial kept, by its stage's name."""
        self.entries = [replace(entry, kept=False) if entry.stage == stage else entry for entry in self.entries]


def describe_plan(plan: PlanSpec) -> str:
    """Return a plan on one line: ``append(1, 1) + fresh``."""
    edits = ", ".join(map(_describe_edit, plan.edits))
    inherit = plan.inherit
    notes: list[str] = [inherit.new]
    if inherit.old == "freeze":
        notes.append("old frozen" if inherit.freeze_steps is None else f"old frozen {inherit.freeze_steps} steps")
    if inherit.old == "pull":
        when = " where harmless" if inherit.pull_selective else ""
        notes.append(f"old pulled {inherit.pull_weight:g} to {inherit.pull_to} by {inherit.pull_by}{when}")
    if inherit.optimizer == "keep":
        notes.append("moments kept")
    return f"{edits} + {', '.join(notes)}"


def draw_lineage(entries: Sequence[Descent]) -> str:
    """Return the family tree as text, one line per stage; a child is indented below the stage that made its parent."""
    known = {entry.stage for entry in entries}
    lines: list[str] = []

    def visit(entry: Descent, indent: str, is_last: bool, *, is_root: bool) -> None:
        branch = "" if is_root else f"{indent}{'└─ ' if is_last else '├─ '}"
        lines.append(f"{branch}{_describe_entry(entry)}")
        children = [other for other in entries if other.parent_stage == entry.stage]
        below = "" if is_root else f"{indent}{'   ' if is_last else '│  '}"
        for index, child in enumerate(children):
            visit(child, below, index == len(children) - 1, is_root=False)

    for root in (entry for entry in entries if entry.parent_stage not in known):
        visit(root, "", is_last=True, is_root=True)
    return "\n".join(lines)


def _describe_entry(entry: Descent) -> str:
    parts = [f"{entry.stage}: {entry.nodes} nodes"]
    if entry.level is not None:
        parts.append(f"level {entry.level}")
    parts.append(f"{entry.steps} steps")
    if entry.accuracy is not None:
        parts.append(f"accuracy {entry.accuracy:.3f}")
    if entry.plan is not None:
        parts.append(describe_plan(entry.plan))
    if entry.parent is not None and entry.parent_stage is None:
        parts.append(f"from {entry.parent}")
    parts.extend(f"with {module}" for module in entry.modules)
    return ", ".join(parts) + ("" if entry.kept else " [rolled back]")


def _describe_edit(edit: EditSpec) -> str:
    settings = edit.model_dump(exclude={"edit"})
    return f"{edit.edit}({', '.join(f'{key}={value}' for key, value in settings.items() if value not in (None, ()))})"
