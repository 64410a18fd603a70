"""Places where a store under test keeps its state, and other processes that write to it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from neuromas.services.settings import Settings
from neuromas.services.store.base import Store
from neuromas.services.store.open import open_store

ROOT = Path(__file__).parents[2]
WRITER = Path(__file__).with_name("store_writer.py")


@dataclass(frozen=True)
class StorePlace:
    """The store that settings name; ``open`` gives one client of it after another."""

    settings: Settings

    def open(self) -> Store:
        return open_store(self.settings)

    def writer(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a process that writes to the same store."""
        environment = {**os.environ, **self.settings.environment(), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(WRITER), *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


async def until(is_so: Callable[[], Awaitable[bool]], deadline_s: float = 60) -> None:
    """Return when something is so; fails after the deadline."""
    end = time.monotonic() + deadline_s
    while not await is_so():
        assert time.monotonic() < end, f"not so within {deadline_s} s"
        await asyncio.sleep(0.002)
