"""From ids to folders: the checkpoints that a run starts from, or grafts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from neuromas.errors import CheckpointError
from neuromas.run.parent import Parent
from neuromas.schema.parse import parse_section
from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.run import RunRecord
from neuromas.services.store.base import Document, MissingError, Store
from neuromas.spec.growth import PlanSpec

_PREFIX: Final = "ckpt_"


async def checkpoint_folder(store: Store, data_dir: Path, id: str) -> Path:
    """Return the folder of a checkpoint by its id.

    Raises:
        CheckpointError: it has been deleted.
    """
    try:
        record = await store.get(CheckpointRecord, id)
    except MissingError as error:
        raise CheckpointError(f"checkpoint {id} has been deleted; choose another one") from error
    folder = (data_dir / record.path).resolve()
    if not folder.is_relative_to(data_dir.resolve()):
        raise CheckpointError(f"checkpoint {id} names a folder outside the data folder; it cannot be used")
    return folder


async def resolve_parent(store: Store, data_dir: Path, run: RunRecord) -> Parent | None:
    """Return where a grown run starts; None for a run that starts fresh.

    Raises:
        CheckpointError: a checkpoint has been deleted.
        SpecError: the plan is not valid.
    """
    origin = run.parent
    if origin is None:
        return None
    plan = await _resolve_plan(store, data_dir, origin.plan)
    folder = await checkpoint_folder(store, data_dir, origin.checkpoint)
    return Parent(folder, parse_section(PlanSpec, plan, "the growth plan"), origin.level)


async def resolve_modules(store: Store, data_dir: Path, spec: Mapping[str, Any]) -> Document:
    """Return a run spec whose grafts name folders where they named checkpoints by id.

    Raises:
        CheckpointError: a checkpoint has been deleted.
    """
    growth = spec.get("growth")
    if not growth or not growth.get("plans"):
        return dict(spec)
    plans = [await _resolve_plan(store, data_dir, plan) for plan in growth["plans"]]
    return {**spec, "growth": {**growth, "plans": plans}}


async def _resolve_plan(store: Store, data_dir: Path, plan: Mapping[str, Any]) -> Document:
    edits = []
    for edit in plan["edits"]:
        modules = [
            str(await checkpoint_folder(store, data_dir, name)) if name.startswith(_PREFIX) else name
            for name in edit.get("modules") or ()
        ]
        edits.append({**edit, "modules": modules} if modules else edit)
    return {**plan, "edits": edits}
