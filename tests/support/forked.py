"""Processes that work together, forked from one that has imported for all of them what takes ten seconds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing

PRELOADED = ("neuromas.training.learner", "neuromas.engines.transformers", "torch.distributed.fsdp")


def run_together(work: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Call ``work(rank, *arguments)`` in so many processes and return when all are done.

    Raises:
        ProcessRaisedException: one of them failed; the others are ended.
    """
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    torch.multiprocessing.start_processes(work, arguments, processes, daemon=True, start_method="forkserver")
