"""A checkpoint's adapters on the rollout workers, and the held-out questions that a study asks with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.base.resolve import resolve_base
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.record import Provenance
from neuromas.spec.run import RunSpec
from neuromas.tasks.base import Task
from neuromas.tasks.held_out import HeldOutPart, held_out

if TYPE_CHECKING:
    from neuromas.training.workplace import Workplace


@contextmanager
def published(
    place: Workplace, checkpoint: Path
) -> Iterator[tuple[Mapping[str, PlainLora], Mapping[str, AdapterRef | None]]]:
    """Give a checkpoint's adapters and the versions under which the workers hold them meanwhile, both by name.

    Raises:
        CheckpointError: the checkpoint is incomplete or altered.
        AdapterError: its adapters are of another kind or size.
    """
    from neuromas.checkpoints.servable import plain_loras

    spec = place.spec
    loras = plain_loras(checkpoint, resolve_base(spec.base), spec.adapters, spec.seed)
    refs = {name: AdapterRef(name, 0, f"{spec.name}/study") for name in loras}
    place.client.publish({refs[name]: lora for name, lora in loras.items()})
    try:
        yield loras, dict(refs)
    finally:
        place.client.publish({}, tuple(refs.values()))


def held_out_batch(
    spec: RunSpec,
    task: Task,
    refs: Mapping[str, AdapterRef | None],
    level: int | None,
    examples: int,
    part: HeldOutPart,
    *,
    greedy: bool,
    group_size: int = 1,
) -> RolloutBatch:
    """Return rollouts of a run's graph on held-out questions, seeded as the run's evaluations are."""
    return RolloutBatch(
        topology=spec.topology,
        examples=held_out(task, level, examples, part),
        group_size=group_size,
        adapters=refs,
        sampling=spec.sampling,
        greedy=greedy,
        seed=spec.evaluation.seed,
        provenance=Provenance(spec.name, 0, 0),
        task=task,
    )
