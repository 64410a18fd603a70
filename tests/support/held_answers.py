"""Answers that do not end while their machine is told to hold them, so that a test knows what is under way there.

A machine's processes have a working folder of their own, which is its disk: paths below ``DISK`` lead there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuromas.engines.setup import EngineSetup
from neuromas.rollout.engine import Engine, EngineCall, EngineResult, Partial
from neuromas.serving.graph_table import ServableGraph
from neuromas.serving.group import GraphSource, Opener

DISK = Path("/proc/self/cwd")
HOLD, HELD = "hold", "held"
"""Files of a machine: it shall hold answers; it holds a streamed one that has begun, and one that is not streamed."""
_OUTPUT = "out"


class HeldEngine:
    """A real engine; what it has finished of output nodes it keeps back while the machine has the file ``hold``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._outputs: dict[str, EngineCall] = {}
        self._begun: set[str] = set()
        self._kept: list[EngineResult] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, calls: Sequence[EngineCall]) -> None:
        outputs = [call for call in calls if call.adapter is not None and call.adapter.name == _OUTPUT]
        self._outputs |= {call.id: call for call in outputs}
        self._engine.submit(calls)

    def step(self) -> list[EngineResult]:
        results = self._kept + (self._engine.step() if self._engine.has_unfinished() else [])
        is_holding = (DISK / HOLD).exists()
        self._kept = [result for result in results if is_holding and result.id in self._outputs]
        if self._kept:
            held = {result.id for result in self._kept}
            if held & self._begun and any(not self._outputs[id].is_streamed for id in held):
                (DISK / HELD).touch()
            time.sleep(0.01)
        return [result for result in results if result not in self._kept]

    def partials(self) -> list[Partial]:
        partials = self._engine.partials()
        self._begun |= {partial.id for partial in partials}
        return partials

    def has_unfinished(self) -> bool:
        return bool(self._kept) or self._engine.has_unfinished()


@dataclass(frozen=True, slots=True)
class HeldOpener:
    """Opens what another opener does, with engines that can hold their answers."""

    opener: Opener

    def start(self, setup: EngineSetup, slots: int) -> Engine:
        engine: Any = HeldEngine(self.opener.start(setup, slots))
        return engine  # type: ignore[no-any-return]

    def load(self, setup: EngineSetup, source: GraphSource) -> ServableGraph:
        return self.opener.load(setup, source)
