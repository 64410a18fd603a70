"""diagnose(): what training can still move in a graph, by adapter and by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuromas.base.linears import linear_names
from neuromas.base.resolve import resolve_base
from neuromas.base.suited import suit_spec
from neuromas.checkpoints.trained import find_trained
from neuromas.display.training import shown
from neuromas.journal.events import Observer
from neuromas.journal.folder import DIAGNOSIS_FILE
from neuromas.report.markup import element
from neuromas.report.numbers import percent
from neuromas.spec.machine import EngineType
from neuromas.spec.run import RunSpec
from neuromas.studies.diagnose import CALLS, QUESTIONS, DiagnosisStudy
from neuromas.workflows.kept import keep
from neuromas.workflows.opened import check_level, opened

_PAIRS: Final = 5


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found; its text is what ``neuromas diagnose`` prints, ``document`` what ``diagnosis.json`` holds."""

    document: dict[str, Any]

    def __str__(self) -> str:
        found = self.document
        lines = [
            f"{found['questions_with_signal']} of {found['questions']} questions have both better and worse answers:",
            "the others move nothing",
            "",
            "  adapter        push  alignment  effective rank  condition  from linear",
            *map(_line, found["adapters"]),
            "",
            "push: what a step of rate 1 along the advantages adds to the expected reward, to first order;",
            "alignment: which share of what the adapter can move lies along the advantages (by chance 1 / messages);",
            "from linear: how far training went beyond its first order (0: not at all)",
            "",
            "where the push comes from, and the layers that hold nine tenths of it:",
            *map(_places, found["adapters"]),
        ]
        if found["targets"]:
            lines.append(f"  all of them: adapter.targets = {_listed(found['targets'])}")
        if found["grow_from"]:
            lines += ["", f"grow from: {', '.join(found['grow_from'])}: the reward can still move them most"]
        if found["inert"]:
            inert = ", ".join(found["inert"])
            lines += ["", f"inert: {inert}: training hardly moves them; start anew those that `analyze` calls idle"]
        if overlap := [pair for pair in found["overlap"] if pair["share"] > 0][:_PAIRS]:
            lines += ["", "how much of an adapter's update lies in the span of another's:"]
            lines += [f"  {pair['of']} in {pair['within']}  {percent(pair['share'])}" for pair in overlap]
        return "\n".join([*lines, "", "these are heuristics: whether what they prefer learns more is to be measured"])

    def _repr_html_(self) -> str:
        """Return the text as a notebook shows it."""
        return element("pre", str(self))


def diagnose(
    source: Path | str | RunSpec,
    *,
    questions: int = QUESTIONS,
    calls: int = CALLS,
    level: int | None = None,
    engine: EngineType | None = None,
    on_event: Observer | None = None,
) -> Diagnosis:
    """Measure what training can move: in a trained graph, or in one before its first step with adapters on all layers.

    Of a trained graph ``diagnosis.json`` in its run's folder keeps what was found.

    Args:
        source: a run folder or a checkpoint; or a run's spec, whose ``adapter.targets`` are then to be chosen.
        questions: validation questions at most, each asked as often as in training.
        calls: messages of each adapter at most; its kernel has a row and a column for each.
        level: task level; None = the task's target.
        engine: None = the run's own.
        on_event: told what goes on; None = lines on stderr.

    Raises:
        CheckpointError: there is no checkpoint, or it is altered.
        SpecError: the base, the task or the engine do not fit, with all reasons.
        NeuroMASError: a rollout failed.
    """
    checkpoint: Path | None = None
    if isinstance(source, RunSpec):
        spec = with_all_layers(suit_spec(source).spec)
    else:
        trained = find_trained(Path(source))
        spec, checkpoint = trained.as_run(), trained.checkpoint
    check_level(spec, level)
    with shown(on_event) as tell:
        with opened(spec.on_machine(engine, "local"), tell) as runtime:
            found = runtime.study(DiagnosisStudy(checkpoint, questions, calls, level))
        return Diagnosis(found if checkpoint is None else keep(checkpoint, DIAGNOSIS_FILE, found, tell))


def with_all_layers(spec: RunSpec) -> RunSpec:
    """Return a spec whose adapters sit on every linear layer of its base, without its growth.

    Raises:
        BaseModelError: the base cannot be read.
    """
    every = {"targets": tuple(linear_names(resolve_base(spec.base)))}
    groups = {
        name: group.model_copy(update={"adapter": group.adapter.model_copy(update=every)})
        for name, group in spec.node_groups.items()
    }
    adapter = spec.adapter.model_copy(update=every)
    return spec.model_copy(update={"adapter": adapter, "node_groups": groups, "growth": None})


def _line(adapter: Mapping[str, Any]) -> str:
    alignment, gap = adapter["alignment"], adapter["linearity_gap"]
    return (
        f"  {adapter['adapter']:<10}{adapter['push']:>9.2g}{'none' if alignment is None else percent(alignment):>11}"
        f"{adapter['effective_rank']:>11.1f} of {adapter['calls']:<3}{adapter['condition']:>8.1e}"
        f"{'unchanged' if gap is None else f'{gap:.2f}':>13}"
    )


def _places(adapter: Mapping[str, Any]) -> str:
    total = adapter["push"]
    shares = [f"{name} {percent(push / total)}" for name, push in adapter["suffixes"].items()] if total else []
    target = f"; target {', '.join(adapter['targets'])}" if shares else ""
    return f"  {adapter['adapter']:<10}{', '.join(shares) or 'no signal'}{target}"


def _listed(names: list[str]) -> str:
    return f"[{', '.join(f'{chr(34)}{name}{chr(34)}' for name in names)}]"
