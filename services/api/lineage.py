"""Lineage: the family tree of a grown run, read from its first ancestor down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from neuromas.services.records.run import RunRecord
from neuromas.services.store.base import Document, MissingError, Store

MAX_RUNS: Final = 500
"""Runs that a tree shows."""
MAX_GENERATIONS: Final = 64
_PAGE: Final = 100


async def family_tree(store: Store, run_id: str) -> Document:
    """Return the family tree of a run.

    Raises:
        MissingError: there is no such run.
    """
    run = await store.get(RunRecord, run_id)
    growth = _Tree(store)
    root = await growth.branch(await _first_ancestor(store, run), 0)
    return {"object": "lineage", "run": run_id, "root": root, "truncated": growth.truncated}


async def _first_ancestor(store: Store, run: RunRecord) -> RunRecord:
    for _ in range(MAX_GENERATIONS):
        if not run.parent_run:
            break
        try:
            run = await store.get(RunRecord, run.parent_run)
        except MissingError:  # the parent was deleted: the tree begins with what is left of it
            break
    return run


@dataclass(slots=True)
class _Tree:
    """Walks down a family and counts."""

    store: Store
    seen: set[str] = field(default_factory=set)
    truncated: bool = False

    async def branch(self, run: RunRecord, generation: int) -> Document:
        """Return a run with its children, the oldest first."""
        self.seen.add(run.id)
        children = []
        for child in await self._children(run.id):
            if len(self.seen) >= MAX_RUNS or generation >= MAX_GENERATIONS:
                self.truncated = True
                break
            if child.id not in self.seen:
                children.append(await self.branch(child, generation + 1))
        return _entry(run) | {"children": children}

    async def _children(self, run_id: str) -> list[RunRecord]:
        found: list[RunRecord] = []
        after = None
        while len(found) < MAX_RUNS:
            page = await self.store.list(RunRecord, where={"parent_run": run_id}, after=after, limit=_PAGE)
            found += page.items
            if not page.has_more:
                return found[::-1]
            after = page.items[-1].id
        self.truncated = True
        return found[::-1]


def _entry(run: RunRecord) -> Document:
    nodes = 0 if run.progress is None else run.progress.nodes
    return {
        "id": run.id,
        "name": run.name,
        "state": run.state,
        "nodes": nodes or len(run.spec["topology"]["nodes"]),
        "accuracy": run.accuracy,
        "checkpoint": None if run.parent is None else run.parent.checkpoint,
        "plan": None if run.parent is None else run.parent.plan,
    }
