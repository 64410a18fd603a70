"""analyze(): what a trained graph has learned: what each node and edge is worth, what nodes say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.checkpoints.trained import TrainedCheckpoint, find_trained
from neuromas.cluster.threads import serving_share, set_threads
from neuromas.display.training import shown
from neuromas.journal.events import Observer, Phase
from neuromas.journal.folder import ANALYSIS_FILE, RunFolder
from neuromas.report.markup import element
from neuromas.report.numbers import chance, change, percent
from neuromas.report.page import write_report
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import LocalRolloutClient
from neuromas.rollout.record import Provenance
from neuromas.run.preflight import check_run
from neuromas.run.run import worker_setup
from neuromas.studies import analyze as study
from neuromas.studies.similarity import closest
from neuromas.tasks.base import Task
from neuromas.tasks.held_out import held_out
from neuromas.tasks.registry import make_task

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
        if alike := closest(document["similarity"])[:_ALIKE]:
            lines += ["", "most alike adapters (cosine of their updates):"]
            lines += [f"  {one}, {other}  {cosine:+.2f}" for one, other, cosine in alike]
        if idle := [node["node"] for node in document["nodes"] if node["is_idle"]]:
            limit = f"p > {study.SIGNIFICANT}"
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
    engine: Literal["vllm", "transformers"] | None = None,
    on_event: Observer | None = None,
) -> Analysis:
    """Measure what a trained graph has learned; ``analysis.json`` in its run's folder keeps what was found.

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
    with shown(on_event) as tell:
        tell(Phase(name="importing torch, loading the adapters"))
        loras = load_adapters(trained)
        tell(Phase(name="importing and starting the engine"))
        client, refs = open_client(trained, loras)
        try:
            task = make_task(trained.spec.task, trained.spec.seed)
            batch = _batch(trained, task, refs, level, examples or trained.spec.evaluation.examples)
            found = study.analyze(client, batch, task, loras, _progress(tell, batch))
        finally:
            client.close()
    document = {"checkpoint": str(trained.checkpoint), "level": level, **found}
    folder = RunFolder(trained.checkpoint.resolve().parents[1])
    folder.write_json(ANALYSIS_FILE, document)
    write_report(folder.path)
    return Analysis(document)


def open_client(
    trained: TrainedCheckpoint, loras: Mapping[str, PlainLora]
) -> tuple[LocalRolloutClient, dict[str, AdapterRef | None]]:
    """Return a client of an engine in this process that holds the adapters, and their versions by name.

    Raises:
        SpecError: the base or the engine do not fit, with all reasons.
    """
    spec = trained.as_run()
    setup = worker_setup(spec, check_run(spec, find_trained, ("test",)))
    set_threads(serving_share(spec.engine.threads).count())
    refs = {name: AdapterRef(name, 0, spec.name) for name in loras}
    client = LocalRolloutClient(setup.make())
    client.publish({refs[name]: lora for name, lora in loras.items()})
    return client, dict(refs)


def load_adapters(trained: TrainedCheckpoint) -> Mapping[str, PlainLora]:
    """Return the adapters of a trained graph by name."""
    from neuromas.base.resolve import resolve_base
    from neuromas.checkpoints.servable import plain_loras

    spec = trained.spec
    return plain_loras(trained.checkpoint, resolve_base(spec.base), spec.adapters, spec.seed)


def _batch(
    trained: TrainedCheckpoint, task: Task, refs: Mapping[str, AdapterRef | None], level: int | None, examples: int
) -> RolloutBatch:
    spec = trained.spec
    return RolloutBatch(
        topology=trained.topology,
        examples=held_out(task, level, examples, "test"),
        group_size=1,
        adapters=refs,
        sampling=spec.sampling,
        greedy=True,
        seed=spec.evaluation.seed,
        provenance=Provenance(spec.name, 0, 0),
        task=task,
    )


def _progress(tell: Observer, batch: RolloutBatch) -> Callable[[str], None]:
    done, runs, questions = 0, study.num_changes(batch), len(batch.examples)

    def note(what: str) -> None:
        nonlocal done
        done += 1
        tell(Phase(name=f"asking {questions} held-out questions (time {done} of {runs}; last: {what})"))

    tell(Phase(name=f"asking {questions} held-out questions (time 0 of {runs})"))
    return note


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
        f"{found['tokens']:.1f} tokens" + (f", {percent(found['cut_share'])} cut" if found["cut_share"] else "")
    )
