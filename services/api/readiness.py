"""Readiness: whether the store and the cluster can be reached. However many ask, one looks, once a second at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from neuromas.services.records.cluster import CLUSTER_ID, ClusterRecord
from neuromas.services.store.base import MissingError, Store, StoreUnavailableError

OK: Final = "ok"
FRESH_S: Final = 1.0
"""Seconds for which what was found is told again."""
SILENCE_S: Final = 30.0
"""Seconds after which the supervisor's last word on the cluster counts no more."""
_PROBE_S: Final = 3.0


class Readiness:
    """Looks at the store, and reads there what the supervisor knows of Ray."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: Mapping[str, str] = {}
        self._found_s = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def checks(self) -> Mapping[str, str]:
        """Return "ok", or what is wrong, for everything that is needed."""
        if not self._found or time.monotonic() - self._found_s > FRESH_S:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look(), name="readiness")
            # Shielded: one that gives up must not end the look of the others.
            await asyncio.shield(self._looking)
        return self._found

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_PROBE_S):
                await self._store.ping()
                ray = await self._ray()
            self._found = {"store": OK, "ray": ray}
        except (StoreUnavailableError, TimeoutError):
            self._found = {"store": "unreachable", "ray": "unknown: the store has the supervisor's word on it"}
        self._found_s = time.monotonic()

    async def _ray(self) -> str:
        try:
            word = await self._store.get(ClusterRecord, CLUSTER_ID)
        except MissingError:
            return "unknown: no supervisor has looked at it yet"
        silent_s = time.time() - word.seen
        if silent_s > SILENCE_S:
            return f"unknown: no supervisor has looked at it for {silent_s:.0f} s"
        return word.fault or OK
