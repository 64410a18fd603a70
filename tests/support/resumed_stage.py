"""A small stage for the resume tests, and one that kills itself at a given point."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adapter_families import MIXED

from neuromas.base.resolve import resolve_base
from neuromas.checkpoints import checkpoint
from neuromas.cluster.setup import WorkerSetup
from neuromas.engines.setup import EngineSetup
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.journal.events import Event
from neuromas.rollout.client import LocalRolloutClient
from neuromas.spec.run import RunSpec
from neuromas.training.learner import Learner
from neuromas.training.trainer import JointTrainer

STEPS = 6


def stage_spec(sections: Mapping[str, object] | None = None, **training: Any) -> RunSpec:
    settings = {"steps": STEPS, "prompts_per_step": 4, "group_size": 4, "warmup_steps": 2, "learning_rate": 2e-2}
    return RunSpec.model_validate(
        {
            "name": "resumed",
            "topology": {"chain": 2},
            "task": {"type": "chain", "hops": 2},
            "sampling": {"max_tokens": 5},
            "training": settings | training,
            "engine": {"type": "transformers"},
            "runtime": {"type": "local"},
            "evaluation": {"examples": 8},
            "checkpoint": {"every": 2, "keep_last": 4},
            **(sections or {}),
        }
    )


def mixed_spec() -> RunSpec:
    """Return a stage of a graph with a node of every family, and with the smallest steps."""
    return stage_spec(MIXED, estimator="reinforce", prompts_per_step=2)


def make_client(spec: RunSpec) -> LocalRolloutClient:
    engine = EngineSetup.of(spec, resolve_base("tiny"))
    return LocalRolloutClient(WorkerSetup(engine, len(spec.topology.adapters), spec.prompt, spec.task).make())


def train(
    spec: RunSpec,
    folder: Path,
    client: LocalRolloutClient,
    resume: Path | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    attempt: int = 0,
    **settings: Any,
) -> StageOutcome:
    """Train the stage; ``attempt`` differs where a client is used again, as an engine holds a version's name once."""
    named = spec.model_copy(update={"name": f"{spec.name}-{attempt}"})
    stage = Stage("main", 0, spec.topology, spec.training.steps, **settings)
    return Learner(named, folder, client, on_event).train_stage(stage, resume)


def kill_on_call(owner: Any, name: str, number: int) -> None:
    """Make the ``number``-th call of ``owner.name`` the last thing this process does."""
    original, calls = getattr(owner, name), []

    def deadly(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, deadly)


def train_and_die(folder: Path, where: str, spec: RunSpec) -> None:
    """Train until the process kills itself in step 5, or as it saves the second checkpoint."""
    if where == "step":  # gradients of step 5 are there, its optimizer step is not
        kill_on_call(JointTrainer, "finish_gradients", 5)
    else:  # the second checkpoint's files are written, its manifest is not
        kill_on_call(checkpoint, "sha256", 8)
    train(spec, folder, make_client(spec))
