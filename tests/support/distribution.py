"""How pytest-xdist hands tests to workers: whole files, or folders whose files share what is made once in a process."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

ROOT = Path(__file__).parents[2]
TOGETHER = ("tests/integration/service",)
"""Folders that go to one worker as a whole."""
MANY, FEW = (4, 3), (3, 2)
"""Workers on two processors, because tests wait, and how many of them may hold a file that starts a Ray cluster."""
ROOMY = 15 << 30
"""Bytes of memory that many workers take with their clusters; few fit in 8 GB."""


def bounds() -> tuple[int, int]:
    """Return how many workers this machine has room for, and how many of them may have a cluster at the same time."""
    return MANY if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >= ROOMY else FEW


class BoundedScheduling(LoadFileScheduling):
    """Hands out files in their order, but those that start a cluster only while few others do."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in TOGETHER if nodeid.startswith(f"{folder}/")), super()._split_scope(nodeid))

    def _assign_work_unit(self, node: WorkerController) -> None:
        under_way = [
            scope for work in self.assigned_work.values() for scope, tests in work.items() if not all(tests.values())
        ]
        _, clusters = bounds()
        self.workqueue.move_to_end(next_scope(self.workqueue, under_way, clusters), last=False)
        super()._assign_work_unit(node)


def next_scope(waiting: Collection[str], under_way: Iterable[str], clusters: int) -> str:
    """Return what is handed out next: the first, unless it would be one cluster too many and a lighter one is left."""
    is_full = sum(map(starts_cluster, under_way)) >= clusters
    light = (scope for scope in waiting if not (is_full and starts_cluster(scope)))
    return next(light, next(iter(waiting)))


@cache
def starts_cluster(scope: str) -> bool:
    """Whether a test of a file, or of a folder's files, is marked as one that starts Ray."""
    place = ROOT / scope
    files = sorted(place.rglob("test_*.py")) if place.is_dir() else [place]
    return any("mark.ray" in file.read_text(encoding="utf-8") for file in files)
