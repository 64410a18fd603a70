"""What training can still move in a graph: sampled rollouts of held-out questions, read by score kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from neuromas.adapters.ref import AdapterRef
from neuromas.journal.events import Phase
from neuromas.rollout.record import Group
from neuromas.studies.published import held_out_batch, published
from neuromas.tasks.registry import make_task
from neuromas.training.study import Study

if TYPE_CHECKING:
    from neuromas.training.workplace import Workplace

QUESTIONS: Final = 16
CALLS: Final = 32


@dataclass(frozen=True, slots=True)
class DiagnosisStudy(Study):
    """Score kernels of a graph's adapters over messages about validation questions.

    Attributes:
        checkpoint: folder of the trained graph's checkpoint; None = the graph of the spec, untrained.
        questions: at most; each is asked as often as in training, at least twice.
        calls: messages of each adapter at most.
        level: task level; None = the task's target.
    """

    checkpoint: Path | None
    questions: int = QUESTIONS
    calls: int = CALLS
    level: int | None = None

    def __call__(self, place: Workplace) -> dict[str, Any]:
        """Return the findings; each adapter that is looked at is a phase."""
        from neuromas.studies.adapter_kernels import adapter_kernels

        spec = place.spec
        if self.checkpoint is None:
            groups = self._sampled(place, dict.fromkeys(spec.topology.adapters))
        else:
            with published(place, self.checkpoint) as (_, refs):
                groups = self._sampled(place, refs)
        found = adapter_kernels(
            spec, self.checkpoint, groups, self.calls, lambda name: place.emit(Phase(name=f"kernel of {name}"))
        )
        return {"level": self.level, **found}

    def _sampled(self, place: Workplace, refs: Mapping[str, AdapterRef | None]) -> Sequence[Group]:
        spec = place.spec
        task, size = make_task(spec.task, spec.seed), max(2, spec.training.group_size)
        batch = held_out_batch(
            spec, task, refs, self.level, self.questions, "validation", greedy=False, group_size=size
        )
        place.emit(Phase(name=f"sampling {len(batch.examples)} x {size} rollouts"))
        return place.client.collect(place.client.submit(batch))
