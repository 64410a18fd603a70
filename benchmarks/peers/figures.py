"""Runs one peer and measures its steady steps from outside."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.peers.process_tree import MARK, ProcessTree

LOOK_S = 0.05
"""Between two looks at a peer's log: how far each end of the measured time may be off."""
LOOKS_PER_MEMORY = 10


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a steady step.

    Attributes:
        cpu_s: user and system seconds of all processes.
        wall_s: seconds.
        peak_mb: most memory that all processes held from their start to their last step.
        read: prompt tokens of all calls.
        generated: tokens of all messages.
    """

    cpu_s: float
    wall_s: float
    peak_mb: float
    read: float
    generated: float


@dataclass(frozen=True, slots=True)
class Program:
    """What is run for a peer.

    Attributes:
        command: with its arguments.
        log: the file to which it adds a line of JSON per step.
        read: the key of the prompt tokens in such a line.
        generated: that of the tokens of messages.
    """

    command: Sequence[str]
    log: Path
    read: str = "read"
    generated: str = "generated"


def measure(program: Program, warmup: int, steps: int, output: Path) -> Figures:
    """Run a program until it ends and return what its ``steps`` steps after the first ``warmup`` ones cost.

    What it prints goes to ``output``. All libraries have one thread.

    Raises:
        RuntimeError: it failed, with the last line that it printed.
    """
    mark = uuid4().hex
    tree = ProcessTree(mark)
    program.log.unlink(missing_ok=True)
    marks: list[tuple[float, float]] = []
    with output.open("w") as said:
        process = subprocess.Popen(program.command, stdout=said, stderr=subprocess.STDOUT, env=environment(mark))
        looks = 0
        while process.poll() is None:
            done = len(finished_lines(program.log))
            if (not marks and done >= warmup) or (len(marks) == 1 and done >= warmup + steps):
                marks.append((tree.cpu_s(), time.perf_counter()))
            if looks % LOOKS_PER_MEMORY == 0 and len(marks) < 2:
                tree.look()
            looks += 1
            time.sleep(LOOK_S)
    lines = finished_lines(program.log)
    if process.returncode != 0 or len(marks) < 2:
        raise RuntimeError(last_words(output.read_text(errors="replace")) or f"exit code {process.returncode}")
    (cpu, wall), (cpu_end, wall_end) = marks
    return figures(lines[warmup : warmup + steps], program, cpu_end - cpu, wall_end - wall, tree.peak_bytes)


def figures(lines: Sequence[str], program: Program, cpu_s: float, wall_s: float, peak_bytes: int) -> Figures:
    """Return the figures of a step from the lines of those measured and what all of them cost."""
    steps: list[dict[str, Any]] = [json.loads(line) for line in lines]
    count = len(steps)
    return Figures(
        cpu_s=cpu_s / count,
        wall_s=wall_s / count,
        peak_mb=peak_bytes / 1e6,
        read=sum(step[program.read] for step in steps) / count,
        generated=sum(step[program.generated] for step in steps) / count,
    )


def environment(mark: str) -> Mapping[str, str]:
    """Return the environment of a peer: one thread, nothing sent or fetched."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    return os.environ | single | quiet | {MARK: mark}


def finished_lines(file: Path) -> list[str]:
    """Return the whole lines of a file, none where it is missing."""
    try:
        return file.read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []


def last_words(printed: str) -> str:
    """Return the last line that is not empty, without control characters."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return "".join(letter for letter in lines[-1] if letter.isprintable())[:300] if lines else ""
