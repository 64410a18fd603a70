"""The top of the walk: a whole run, from its spec to its result."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

from neuromas.base.suited import suit_spec
from neuromas.checkpoints.location import list_checkpoints
from neuromas.checkpoints.trained import find_trained
from neuromas.cluster.runtime import Runtime, RuntimeSetup, open_runtime
from neuromas.cluster.setup import WorkerSetup
from neuromas.engines.setup import EngineSetup
from neuromas.errors import CheckpointError, Fault, NeuroMASError, SpecError, StorageError
from neuromas.growth.schedule import ScheduleResult, run_schedule
from neuromas.growth.stage import GrowthNotice
from neuromas.journal.base_record import check_base, record_base
from neuromas.journal.data_record import check_data, record_data
from neuromas.journal.events import Event, Notice, Observer, Phase, RunEnded, RunStarted, ignore
from neuromas.journal.folder import IMPORT_FILE, RESULT_FILE, REWARDS_FILE, SPEC_FILE, RunFolder, RunWriter, locked
from neuromas.run.grafts import lineage_faults
from neuromas.run.interrupts import stopped_by_signal, undisturbed
from neuromas.run.outcome import RunResult
from neuromas.run.parent import Parent
from neuromas.run.preflight import Preflight, check_run, held_out_sizes
from neuromas.run.result import Figures, Seconds, result_document, spec_hash
from neuromas.run.stages import RuntimeStages, StageBook, StageInterruptedError, planned_stages
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec
from neuromas.topology.graph import Topology
from neuromas.training.evaluate import Evaluation, EvaluationRequest

logger = logging.getLogger(__name__)


def run(
    spec: RunSpec,
    out: Path,
    on_event: Observer = ignore,
    *,
    resume: bool = False,
    overwrite: bool = False,
    parent: Parent | None = None,
    show_worker_logs: bool = False,
) -> RunResult:
    """Train a spec, growing the graph where it says so, and return the result.

    Args:
        spec: the run.
        out: the run's folder is ``out/<spec.name>``.
        on_event: told what happens, in this thread.
        resume: go on from the last checkpoint in the folder; a folder without a run is begun, and of a finished
            run only the result is returned.
        overwrite: delete an earlier run in the folder first.
        parent: the checkpoint that the graph of this run was grown from.
        show_worker_logs: copy what actors print to this process.

    Raises:
        SpecError: the run cannot start, with all reasons.
        CheckpointError: the folder is in use, holds something else, or holds another spec than the one to resume.
        StageInterruptedError: SIGINT or SIGTERM came; a checkpoint was written and the run can be resumed.
        NeuroMASError: the run failed.
    """
    began = time.monotonic()
    on_event(Phase(name="checking the spec"))
    spec = suit_spec(spec).spec
    preflight = check_run(spec, find_trained)
    sizes = held_out_sizes(spec, preflight.task)
    if parent is not None:
        _check_joint(spec)
        if faults := lineage_faults(spec, find_trained(parent.checkpoint), parent.plan, find_trained):
            raise SpecError("the run cannot start", faults)
        check_base(RunFolder(parent.checkpoint.resolve().parents[1]), spec.base)
    folder = RunFolder(out / spec.name)
    with locked(folder.path) as lock:
        if resume and (document := _finished(folder, spec)) is not None:
            return RunResult(folder.path, document)
        book = _open_folder(folder, spec, preflight.base.folder, resume=resume, overwrite=overwrite)
        with _told(folder, lock, on_event) as tell:
            resumed = bool(book.outcomes) or book.unfinished()[0] is not None
            tell(
                RunStarted(
                    name=spec.name,
                    spec_hash=spec_hash(spec),
                    topology_hash=spec.topology.content_hash,
                    resumed=resumed,
                )
            )
            for note in preflight.notes:
                tell(Notice(message=note, severity="warning", source="task"))
            setup = RuntimeSetup(spec, folder.path.resolve(), worker_setup(spec, preflight), lock, show_worker_logs)
            runtime = open_runtime(setup, on_event)
            try:
                ready = time.monotonic()
                schedule = _train(spec, preflight, runtime, book, parent, tell)
                trained = time.monotonic()
                figures = _measure(spec, runtime, schedule, sizes.get(None, {}).get("test"), on_event)
            finally:
                with undisturbed():
                    runtime.close()
            seconds = Seconds(
                start_up=round(ready - began, 3),
                train=round(trained - ready, 3),
                evaluation=round(time.monotonic() - trained, 3),
            )
            document = result_document(spec, preflight, schedule, book.outcomes, figures, seconds)
            folder.write_json(REWARDS_FILE, {name: figure.rewards for name, figure in figures.accuracies.items()})
            folder.write_json(RESULT_FILE, document)
            tell(RunEnded(status="succeeded"))
        on_event(Phase(name="writing report.html"))
        _report(folder)
    return RunResult(folder.path, document)


def _check_joint(spec: RunSpec) -> None:
    if spec.training.in_turn:
        message = "got true; a grown graph trains jointly: set it to false"
        raise SpecError("the run cannot start", [Fault("training.in_turn", message)])


def _finished(folder: RunFolder, spec: RunSpec) -> dict[str, Any] | None:
    """Return the result of the same spec where it went to its end in this folder already."""
    if not (folder.path / RESULT_FILE).is_file():
        return None
    document: dict[str, Any] = folder.read_json(RESULT_FILE)
    return document if _is_of(folder, spec) else None


def _is_of(folder: RunFolder, spec: RunSpec) -> bool:
    """Whether a folder's run has this spec, however its file writes it."""
    try:
        return parse_run_spec(folder.read_json(SPEC_FILE)) == spec
    except SpecError:
        return False


