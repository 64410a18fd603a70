"""analyze(): what a trained graph has learned: what each node and edge is worth, what nodes say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuromas.checkpoints.trained import find_trained
from neuromas.display.training import shown
from neuromas.journal.events import Observer
from neuromas.journal.folder import ANALYSIS_FILE
from neuromas.report.markup import element
from neuromas.report.numbers import chance, change, percent
from neuromas.spec.machine import EngineType
from neuromas.studies.analyze import SIGNIFICANT, AnalysisStudy
from neuromas.workflows.kept import keep
from neuromas.workflows.opened import check_level, opened

_ALIKE: Final = 3
_CHANGES: Final = {"cut": "cut off", "shuffled": "of another question", "untrained": "by the bare base"}


@dataclass(frozen=True, slots=True)
class Analysis:
    """What was found; its text is what ``neuromas analyze`` prints, ``document`` what ``analysis.json`` holds."""

    document: dict[str, Any]

    def __str__(self) -> str:
        document = self.document
        lines = [f"greedy accuracy {percent(document['accuracy'])} on {document['examples']} held-out questions", ""]
        lines.append("what each message is worth (change of accuracy in points, 95 % interval):")
        for node in document["nodes"]:
            lines += [_line(f"{node['node']} {_CHANGES[kind]}", entry) for kind, entry in node["changes"].items()]
        lines += [_line(f"edge {entry['change']} silent", entry) for entry in document["edges"]]
        if document["exchanged"] is not None:
            lines.append(_line("adapters, each the next one's", document["exchanged"]))
        lines += ["", "what the nodes say:", *map(_said, document["nodes"])]
        if alike := document["similarity"][:_ALIKE]:
            lines += ["", "most alike adapters (cosine of their updates):"]
            lines += [f"  {', '.join(pair['adapters'])}  {pair['cosine']:+.2f}" for pair in alike]
        if idle := [node["node"] for node in document["nodes"] if node["is_idle"]]:
            limit = f"p > {SIGNIFICANT}"
            lines += ["", f"idle: {', '.join(idle)}: no change of what they say costs accuracy ({limit})"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the text as a notebook shows it."""
        return element("pre", str(self))


def analyze(
    source: Path | str,
    *,
    examples: int | None = None,
    level: int | None = None,
    engine: EngineType | None = None,
    on_event: Observer | None = None,
) -> Analysis:
    """Measure what a trained graph has learned; ``analysis.json`` in its run's folder keeps what was found.

    Where that folder cannot be written, a warning says so.

    Args:
        source: a run folder or a checkpoint.
        examples: held-out questions at most; None = the run's own number.
        level: task level; None = the task's target.
        engine: None = the run's own.
        on_event: told what goes on; None = lines on stderr.

    Raises:
        CheckpointError: there is no checkpoint, or it is altered.
        SpecError: the base, the task or the engine do not fit, with all reasons.
        NeuroMASError: a rollout failed.
    """
    trained = find_trained(Path(source)).on_machine(engine, "local")
    check_level(trained.spec, level)
    study = AnalysisStudy(trained.checkpoint, examples or trained.spec.evaluation.examples, level)
    with shown(on_event) as tell:
        with opened(trained.as_run(), tell) as runtime:
            found = runtime.study(study)
        return Analysis(keep(trained.checkpoint, ANALYSIS_FILE, found, tell))


def _line(label: str, entry: Mapping[str, Any]) -> str:
    effect = entry["effect"]
    gain, low, high, p = (effect[key] for key in ("gain", "low", "high", "p_value"))
    return f"  {label:<30}{change(gain):>6}  [{change(low)}, {change(high)}]  p {chance(p)}"


def _said(node: Mapping[str, Any]) -> str:
    found = node["messages"]
    if found is None:
        return f"  {node['node']:<10}nothing: every rollout failed before it"
    said = ", ".join(f"{label['label']} {percent(label['share'])}" for label in node["says"][:3])
    return (
        f"  {node['node']:<10}{said or 'nothing the task can read'}; correct {percent(node['correct'])}; "
        f"{found['distinct']} different, {found['entropy_bits']:.1f} bits, of the answer {found['answer_bits']:.1f}; "
        f"{found['tokens']:.1f} tokens"
        + (f", {percent(found['cut_share'])} cut" if found["cut_share"] else "")
        + (f"; the base's perplexity {node['perplexity']:.3g}" if node["perplexity"] is not None else "")
    )
