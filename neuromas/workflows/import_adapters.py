"""import_adapters(): a graph whose adapters were made elsewhere, as a run that has not begun to train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromas.base.suited import suit_spec
from neuromas.checkpoints.trained import find_trained
from neuromas.display.training import shown
from neuromas.engines.noise import quiet_libraries
from neuromas.errors import AdapterError
from neuromas.growth.ledger import Spending
from neuromas.journal.base_record import record_base
from neuromas.journal.data_record import record_data
from neuromas.journal.events import AdapterImported, CheckpointWritten, Observer, Phase
from neuromas.journal.folder import IMPORT_FILE, RunFolder, locked
from neuromas.run.imports import MAX_ERROR, peft_folders, unknown_adapters
from neuromas.run.preflight import check_run
from neuromas.run.stages import planned_stages
from neuromas.spec.run import RunSpec

if TYPE_CHECKING:
    from neuromas.adapters.foreign import Foreign


@dataclass(frozen=True, slots=True)
class Imported:
    """A run that holds imported adapters.

    Attributes:
        folder: of the run.
        adapters: what became of each folder, by the adapter's name.
        fresh: adapters of the graph without a folder, which act as the base.
    """

    folder: Path
    adapters: Mapping[str, Foreign]
    fresh: tuple[str, ...]

    @property
    def became(self) -> dict[str, Any]:
        """What became of the adapters, as the run's folder keeps it."""
        made = {name: _became(found) for name, found in self.adapters.items()}
        return {"adapters": made, "fresh": list(self.fresh)}

    @property
    def document(self) -> dict[str, Any]:
        """The same for programs."""
        return {"folder": str(self.folder), **self.became}

    def __str__(self) -> str:
        lines = [f"{self.folder}: {len(self.adapters)} adapters imported"]
        for name, found in self.adapters.items():
            how = f"up to {found.error:.2g} off ({found.worst})" if found.error else "exact"
            lines.append(f"  {name:<12}{found.method.lower()} as a LoRA of rank {found.lora.rank}, {how}")
        if self.fresh:
            lines.append(f"  {', '.join(self.fresh)}: no folder, acts as the base")
        return "\n".join(lines)


def import_adapters(
    spec: RunSpec,
    source: Path | str | Mapping[str, Path],
    out: Path | str = "runs",
    *,
    max_error: float = MAX_ERROR,
    overwrite: bool = False,
    on_event: Observer | None = None,
) -> Imported:
    """Write a run whose graph starts from PEFT adapters: to measure, serve, grow, or train on with ``resume``.

    Args:
        spec: the run that the adapters are nodes of, on the base that they were trained on.
        source: folder that holds a PEFT folder for each adapter, by its name, as ``neuromas export`` writes
            ``adapters``; or these folders themselves, by the names of the adapters.
        out: the run's folder is ``out/<spec.name>``.
        max_error: largest relative error of a layer's update, ||dW - B A|| / ||dW||.
        overwrite: delete an earlier run in the folder first.
        on_event: told what goes on; None = lines on stderr.

    Raises:
        SpecError: the run could not start, with all reasons.
        AdapterError: a folder is no adapter of the graph, or none that its node's kind, rank and layers can hold.
        CheckpointError: the run's folder is in use or holds a run.
    """
    spec = suit_spec(spec).spec
    folders = _folders(source, spec)
    with shown(on_event) as tell:
        tell(Phase(name="checking the spec"))
        base = check_run(spec, find_trained).base.folder
        folder = RunFolder(Path(out) / spec.name)
        with locked(folder.path):
            tell(Phase(name=f"reading {len(folders)} adapters"))
            state, found = _states(spec, base, folders, max_error, tell)
            fresh = tuple(name for name in spec.topology.adapters if name not in found)
            imported = Imported(folder.path, found, fresh)
            folder.create(spec.model_dump(mode="json"), overwrite=overwrite)
            folder.write_json(IMPORT_FILE, imported.became)
            record_base(folder, base)
            record_data(folder, spec.task)
            written = _write(folder, spec, state)
            tell(CheckpointWritten(stage=0, step=0, path=str(written)))
    return imported


def _became(found: Foreign) -> dict[str, Any]:
    return {"method": found.method, "rank": found.lora.rank, "error": found.error, "worst_layer": found.worst}


def _folders(source: Path | str | Mapping[str, Path], spec: RunSpec) -> Mapping[str, Path]:
    """Return the PEFT folders by the adapters that they are for."""
    if isinstance(source, Mapping):
        found, where = source, "the import"
    else:
        found, where = peft_folders(Path(source)), str(source)
    if not found:
        raise AdapterError(f"{where} names no adapter; those of the graph are {list(spec.topology.adapters)}")
    if fault := unknown_adapters(found, spec):
        raise AdapterError(f"{where}: {fault}")
    return found


def _states(
    spec: RunSpec, base: Path, folders: Mapping[str, Path], max_error: float, tell: Observer
) -> tuple[Mapping[str, Any], dict[str, Foreign]]:
    """Return the tensors of all adapters, and what each folder became."""
    quiet_libraries()
    from neuromas.adapters.build import build_model
    from neuromas.adapters.foreign import read_foreign

    _, bank = build_model(base, spec.adapters, spec.topology, spec.seed)
    found = {}
    for done, (name, folder) in enumerate(folders.items(), start=1):
        rank = spec.adapters.section_of(spec.topology, name).served_rank
        made = found[name] = read_foreign(folder, base, rank)
        if made.error > max_error:
            raise AdapterError(
                f"adapter folder {folder}: the nearest LoRA of rank {rank} is {made.error:.2g} off on {made.worst} "
                f"(||dW - B A|| / ||dW||), allowed is {max_error:g}; raise the adapter's rank, or allow more "
                "(--max-error, over HTTP max_error)"
            )
        bank.take(name, made.lora)
        tell(AdapterImported(adapter=name, done=done, total=len(folders), became=_became(made)))
    return bank.state(), found


def _write(folder: RunFolder, spec: RunSpec, state: Mapping[str, Any]) -> Path:
    """Write the checkpoint of the first stage as it is before its first step; returns its folder."""
    from neuromas.checkpoints.checkpoint import Checkpoint, CheckpointWriter
    from neuromas.training.advantage import RunningBaseline

    stage = next(planned_stages(spec, None))
    return CheckpointWriter(folder.checkpoints, spec.checkpoint.keep_last).write(
        Checkpoint(
            topology=spec.topology,
            adapters=state,
            moments={},
            counts={},
            rng={"seed": spec.seed, "stage": stage.index, "step": 0},
            state={
                "name": stage.name,
                "index": stage.index,
                "step": 0,
                "steps": stage.steps,
                "level": stage.level,
                "cursor": 0,
                "versions": {},
                "baseline": RunningBaseline().to_document(),
                "checks": [],
                "spending": asdict(Spending()),
                "accuracy": None,
                "ended": None,
                "lineage": {"start": None, "modules": []},
            },
        )
    )
