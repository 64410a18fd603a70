"""What a node of a kept rollout read, from the files of its run and of its base."""

from __future__ import annotations

import asyncio
import json
from functools import lru_cache
from pathlib import Path
from typing import Final

from neuromas.base.end_tokens import TOKENIZER
from neuromas.base.resolve import resolve_base
from neuromas.errors import CheckpointError, NeuroMASError, RolloutError
from neuromas.journal import lines as journal
from neuromas.journal.folder import EVENTS_FILE, SPEC_FILE
from neuromas.journal.prompts import PromptReader
from neuromas.services.api.auth import Caller
from neuromas.services.api.checked import readable_base
from neuromas.services.api.problems import ApiError
from neuromas.services.api.service import Service
from neuromas.services.records.run import RunRecord
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document
from neuromas.topology.document import topology_from_document
from neuromas.topology.graph import Topology

_READERS: Final = 4
"""Runs whose tokenizers one process keeps."""


async def read_prompt(service: Service, caller: Caller, run_id: str, stream: str, entry: int, node: str) -> Document:
    """Return a node's prompt as the body of an answer.

    Args:
        service: has the store, and room for so many of these at a time.
        caller: who asks.
        run_id: of the run.
        stream: that has the rollout.
        entry: id of the rollout in it.
        node: of the rollout.

    Raises:
        MissingError: there is no such run.
        ApiError: no such rollout, or the node was not asked in it (404); the run's files or its base are not there, or
            the base is another by now (409); too many are being written (429).
    """
    run = await service.store.get(RunRecord, run_id)
    found = await service.store.read(stream, after=entry - 1, limit=1)
    if not found or found[0].id != entry:
        raise ApiError(404, "not_found", f"run {run_id} keeps no rollout {entry}; the oldest are forgotten in time")
    with service.prompts.place(caller.id):
        try:
            text = await asyncio.to_thread(_text, run, found[0].document, node, service.settings)
        except RolloutError as error:
            raise ApiError(404, "not_found", str(error), param="node") from error
        except NeuroMASError as error:
            raise ApiError(409, "prompt_lost", str(error)) from error
    return {"node": node, "text": text}


def _text(run: RunRecord, rollout: Document, node: str, settings: Settings) -> str:
    folder = (settings.data_dir / run.folder).resolve()
    try:
        if not folder.is_relative_to(settings.data_dir):
            raise CheckpointError(f"run {run.id} names a folder outside the data folder")
        spec = (folder / SPEC_FILE).read_text(encoding="utf-8")
        topology = _topology(folder, rollout["stage"])
    except OSError as error:
        raise CheckpointError(
            f"the files of run {run.id} are gone, and with them how its prompts are written"
        ) from error
    base = readable_base(run.base, settings) or resolve_base(run.base, fetch=False)
    changed_ns = (base / TOKENIZER).stat().st_mtime_ns if (base / TOKENIZER).is_file() else 0
    return _reader(spec, base, changed_ns).text(topology, rollout, node)


def _topology(folder: Path, stage: int) -> Topology:
    """Return the graph of a stage."""
    for event in journal.read(folder / EVENTS_FILE):
        if event["type"] == "stage_started" and event["stage"] == stage:
            return topology_from_document(event["topology"])
    raise CheckpointError(f"{EVENTS_FILE} of the run does not tell of stage {stage}")


@lru_cache(_READERS)
def _reader(spec: str, base: Path, _changed_ns: int) -> PromptReader:
    """Return what writes the prompts of a run; another time of its tokenizer's last change is another reader."""
    return PromptReader.of(json.loads(spec), base)
