"""A writer of test_store: a process of its own that changes what its siblings change, and prints what it did."""

from __future__ import annotations

import asyncio
import json
import sys

from stored import a_run

from neuromas.services.records.run import RunRecord
from neuromas.services.settings import load_settings
from neuromas.services.store.base import ConflictError, Store
from neuromas.services.store.open import open_store


async def raise_total(store: Store) -> int:
    """Add one to the shared run's attempts by compare-and-set; returns how often another writer came first."""
    lost = 0
    while True:
        run = await store.get(RunRecord, "run_shared")
        try:
            await store.update(RunRecord, "run_shared", {"attempt": run.attempt + 1}, version=run.version)
        except ConflictError:
            lost += 1
        else:
            return lost


async def write(name: str, rounds: int) -> dict[str, int]:
    store = open_store(load_settings())
    done = {"made": 0, "new": 0, "own": 0, "lost": 0, "moved": 0}
    try:
        for place in range(rounds):
            done["made"] += (await store.create(a_run(f"run_{place}", owner="shared")))[1]
            done["new"] += await store.append("shared", [(f"both {place}", {"place": place})])
            done["own"] += await store.append("shared", [(f"{name} {place}", {"writer": name, "place": place})])
            done["lost"] += await raise_total(store)
            await store.count("shared", 1, 1e9)
            try:
                await store.update(RunRecord, f"run_{place}", {"state": "running"}, states=["queued"])
                done["moved"] += 1
            except ConflictError:
                pass
    finally:
        await store.close()
    return done


async def append_for_ever() -> None:
    """Append pairs until killed."""
    store = open_store(load_settings())
    place = 0
    while True:
        await store.append("pairs", [(f"{place} a", {"place": place}), (f"{place} b", {"place": place})])
        place += 1


if __name__ == "__main__":
    if sys.argv[1] == "for-ever":
        asyncio.run(append_for_ever())
    sys.stdout.write(json.dumps(asyncio.run(write(sys.argv[1], int(sys.argv[2])))))