def worker_setup(spec: RunSpec, preflight: Preflight) -> WorkerSetup:
    """Return what the run's rollout workers are made of."""
    return WorkerSetup(
        engine=EngineSetup.of(spec, preflight.base.folder),
        slots=preflight.max_adapters,
        prompt=spec.prompt,
        task=spec.task,
    )


def _open_folder(folder: RunFolder, spec: RunSpec, base: Path, *, resume: bool, overwrite: bool) -> StageBook:
    """Make the folder, or take it over where the run left it."""
    if not (resume and folder.is_started):
        folder.create(spec.model_dump(mode="json"), overwrite=overwrite)
        record_base(folder, base)
        record_data(folder, spec.task)
        return StageBook(folder)
    if (folder.path / IMPORT_FILE).is_file() and not list_checkpoints(folder.checkpoints):
        raise CheckpointError(f"{folder.path}: its import was broken off; import again with --overwrite, then resume")
    check_base(folder, spec.base)
    check_data(folder, spec.task)
    if not _is_of(folder, spec):
        raise CheckpointError(
            f"{folder.path / SPEC_FILE} differs from the spec to resume; a run is resumed with the spec it began with "
            "(see the differences there), or begun anew under another name or with --overwrite"
        )
    book = StageBook(folder)
    folder.cut_back(len(book.outcomes), book.unfinished()[1])
    return book


def _train(
    spec: RunSpec, preflight: Preflight, runtime: Runtime, book: StageBook, parent: Parent | None, tell: Observer
) -> ScheduleResult:
    def notify(notice: GrowthNotice) -> None:
        is_warning = notice.kind in ("growth_refused", "growth_without_levels")
        tell(
            Notice(
                message=notice.message,
                severity="warning" if is_warning else "info",
                source=notice.kind,
                data=notice.data,
            )
        )

    runner = RuntimeStages(runtime, book)
    with stopped_by_signal(runtime.request_stop):
        if preflight.controller is None:
            return runner.train_in_order(planned_stages(spec, parent))
        return run_schedule(preflight.controller, spec.topology, runner, notify, spec.prompt.worked_levels)


def _measure(spec: RunSpec, runtime: Runtime, schedule: ScheduleResult, most: int | None, tell: Observer) -> Figures:
    """Evaluate the final graph, trained and untrained, on test questions of the target level, ``most`` in all."""
    checkpoint = schedule.outcome.checkpoint
    examples = spec.evaluation.examples if most is None else min(spec.evaluation.examples, most)

    def evaluate(source: Path | Topology, *, greedy: bool = True, votes: int = 1) -> Evaluation:
        what = "untrained graph" if isinstance(source, Topology) else "trained graph"
        how = "greedy" if greedy else "sampled" if votes == 1 else f"by the vote of {votes} answers"
        tell(Phase(name=f"measuring the {what}, {how}, {examples} questions"))
        return runtime.evaluate(EvaluationRequest(source, None, examples, "test", greedy, votes))

    found, votes = evaluate(checkpoint), spec.evaluation.votes
    return Figures(
        greedy=found.accuracy,
        sampled=evaluate(checkpoint, greedy=False).accuracy,
        untrained=evaluate(schedule.topology).accuracy,
        untrained_sampled=evaluate(schedule.topology, greedy=False).accuracy,
        voted=evaluate(checkpoint, greedy=False, votes=votes).accuracy if votes else None,
        roles=found.roles,
    )


@contextmanager
def _told(folder: RunFolder, lock: str, on_event: Observer) -> Iterator[Observer]:
    """Give an observer that writes events and passes them on; how the run ends is told in any case."""
    writer = RunWriter(folder.path, lock)

    def tell(event: Event) -> None:
        writer(event)
        on_event(event)

    def end(status: Literal["interrupted", "failed"], error: BaseException) -> None:
        ended = RunEnded(status=status, message=str(error))
        for write in (partial(writer, ended), writer.close):
            with suppress(StorageError):  # where the disk is full, the run's own error says so
                write()
        on_event(ended)

    try:
        yield tell
        writer.close()
    except (StageInterruptedError, KeyboardInterrupt) as error:
        end("interrupted", error)
        raise
    except Exception as error:
        end("failed", error)
        raise


def _report(folder: RunFolder) -> None:
    """Write the report; a run does not fail because its report does."""
    try:
        from neuromas.report.page import write_report

        write_report(folder.path)
    except Exception as error:
        logger.warning("there is no report: %s", error, exc_info=not isinstance(error, NeuroMASError))
