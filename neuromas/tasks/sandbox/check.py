"""Checks a program by unit tests.

The two never share a process: the tests call the program's functions over a pipe and get plain values back, so that a
program can fail its tests, but neither end nor fool them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuromas.errors import TaskError
from neuromas.tasks.sandbox.lock import lacking

_CHILD: Final = str(Path(__file__).with_name("child.py"))
_LOADING_S: Final = 5.0
"""Seconds that the processes may take beside the limit: to start on a busy machine, and to wait for each other."""


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """What a program may use.

    Attributes:
        seconds: of computing, for the program and for its tests each.
        memory_mib: of address space, of each of both processes.
    """

    seconds: int = 5
    memory_mib: int = 512


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """Whether a program passed its tests; ``why`` not, in the words of the error."""

    passed: bool
    why: str = ""


def require() -> None:
    """Check that this machine can lock processes.

    Raises:
        TaskError: it cannot; the message says what it lacks.
    """
    if missing := lacking():
        raise TaskError(f"running programs {missing}")


def check(program: str, setup: str, tests: str, names: Sequence[str], limits: ResourceLimits) -> ProgramResult:
    """Return whether a program passes its tests.

    Args:
        program: the code to check.
        setup: code that the tests need, such as a right program with its helpers.
        tests: code that raises where the program is wrong.
        names: functions of the program that the tests call; empty = all functions that ``setup`` defines.
        limits: what both may use.

    Raises:
        TaskError: the processes cannot be locked here.
    """
    read_calls, write_calls = os.pipe()
    read_returns, write_returns = os.pipe()
    shared = {"memory_bytes": limits.memory_mib << 20, "cpu_seconds": limits.seconds}
    answering = {"role": "program", "code": program, "calls_fd": read_calls, "returns_fd": write_returns}
    testing = {"role": "tests", "code": tests, "setup": setup, "names": list(names)}
    pipes = {"calls_fd": write_calls, "returns_fd": read_returns}
    with ExitStack() as started:
        try:
            one = started.enter_context(_child(subprocess.DEVNULL, (read_calls, write_returns)))
            other = started.enter_context(_child(subprocess.PIPE, (write_calls, read_returns)))
        finally:  # each end lives in one process, so that a process that ends is seen by the other
            for end in (read_calls, write_calls, read_returns, write_returns):
                os.close(end)
        _ask(one, {**shared, **answering})
        return _read(other, {**shared, **testing, **pipes}, limits)


@contextmanager
def _child(output: int, ends: tuple[int, int]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-X", "utf8", _CHILD],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.DEVNULL,
        pass_fds=ends,
        env={},
        cwd="/",
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was still to be written
                    pipe.close()


def _ask(process: subprocess.Popen[bytes], request: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended; what it said is read all the same
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()


def _read(process: subprocess.Popen[bytes], request: Mapping[str, Any], limits: ResourceLimits) -> ProgramResult:
    try:
        said, _ = process.communicate(json.dumps(request).encode() + b"\n", timeout=limits.seconds + _LOADING_S)
    except subprocess.TimeoutExpired:
        return ProgramResult(False, f"took longer than {limits.seconds} s")
    if not said:
        return ProgramResult(False, f"used more than {limits.seconds} s or {limits.memory_mib} MiB")
    result = json.loads(said)
    if "unlocked" in result:
        raise TaskError(f"running programs is not safe here: {result['unlocked']}")
    return ProgramResult(result["passed"], result["why"])
