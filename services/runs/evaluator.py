"""Process of one evaluation, started as a Ray Job: ``python -m neuromas.services.runs.evaluator EVALUATION JOB``."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Final

from neuromas.checkpoints.trained import TrainedCheckpoint, find_trained
from neuromas.cluster.runtime import Runtime
from neuromas.errors import NeuroMASError, writing
from neuromas.journal.events import ignore
from neuromas.services.children import PRIVATE_UMASK
from neuromas.services.logs import set_up_logging
from neuromas.services.records.evaluation import EvaluationRecord, EvaluationState, EvaluationUpdate
from neuromas.services.records.failure import Failure
from neuromas.services.runs.heartbeat import persistently
from neuromas.services.runs.lineage import checkpoint_folder
from neuromas.services.settings import Settings, load_settings
from neuromas.services.store.base import ConflictError, Document, Store
from neuromas.services.store.open import open_store
from neuromas.studies.analyze import AnalysisStudy
from neuromas.studies.diagnose import CALLS, QUESTIONS, DiagnosisStudy
from neuromas.topology.graph import Topology
from neuromas.training.evaluate import Evaluation, EvaluationRequest
from neuromas.workflows.opened import opened

logger = logging.getLogger(__name__)
STOPPED: Final = 128 + signal.SIGTERM
"""Exit code of an evaluation that was given up."""


def main(arguments: list[str]) -> int:
    """Evaluate and return the exit code: 0 when the record says what was found, or why nothing was."""
    id, job = arguments
    os.umask(PRIVATE_UMASK)
    signal.signal(signal.SIGTERM, _leave)
    settings = load_settings()
    set_up_logging(settings.log_level, "json")
    found = asyncio.run(_read(settings, id, job))
    if found is None:
        logger.warning("the evaluation is not this job's", extra={"evaluation": id})
        return 0
    asyncio.run(_write(settings, id, _outcome(settings, *found)))
    return 0


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End this process as an exit does, so that its scratch folder and its workers go with it."""
    sys.exit(STOPPED)


async def _read(settings: Settings, id: str, job: str) -> tuple[EvaluationRecord, Path] | None:
    """Return the record and the checkpoint's folder; None where another job has the evaluation, or nobody."""
    store = open_store(settings)

    async def read() -> tuple[EvaluationRecord, Path] | None:
        record = await store.get(EvaluationRecord, id)
        if record.state != EvaluationState.RUNNING or record.job != job:
            return None
        return record, await checkpoint_folder(store, settings.data_dir, record.checkpoint)

    try:
        return await persistently(read)
    except NeuroMASError as error:
        await _end(store, id, _failure(error.code, str(error)))
        return None
    finally:
        await store.close()


async def _write(settings: Settings, id: str, update: EvaluationUpdate) -> None:
    store = open_store(settings)
    try:
        await _end(store, id, update)
    finally:
        await store.close()


async def _end(store: Store, id: str, update: EvaluationUpdate) -> None:
    async def move() -> None:
        try:
            await store.update(EvaluationRecord, id, update, states=[EvaluationState.RUNNING])
        except ConflictError:
            return  # given up meanwhile, or told before by an answer that was lost on its way

    await persistently(move)


def _outcome(settings: Settings, record: EvaluationRecord, folder: Path) -> EvaluationUpdate:
    # Shared with the other machines of the cluster, unlike a temporary folder of this one.
    scratch = settings.evaluations_dir / record.id
    try:
        with writing(scratch):
            scratch.mkdir(parents=True, exist_ok=True)
        result = measure(find_trained(folder), record, scratch)
    except NeuroMASError as error:
        return _failure(error.code, str(error))
    except Exception as error:  # the process's boundary: a crash is told like any other end
        logger.exception("the evaluation crashed")
        return _failure("internal", f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {"state": EvaluationState.SUCCEEDED, "result": result, "ended": time.time()}


def _failure(code: str, message: str) -> EvaluationUpdate:
    error = Failure(code=code, message=message)
    return {"state": EvaluationState.FAILED, "error": error, "ended": time.time()}


def measure(trained: TrainedCheckpoint, record: EvaluationRecord, scratch: Path) -> Document:
    """Return what an evaluation is to find out about a checkpoint.

    Of an accuracy these are figures named as in a run's ``result.json``; else what ``neuromas analyze`` or ``neuromas
    diagnose`` gives.

    Args:
        trained: the checkpoint with its run's spec.
        record: kind and settings, as the evaluation's record has them.
        scratch: folder that every process of the evaluation can write to.

    Raises:
        NeuroMASError: it could not be evaluated.
    """
    examples = record.examples or trained.spec.evaluation.examples
    with opened(trained.as_run(), ignore, scratch=scratch) as runtime:
        match record.kind:
            case "accuracy":
                return _accuracy(runtime, trained, record, examples)
            case "analysis":
                return runtime.study(AnalysisStudy(trained.checkpoint, examples, record.level))
            case "diagnosis":
                questions, calls = record.examples or QUESTIONS, record.calls or CALLS
                return runtime.study(DiagnosisStudy(trained.checkpoint, questions, calls, record.level))


def _accuracy(runtime: Runtime, trained: TrainedCheckpoint, record: EvaluationRecord, examples: int) -> Document:
    sources: dict[str, Path | Topology] = {"": trained.checkpoint}
    if "untrained" in record.baselines:
        sources["untrained"] = trained.topology
    modes = ("greedy", "sampled") if record.sampled else ("greedy",)
    found = {
        _name(source, mode): _evaluate(runtime, sources[source], record.level, examples, mode)
        for source in sources
        for mode in modes
    }
    return {
        "accuracy": {name: evaluation.accuracy.to_document() for name, evaluation in found.items()},
        "roles": [asdict(role) for role in found["greedy"].roles],
        "level": record.level,
        "examples": examples,
    }


def _name(source: str, mode: str) -> str:
    """Return greedy, sampled, untrained or untrained_sampled."""
    if not source:
        return mode
    return source if mode == "greedy" else f"{source}_{mode}"


def _evaluate(runtime: Runtime, source: Path | Topology, level: int | None, examples: int, mode: str) -> Evaluation:
    return runtime.evaluate(EvaluationRequest(source, level, examples, "test", greedy=mode == "greedy"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
