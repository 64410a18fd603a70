"""What it costs to compare trainer and engine: the share of a step that the checks of parity take.

The run is the quickstart, a chain of 5 Nodes on the shipped base, in one process. Steps in sequence compare rows that
are trained on; overlapped ones keep a copy of the published weights and score two calls of each Node with them. Stages
of the two take turns. Both times of a ratio are CPU seconds of this process, so that neighbours do not count.

    python -m benchmarks.parity [--turns 5] [--steps 15] [--json FILE]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Cell, report
from neuromas.checkpoints.trained import find_trained
from neuromas.cluster.runtime import Runtime, RuntimeSetup, open_runtime
from neuromas.growth.stage import Stage
from neuromas.journal.events import Event, StepDone
from neuromas.run.preflight import check_run
from neuromas.run.run import worker_setup
from neuromas.spec.run import RunSpec
from neuromas.studies.demo import example
from neuromas.training import trainer

CHECKS: Final = (
    "measure_parity",
    "check_logprobs",
    "check_seeds",
    "check_nodes",
    "check_calls",
    "probed_calls",
    "differences",
    "Published",
)
"""What the trainer calls to compare."""
MODES: Final = {"in sequence": 0, "overlapped": 1}


class StepTimes:
    """CPU seconds of each step, and of the checks in it."""

    def __init__(self) -> None:
        self.checks_s = 0.0
        self.shares: list[float] = []
        self._began_s: float | None = None

    def timed(self, check: Callable[..., Any]) -> Callable[..., Any]:
        """Return the check with its seconds added up."""

        def run(*given: Any, **named: Any) -> Any:
            began_s = time.process_time()
            try:
                return check(*given, **named)
            finally:
                self.checks_s += time.process_time() - began_s

        return run

    def note(self, event: Event) -> None:
        """End a step; a stage's first one, which starts up, is not counted."""
        if isinstance(event, StepDone):
            now_s = time.process_time()
            if self._began_s is not None and event.step > 1:
                self.shares.append(self.checks_s / (now_s - self._began_s))
            self._began_s, self.checks_s = time.process_time(), 0.0

    def take(self) -> list[float]:
        """Return the shares since this was last called."""
        shares, self.shares = self.shares, []
        return shares


@contextmanager
def watched(steps: StepTimes) -> Iterator[None]:
    """Time the trainer's checks inside the block."""
    own = {name: getattr(trainer, name) for name in CHECKS}
    for name, check in own.items():
        setattr(trainer, name, steps.timed(check))
    try:
        yield
    finally:
        for name, check in own.items():
            setattr(trainer, name, check)


def make_spec(overlap: int, steps: int) -> RunSpec:
    spec = example("quickstart")
    changes = {
        "name": f"parity-{overlap}",
        "training": spec.training.model_copy(update={"steps": steps, "overlap": overlap}),
        "evaluation": spec.evaluation.model_copy(update={"examples": 8}),
        "checkpoint": spec.checkpoint.model_copy(update={"every": 0}),
        "runtime": spec.runtime.model_copy(update={"type": "local"}),
    }
    return spec.model_copy(update=changes)


def measure(turns: int, steps: int, folder: Path) -> list[dict[str, Cell]]:
    """Return a row of shares for each mode."""
    seen = StepTimes()
    shares: dict[str, list[float]] = {mode: [] for mode in MODES}
    lanes: dict[str, tuple[RunSpec, Runtime]] = {}
    with watched(seen):
        for mode, overlap in MODES.items():
            spec = make_spec(overlap, steps)
            (folder / spec.name).mkdir()
            setup = RuntimeSetup(spec, folder / spec.name, worker_setup(spec, check_run(spec, find_trained)))
            lanes[mode] = spec, open_runtime(setup, seen.note)
        for turn in range(turns):
            for mode in MODES if turn % 2 == 0 else reversed(MODES):
                spec, runtime = lanes[mode]
                runtime.train_stage(Stage(f"turn{turn}", turn, spec.topology, steps))
                shares[mode] += seen.take()
    for _, runtime in lanes.values():
        runtime.close()
    return [_row(mode, found) for mode, found in shares.items()]


def _row(mode: str, shares: list[float]) -> dict[str, Cell]:
    low, middle, high = statistics.quantiles(shares, n=4)
    return {"steps": mode, "share of a step": middle, "low": low, "high": high, "counted": len(shares)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments.turns, arguments.steps, Path(folder))
    report("checks of parity, share of the CPU seconds of a step", rows, arguments.json)


if __name__ == "__main__":
    main()
