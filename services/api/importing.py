"""Importing: from a run spec and the names of adapters that were brought along to a queued run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

from neuromas.errors import Fault
from neuromas.run.imports import unknown_adapters
from neuromas.services.api.adapters import adapter_names, adapters_of, describe
from neuromas.services.api.auth import Caller
from neuromas.services.api.body import parse_body
from neuromas.services.api.problems import below, invalid
from neuromas.services.api.schemas.run import ImportRequest
from neuromas.services.api.service import Service
from neuromas.services.api.submission import read_spec, submit
from neuromas.services.api.uploads import changing
from neuromas.services.records.run import RunImport, RunRecord
from neuromas.services.store.base import Document


async def submit_import(
    service: Service, caller: Caller, run_id: str, document: Document, tags: tuple[str, ...]
) -> RunRecord:
    """Queue the run that a request to import means and return its record.

    Whether an adapter fits its node is found where the run works: that takes the base, and torch.

    Raises:
        SpecError: the run's spec is not valid.
        ApiError: the request is not valid, an adapter is not there, or the caller has too many runs.
    """
    request = parse_body(ImportRequest, document, "the import")
    with below("spec"):
        checked = await read_spec(service, caller, request.spec)
    if fault := unknown_adapters(request.adapters, checked.spec):
        raise invalid("the import is not valid", [Fault("adapters", fault)])
    own = adapters_of(caller, service.settings)
    imports = RunImport(adapters=request.adapters, max_error=request.max_error, train=request.train)
    async with changing(caller, service):  # from here to the run's record nobody takes them away
        if faults := await asyncio.to_thread(lambda: list(_missing(request.adapters, own))):
            raise invalid("the import is not valid", faults)
        return await submit(service, caller, run_id, checked.spec, tags, imports=imports)


def _missing(wanted: Mapping[str, str], own: Path) -> Iterator[Fault]:
    """Yield which adapters were not brought along, or not whole."""
    names = set(adapter_names(own))
    for adapter, name in wanted.items():
        if name not in names:
            message = f"got {name!r}; no adapter of this key or its project has this name (PUT /v1/adapters/NAME/FILE)"
            yield Fault(f"adapters.{adapter}", message)
        elif missing := describe(own / name)["missing"]:
            message = f"{name!r} lacks {' and '.join(missing)} (PUT /v1/adapters/{name}/{missing[0]})"
            yield Fault(f"adapters.{adapter}", message)
