"""Processes forked from one that has imported for all of them what takes ten seconds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from typing import Any

import torch.multiprocessing

PRELOADED = ("neuromas.training.learner", "neuromas.engines.transformers", "torch.distributed.fsdp")


def run_apart(work: Callable[..., None], *arguments: Any) -> int | None:
    """Call ``work(*arguments)`` in a process of its own and return its exit code, -N where signal N ended it."""
    process = _server().Process(target=work, args=arguments, daemon=True)
    process.start()
    process.join()
    return process.exitcode


def run_together(work: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Call ``work(rank, *arguments)`` in so many processes and return when all are done.

    Raises:
        ProcessRaisedException: one of them failed; the others are ended.
    """
    torch.multiprocessing.start_processes(
        work, arguments, processes, daemon=True, start_method=_server().get_start_method()
    )


def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context
