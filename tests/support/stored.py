"""Records for a store under test, complete but for what a test is about."""

from __future__ import annotations

from typing import Any

from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.endpoint import EndpointRecord
from neuromas.services.records.evaluation import EvaluationRecord
from neuromas.services.records.run import RunRecord


def a_run(id: str = "run_1", **values: Any) -> RunRecord:
    """Return a run, queued where it is not said otherwise."""
    given = {"name": "tiny", "spec": {}, "task": "chain", "base": "tiny", "topology": "topo_1", "owner": "local"}
    return RunRecord.model_validate({"id": id, **given, **values})


def an_endpoint(id: str = "ep_1", **values: Any) -> EndpointRecord:
    """Return an endpoint, being deployed where it is not said otherwise."""
    given = {"name": "graph", "checkpoint": "ckpt_1", "run": "run_1", "owner": "local"}
    return EndpointRecord.model_validate({"id": id, **given, **values})


def an_evaluation(id: str = "eval_1", **values: Any) -> EvaluationRecord:
    """Return an evaluation, queued where it is not said otherwise."""
    given = {"checkpoint": "ckpt_1", "run": "run_1", "owner": "local"}
    return EvaluationRecord.model_validate({"id": id, **given, **values})


def a_checkpoint(id: str = "ckpt_1", **values: Any) -> CheckpointRecord:
    """Return a checkpoint of run_1."""
    given = {"run": "run_1", "stage": 0, "step": 1, "path": f"runs/run_1/tiny/kept/{id}"}
    return CheckpointRecord.model_validate({"id": id, **given, **values})
