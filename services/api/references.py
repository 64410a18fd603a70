"""References of checkpoints, as requests give them: ids, and names within a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from neuromas.services.api.problems import ApiError
from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.run import RunRecord
from neuromas.services.store.base import MissingError, Store
from neuromas.services.store.listing import all_of
from neuromas.services.store.uses import users

MODEL_PREFIX: Final = "neuromas:"
"""How model names begin that mean a checkpoint of a run instead of an endpoint."""
ALIASES: Final = ("latest", "best")


async def find_checkpoint(store: Store, reference: str, param: str = "checkpoint") -> CheckpointRecord:
    """Return the checkpoint that ``ckpt_...`` or ``<run>@<name>`` means, with or without ``neuromas:`` before it.

    Raises:
        ApiError: there is none (404).
    """
    run_id, at, name = reference.removeprefix(MODEL_PREFIX).rpartition("@")
    if at:
        return await checkpoint_of_run(store, run_id, name, param)
    try:
        return await present_checkpoint(store, name)
    except MissingError as error:
        message = f"there is no checkpoint {name!r}; give its id, <run>@latest or <run>@best"
        raise ApiError(404, "not_found", message, param=param) from error


async def present_checkpoint(store: Store, checkpoint_id: str) -> CheckpointRecord:
    """Return a checkpoint by its id.

    Raises:
        MissingError: there is none, or it is being deleted.
    """
    checkpoint = await store.get(CheckpointRecord, checkpoint_id)
    if checkpoint.state is not None:
        raise MissingError(f"checkpoint {checkpoint_id} has been deleted")
    return checkpoint


async def checkpoint_of_run(store: Store, run_id: str, name: str, param: str = "checkpoint") -> CheckpointRecord:
    """Return a run's checkpoint by alias, by the name of its folder, or by its id.

    Raises:
        ApiError: there is none (404).
    """
    found = await checkpoints_of(store, run_id)
    if name in ALIASES:
        id = aliases(found)[name]
        if id is None:
            await _check_run(store, run_id, param)
            message = (
                f"run {run_id} has no {name} checkpoint {'yet' if name == 'latest' else 'with a known accuracy yet'}"
            )
            raise ApiError(404, "no_checkpoint", message, param=param)
        name = id
    for checkpoint in found:
        if name in (checkpoint.id, checkpoint.path.rpartition("/")[2]):
            return checkpoint
    await _check_run(store, run_id, param)
    message = f"run {run_id} has no checkpoint {name!r}; it has {', '.join(c.id for c in found[:10]) or 'none'}"
    raise ApiError(404, "not_found", message, param=param)


async def checkpoints_of(store: Store, run_id: str) -> list[CheckpointRecord]:
    """Return all checkpoints of a run that are not being deleted, newest first."""
    found = [item for item in await all_of(store, CheckpointRecord, run=run_id) if item.state is None]
    return sorted(found, key=_progress, reverse=True)


def aliases(checkpoints: Sequence[CheckpointRecord]) -> dict[str, str | None]:
    """Return what "latest" and "best" mean among the checkpoints of one run; None where there is none.

    Best is the highest accuracy in the last stage that has one: a later stage has a larger graph or a harder level.
    """
    latest = max(checkpoints, key=_progress, default=None)
    rated = [checkpoint for checkpoint in checkpoints if checkpoint.accuracy is not None]
    best = max(rated, key=lambda c: (c.stage, c.accuracy, c.step), default=None)
    found = {"latest": latest, "best": best}
    return {name: None if checkpoint is None else checkpoint.id for name, checkpoint in found.items()}


def with_aliases(checkpoints: Sequence[CheckpointRecord], means: dict[str, str | None]) -> list[dict[str, Any]]:
    """Return checkpoints with the aliases that mean them."""
    return [
        {**item.to_document(), "aliases": [name for name in ALIASES if means[name] == item.id]} for item in checkpoints
    ]


def _progress(checkpoint: CheckpointRecord) -> tuple[int, int, int]:
    return checkpoint.stage, checkpoint.step, checkpoint.created


async def _check_run(store: Store, run_id: str, param: str) -> None:
    try:
        await store.get(RunRecord, run_id)
    except MissingError as error:
        raise ApiError(404, "not_found", str(error), param=param) from error


async def check_unused(store: Store, *records: RunRecord | CheckpointRecord) -> None:
    """Refuse to remove what unfinished work still reads.

    Raises:
        ApiError: something does; the message says what (409).
    """
    found = await users(store)
    for record in records:
        if record.id in found:
            raise ApiError(409, "in_use", f"{record.noun} {record.id} is needed by {found[record.id]}")
