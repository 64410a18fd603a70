"""How many CPU threads each process of a run works with: as many as it was told, or its share of its machine."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neuromas.base.resolve import resolve_base
from neuromas.base.sizes import is_small
from neuromas.errors import BaseModelError
from neuromas.spec.machine import Threads
from neuromas.spec.run import RunSpec

CGROUPS: Final = Path("/sys/fs/cgroup")
"""Where Linux tells what a container may use."""


@dataclass(frozen=True, slots=True)
class ThreadShare:
    """The threads of one kind of process, resolved on the machine where it runs.

    Attributes:
        told: a number; "auto" = what this machine's processors leave to each process.
        beside: processes of the run that work at the same time on one machine, itself included.
        limit: most threads of an "auto"; None = no limit.
    """

    told: Threads = "auto"
    beside: int = 1
    limit: int | None = None

    def count(self) -> int:
        """Return the number of threads, here."""
        if self.told != "auto":
            return self.told
        share = max(1, processors() // self.beside)
        return share if self.limit is None else min(share, self.limit)


def engine_share(spec: RunSpec, machines: int = 1) -> ThreadShare:
    """Return the threads of a rollout worker's process; ``machines`` share the run's processes evenly."""
    beside = _beside(spec, spec.runtime.rollout_workers, machines)
    return ThreadShare(spec.engine.threads, beside, _limit(spec.base))


def learner_share(spec: RunSpec, machines: int = 1) -> ThreadShare:
    """Return the threads of a learner's process; see ``engine_share``."""
    beside = _beside(spec, spec.runtime.learner_workers, machines)
    return ThreadShare(spec.runtime.learner_threads, beside, _limit(spec.base))


def single_share(spec: RunSpec) -> ThreadShare:
    """Return the threads of a process that samples and trains in turn."""
    engine, learner = spec.engine.threads, spec.runtime.learner_threads
    return ThreadShare(engine if learner == "auto" else learner, limit=_limit(spec.base))


def serving_share(told: Threads) -> ThreadShare:
    """Return the threads of a process that holds an engine and no learner."""
    return ThreadShare(told, limit=thread_limit())


def set_threads(count: int) -> None:
    """Bound this process's CPU threads, and those of libraries that it has not loaded yet."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)
    wait_passively()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # vLLM would bind this process to cores of its choice; the learner and other engines share them.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(count)


def wait_passively() -> None:
    """Let threads that wait for each other sleep; to be called before torch is imported.

    OpenMP's threads wait in a loop, and where another program has one of the processors each of them waits for it many
    times in every product: steps then take forty times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def processors() -> int:
    """Return how many processors this process may use: those it may run on, bounded by its container's quota."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.floor(min(found, container_quota()))


def thread_limit() -> int | None:
    """Return what ``OMP_NUM_THREADS`` bounds the threads of this process to, as OpenMP reads it; None = nothing."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else None


def container_quota() -> float:
    """Return the processors that the container may use on average, at least 1; infinity without a bound."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # cgroups of version 2, and 1
        try:
            quota, period = " ".join((CGROUPS / name).read_text() for name in names).split()
        except OSError:
            continue
        if quota.isdecimal():  # else "max" or -1
            return max(1.0, int(quota) / int(period))
    return math.inf


def _beside(spec: RunSpec, processes: int, machines: int) -> int:
    """Return how many processes of a machine work at a time: of one kind, or with overlap of both."""
    runtime = spec.runtime
    busy = runtime.rollout_workers + runtime.learner_workers if spec.training.overlap else processes
    return -(-busy // machines)


def _limit(base: str) -> int | None:
    """Return the most threads of an "auto" for a base; None = no limit."""
    try:
        return 1 if is_small(resolve_base(base, fetch=False)) else thread_limit()
    except BaseModelError:  # not on this machine yet
        return thread_limit()
