"""Quotas: how much unfinished work of a kind an owner may have, counted while no other request adds to it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from neuromas.services.api.auth import Caller
from neuromas.services.api.problems import busy
from neuromas.services.api.service import Service
from neuromas.services.records.evaluation import UNFINISHED, EvaluationRecord
from neuromas.services.records.run import RunRecord, RunState
from neuromas.services.store.base import Store
from neuromas.services.store.listing import all_of

_COUNTING_S: Final = 10.0
_FULL_AGAIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on work that has not ended.

    Attributes:
        name: of the limit, in a key's quota and in the settings; 0 = none.
        kind: of the records that stand for the work.
        unfinished: states in which they count.
    """

    name: str
    kind: type[RunRecord | EvaluationRecord]
    unfinished: tuple[str, ...]


RUNS: Final = Quota("max_queued_runs", RunRecord, (RunState.QUEUED, RunState.RUNNING, RunState.PAUSED))
EVALUATIONS: Final = Quota("max_queued_evaluations", EvaluationRecord, UNFINISHED)


@asynccontextmanager
async def room_for(quota: Quota, service: Service, caller: Caller, id: str) -> AsyncIterator[None]:
    """Make a record inside the block; meanwhile no other request of the caller makes one of its kind.

    Args:
        quota: which.
        service: has the store.
        caller: whose record it is.
        id: of the record; one that is there already does not count.

    Raises:
        ApiError: the caller has as many unfinished as allowed (429).
    """
    allowed = caller.limit(quota.name, getattr(service.settings, quota.name))
    if not allowed:
        yield
        return
    async with alone(service.store, f"submit/{quota.kind.noun}/{caller.id}"):
        found = await _unfinished(service.store, quota, caller, id)
        if found >= allowed:
            what = f"{quota.kind.noun}s"
            message = f"{found} {what} are unfinished; this key may have {allowed} ({quota.name})"
            raise busy(f"too_many_{what}", message, _FULL_AGAIN_S)
        yield


@asynccontextmanager
async def alone(store: Store, lease: str) -> AsyncIterator[None]:
    """Count and add inside the block, while nobody else who takes the lease does.

    Args:
        store: has the lease.
        lease: what is counted, and whose.

    Raises:
        ApiError: others hold it for too long (429).
    """
    holder = secrets.token_hex(8)  # whatever a client can choose, such as a request's id, two requests may share
    deadline = asyncio.get_running_loop().time() + _COUNTING_S
    while not await store.acquire(lease, holder, _COUNTING_S):
        if asyncio.get_running_loop().time() > deadline:
            raise busy("too_many_requests", "other submissions of this key are under way", 1)
        await asyncio.sleep(0.02)
    try:
        yield
    finally:
        await store.release(lease, holder)


async def _unfinished(store: Store, quota: Quota, caller: Caller, id: str) -> int:
    found = 0
    for state in quota.unfinished:
        records = await all_of(store, quota.kind, owner=caller.id, state=state)
        found += sum(record.id != id for record in records)
    return found
