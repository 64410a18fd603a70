"""The check of a run before it is queued: that of ``neuromas validate``, as far as it can be made here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from neuromas.base.resolve import TINY, resolve_base
from neuromas.base.suited import suit_spec
from neuromas.checkpoints.trained import TrainedCheckpoint
from neuromas.run.preflight import Preflight, check_run, check_without_base, held_out_sizes
from neuromas.services.api.allowed import base_folder
from neuromas.services.settings import Settings
from neuromas.spec.run import RunSpec
from neuromas.topology.graph import Topology

WHERE_IT_RUNS: Final = "that the engine's and the trackers' packages are installed where the run works, and its memory"
_THE_BASE: Final = "the base {base}, which this process cannot read: prompts, lengths of questions, adapter.targets"


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """A run that may be queued.

    Attributes:
        spec: as it was sent; what the base decides is decided when the run starts.
        graphs: of its stages, the first one first.
        notes: what a person should know of the questions, a sentence each.
        checked_at_start: what is left for the moment when the run starts.
        preflight: what it will use, with what the base decides; None where this process cannot read the base.
    """

    spec: RunSpec
    graphs: tuple[Topology, ...]
    notes: tuple[str, ...]
    checked_at_start: tuple[str, ...]
    preflight: Preflight | None = None


def check(spec: RunSpec, modules: Mapping[str, TrainedCheckpoint], settings: Settings) -> CheckedRun:
    """Return a run after its checks; reads the task's files and the base's, where it lies on this machine.

    Args:
        spec: valid, and allowed here.
        modules: trained graphs of the checkpoints that grafts name, with the specs that were sent for them.
        settings: say which bases can be read.

    Raises:
        SpecError: with everything that is wrong, in the words of ``neuromas validate``.
    """
    if readable_base(spec.base, settings) is None:
        graphs = check_without_base(spec, modules.__getitem__)
        return CheckedRun(spec, graphs, (), (_THE_BASE.format(base=spec.base), WHERE_IT_RUNS))
    suited = suit_spec(spec).spec
    preflight = check_run(suited, lambda name: decided(modules[name], settings), here=False)
    held_out_sizes(suited, preflight.task)
    return CheckedRun(spec, preflight.graphs, preflight.notes, (WHERE_IT_RUNS,), preflight)


def decided(trained: TrainedCheckpoint, settings: Settings) -> TrainedCheckpoint:
    """Return a trained graph whose spec holds what its base decided, where that can be read here."""
    if readable_base(trained.spec.base, settings) is None:
        return trained
    return replace(trained, spec=suit_spec(trained.spec).spec)


def readable_base(name: str, settings: Settings) -> Path | None:
    """Return the folder of a base that this process can read; None for one of the hub, or of other machines."""
    folder = resolve_base(TINY) if name == TINY else base_folder(name, settings)
    return folder if folder is not None and folder.is_dir() else None
