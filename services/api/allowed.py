"""Allowed: what specs may name on this service.

Files only below the folders in the settings, and code only where they name it; no address; no tracker that
sends data away. Names are compared before any file is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from neuromas.errors import Fault
from neuromas.growth.plan import module_names
from neuromas.services.api.auth import Caller
from neuromas.services.api.bounds import MAX_STEPS
from neuromas.services.api.problems import invalid
from neuromas.services.api.uploads import usable_folder
from neuromas.services.settings import Settings
from neuromas.spec.credit import rollouts_per_example
from neuromas.spec.growth import PlanSpec
from neuromas.spec.run import RunSpec

MAX_EXAMPLES: Final = 100_000
"""Held-out examples of one evaluation."""
MAX_WORKERS: Final = 256
MAX_ROLLOUTS: Final = 1_000_000
"""Rollouts of one optimizer step."""
CHECKPOINT: Final = "ckpt_"
"""How ids of checkpoints begin."""
_TRACKERS: Final = ("tensorboard",)


def check_allowed(spec: RunSpec, caller: Caller, settings: Settings) -> None:
    """Refuse specs that are valid, but not for this service, or not for this caller.

    Raises:
        ApiError: with everything that is not allowed (400).
    """
    plans = () if spec.growth is None else spec.growth.plans
    faults = [
        *_base_faults(spec.base, settings),
        *_task_faults(spec, caller, settings),
        *_machine_faults(spec),
        *_amount_faults(spec),
        *module_faults(plans, "growth.plans"),
    ]
    if faults:
        raise invalid("this service does not take the run", faults, code="unsupported", status=400)


def base_folder(name: str, settings: Settings) -> Path | None:
    """Return the folder of a base that is named by its path and allowed; None for other names."""
    return _below(name, settings.base_roots)


def module_faults(plans: Sequence[PlanSpec], path: str) -> Iterator[Fault]:
    """Yield what is wrong with the further checkpoints that plans graft: here they are named by their ids."""
    for index, plan in enumerate(plans):
        for name in module_names((plan,)):
            if not name.startswith(CHECKPOINT):
                yield Fault(
                    f"{path}[{index}]", f"a graft names {name[:80]!r}; allowed are ids of checkpoints (ckpt_...)"
                )


def _base_faults(name: str, settings: Settings) -> Iterator[Fault]:
    if name not in settings.bases and base_folder(name, settings) is None:
        roots = " or a folder below " + ", ".join(map(str, settings.base_roots)) if settings.base_roots else ""
        message = f"got {name[:200]!r}; allowed are {', '.join(settings.bases)}{roots}"
        yield Fault("base", f"{message} (neuromas service --bases DIR, NEUROMAS_BASE_ROOTS or NEUROMAS_BASES)")


def _task_faults(spec: RunSpec, caller: Caller, settings: Settings) -> Iterator[Fault]:
    for key, name in spec.task.code().items():
        if name not in settings.task_code:
            allowed = ", ".join(settings.task_code) or "none: this service runs no code by name (task_code)"
            yield Fault(f"task.{key}", f"got {name[:200]!r}; allowed are {allowed}")
    roots = (*settings.task_roots, usable_folder(caller, settings))
    for key, name in spec.task.files().items():
        if _below(name, roots) is None:
            allowed = ", ".join(map(str, settings.task_roots)) or "none"
            yield Fault(
                f"task.{key}",
                f"got {name[:200]!r}; allowed are files that this key, or its project, has uploaded, and absolute "
                f"paths below the folders that the service was started with: {allowed} (neuromas service --tasks DIR, "
                "or NEUROMAS_TASK_ROOTS)",
            )


def _machine_faults(spec: RunSpec) -> Iterator[Fault]:
    if spec.runtime.address is not None:
        yield Fault("runtime.address", "is chosen by the service; leave it out")
    for tracker in spec.tracking.report_to:
        if tracker not in _TRACKERS:
            yield Fault("tracking.report_to", f"got {tracker}; allowed here is {', '.join(_TRACKERS)}")


def _amount_faults(spec: RunSpec) -> Iterator[Fault]:
    training, runtime = spec.training, spec.runtime
    rollouts = training.prompts_per_step * rollouts_per_example(training, spec.topology)
    amounts = {
        "training.steps": (training.steps, MAX_STEPS),
        "training.prompts_per_step": (rollouts, MAX_ROLLOUTS),
        "evaluation.examples": (spec.evaluation.examples, MAX_EXAMPLES),
        "runtime.rollout_workers": (runtime.rollout_workers, MAX_WORKERS),
        "runtime.learner_workers": (runtime.learner_workers, MAX_WORKERS),
    }
    for path, (got, allowed) in amounts.items():
        if got > allowed:
            unit = " rollouts (with group_size and credit)" if path.endswith("prompts_per_step") else ""
            yield Fault(path, f"got {got}{unit}; this service takes at most {allowed}")


def _below(name: str, roots: Sequence[Path]) -> Path | None:
    """Return the path that a name stands for where it lies below one of the roots, links followed."""
    try:
        path = Path(name)
        resolved = path.resolve() if path.is_absolute() else None
    except (OSError, ValueError):  # a loop of links, or a name that no file can have
        return None
    if resolved is None or not any(resolved.is_relative_to(root) for root in roots):
        return None
    return resolved
