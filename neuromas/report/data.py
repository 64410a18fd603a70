"""What a report is made from: the files of one run folder, read as far as they are there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neuromas.base.resolve import resolve_base
from neuromas.errors import SpecError
from neuromas.journal import lines as journal
from neuromas.journal.folder import (
    ANALYSIS_FILE,
    DIAGNOSIS_FILE,
    EVENTS_FILE,
    METRICS_FILE,
    QUESTIONS_FILE,
    RESULT_FILE,
    ROLLOUTS_FILE,
    SPEC_FILE,
)
from neuromas.journal.prompts import PromptReader
from neuromas.topology.document import topology_from_document
from neuromas.topology.graph import Topology

COMPARISON_FILE = "comparison.json"
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StageData:
    """One stage as its events tell it; ``offset`` is the number of steps of the stages before it."""

    index: int
    name: str
    topology: Topology | None
    level: int | None
    offset: int
    steps: int
    reason: str | None
    new_nodes: tuple[str, ...]


@dataclass(frozen=True)
class RunData:
    """Everything a run has written; parts that are missing are empty."""

    folder: Path
    spec: Document
    result: Document
    comparison: Document
    metrics: Sequence[Document]
    events: Sequence[Document]
    rollouts: Sequence[Document]
    questions: Sequence[Document]

    @classmethod
    def read(cls, folder: Path) -> RunData:
        """Read a run folder or a comparison folder.

        Raises:
            SpecError: the folder holds neither.
        """
        data = cls(
            folder,
            _document(folder / SPEC_FILE),
            _document(folder / RESULT_FILE),
            _document(folder / COMPARISON_FILE),
            list(journal.read(folder / METRICS_FILE)),
            list(journal.read(folder / EVENTS_FILE)),
            list(journal.read(folder / ROLLOUTS_FILE)),
            list(journal.read(folder / QUESTIONS_FILE)),
        )
        if not data.spec and not data.comparison:
            raise SpecError(f"{folder} holds no {SPEC_FILE} and no {COMPARISON_FILE}; name the folder of a run")
        return data

    @property
    def name(self) -> str:
        """Name of the run or comparison."""
        return str(self.spec.get("name") or self.comparison.get("name") or self.folder.name)

    @cached_property
    def analysis(self) -> Document:
        """What ``neuromas analyze`` found last; empty before it was asked."""
        return _document(self.folder / ANALYSIS_FILE)

    @cached_property
    def diagnosis(self) -> Document:
        """What ``neuromas diagnose`` found last; empty before it was asked."""
        return _document(self.folder / DIAGNOSIS_FILE)

    @cached_property
    def stages(self) -> tuple[StageData, ...]:
        """Stages in the order they began; a stage that was resumed appears once."""
        started = {event["stage"]: event for event in self.events_of("stage_started")}
        ended = {event["stage"]: event for event in self.events_of("stage_ended")}
        stages: list[StageData] = []
        offset = 0
        for index in sorted(started):
            begin, end = started[index], ended.get(index, {})
            steps = int(end.get("steps", self._steps_of(index)))
            topology = _topology(begin.get("topology"))
            stages.append(
                StageData(
                    index,
                    str(begin.get("name", index)),
                    topology,
                    begin.get("level"),
                    offset,
                    steps,
                    end.get("reason"),
                    _new_nodes(topology, stages[-1].topology if stages else None),
                )
            )
            offset += steps
        return tuple(stages)

    @cached_property
    def prompts(self) -> PromptReader:
        """What writes the prompts of the run's rollouts again.

        Raises:
            NeuroMASError: the base is not on this machine, or the spec is of another version.
        """
        return PromptReader.of(self.spec, resolve_base(str(self.spec.get("base", "")), fetch=False))

    @property
    def topology(self) -> Topology | None:
        """The graph the run ended with."""
        last = next((stage.topology for stage in reversed(self.stages) if stage.topology is not None), None)
        return last or _topology(self.result.get("topology")) or _topology(self.spec.get("topology"))

    def events_of(self, kind: str) -> Iterator[Document]:
        """Yield the events of one type, in order."""
        return (event for event in self.events if event.get("type") == kind)

    def step_of(self, document: Document) -> int:
        """Return the step of a metric, rollout or event counted over the whole run."""
        offsets = {stage.index: stage.offset for stage in self.stages}
        return int(document.get("step", 0)) + offsets.get(document.get("stage", 0), 0)

    def curve(self, metric: str) -> list[tuple[float, float]]:
        """Return (step over the whole run, value) of one metric."""
        return [(self.step_of(row), float(row[metric])) for row in self.metrics if row.get(metric) is not None]

    def curves(self, prefix: str) -> dict[str, list[tuple[float, float]]]:
        """Return the curves of all metrics ``prefix/<node>``, by node, nodes of the last graph first."""
        names = dict.fromkeys(name for row in self.metrics for name in row if name.startswith(f"{prefix}/"))
        order = {node: rank for rank, node in enumerate(self.topology.order if self.topology else ())}
        ranked = sorted(names, key=lambda name: order.get(name.removeprefix(f"{prefix}/"), len(order)))
        return {name.removeprefix(f"{prefix}/"): self.curve(name) for name in ranked}

    def _steps_of(self, stage: int) -> int:
        return max((int(row["step"]) for row in self.metrics if row.get("stage") == stage), default=0)


def _document(path: Path) -> Document:
    if not path.is_file():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    return document if isinstance(document, dict) else {}


def _new_nodes(topology: Topology | None, before: Topology | None) -> tuple[str, ...]:
    if topology is None or before is None:
        return ()
    return tuple(node for node in topology.order if node not in before.order)


def _topology(document: object) -> Topology | None:
    return topology_from_document(document) if isinstance(document, Mapping) else None
