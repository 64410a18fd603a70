"""evaluate(): the accuracy of a trained graph on test questions, and what its nodes say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from neuromas.checkpoints.trained import find_trained
from neuromas.display.training import shown
from neuromas.journal.events import Observer, Phase
from neuromas.report.markup import element
from neuromas.report.numbers import percent, share
from neuromas.spec.machine import EngineType
from neuromas.training.evaluate import Evaluation, EvaluationRequest
from neuromas.workflows.opened import check_level, opened


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured; its text is what ``neuromas eval`` prints, ``document`` what it writes with ``--json``."""

    document: dict[str, Any]

    @property
    def accuracy(self) -> dict[str, float]:
        """Mean reward, ``greedy`` and, where asked for, ``sampled``, 0 to 1."""
        return {mode: float(figure["value"]) for mode, figure in self.document["accuracy"].items()}

    def __str__(self) -> str:
        lines = [f"accuracy, {mode + ':':<10}{share(figure)}" for mode, figure in self.document["accuracy"].items()]
        lines.append("what the nodes say (greedy):")
        for role in self.document["roles"]:
            said = ", ".join(f"{entry['label']} {percent(entry['share'])}" for entry in role["said"][:3])
            stated = said or "nothing the task can read"
            lines.append(f"  {role['node']:<12}{stated}; correct {percent(role['correct'])}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the text as a notebook shows it."""
        return element("pre", str(self))


def evaluate(
    source: Path | str,
    *,
    examples: int | None = None,
    level: int | None = None,
    sampled: bool = False,
    engine: EngineType | None = None,
    runtime: Literal["ray", "local"] | None = None,
    on_event: Observer | None = None,
    show_worker_logs: bool = False,
) -> Measurement:
    """Measure a trained graph on test questions.

    Args:
        source: a run folder or a checkpoint.
        examples: questions at most; None = the run's own number.
        level: task level; None = the task's target.
        sampled: also sample, at the run's temperature.
        engine: None = the run's own.
        runtime: None = the run's own.
        on_event: told what goes on; None = lines on stderr.
        show_worker_logs: copy what other processes print to this one.

    Raises:
        CheckpointError: there is no checkpoint, or it is altered.
        SpecError: the base, the task or the engine do not fit, with all reasons.
        NeuroMASError: the evaluation failed.
    """
    trained = find_trained(Path(source)).on_machine(engine, runtime)
    check_level(trained.spec, level)
    examples = examples or trained.spec.evaluation.examples
    found: dict[str, Evaluation] = {}
    with shown(on_event) as tell, opened(trained.as_run(), tell, show_worker_logs=show_worker_logs) as started:
        for mode in ("greedy", "sampled") if sampled else ("greedy",):
            tell(Phase(name=f"measuring {trained.checkpoint}, {mode}, up to {examples} test questions"))
            request = EvaluationRequest(trained.checkpoint, level, examples, "test", greedy=mode == "greedy")
            found[mode] = started.evaluate(request)
    return Measurement(
        {
            "checkpoint": str(trained.checkpoint),
            "level": level,
            "accuracy": {mode: evaluation.accuracy.to_document() for mode, evaluation in found.items()},
            "roles": [asdict(role) for role in found["greedy"].roles],
        }
    )
