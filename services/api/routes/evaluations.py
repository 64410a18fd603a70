"""Evaluations: what is found out about checkpoints on held-out examples: accuracy, what nodes do, what can be moved."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Request, Response

from neuromas.services.api.auth import Reader, Trainer
from neuromas.services.api.body import Body, parse_body
from neuromas.services.api.described import KEYED, errors, takes
from neuromas.services.api.moves import give_up
from neuromas.services.api.ownership import owned_by
from neuromas.services.api.paging import MAX_ID, After, Limit, Text, listing
from neuromas.services.api.quota import EVALUATIONS, room_for
from neuromas.services.api.references import find_checkpoint
from neuromas.services.api.route import router
from neuromas.services.api.schemas.artifact import EvaluationRequest, EvaluationView
from neuromas.services.api.schemas.view import Listing
from neuromas.services.api.service import Serviced, fresh_id
from neuromas.services.api.studied import check_study
from neuromas.services.records.evaluation import EvaluationKind, EvaluationRecord, EvaluationState

routes = router("evaluations")
EvaluationId = Annotated[
    str, Path(description="Id of an evaluation.", max_length=MAX_ID, examples=["eval_0123456789abcdef"])
]


@routes.post(
    "/evaluations",
    status_code=202,
    response_model=EvaluationView,
    responses=errors(404, body=True),
    openapi_extra=takes("EvaluationRequest"),
)
async def evaluate(caller: Trainer, service: Serviced, request: Request, document: Body) -> EvaluationRecord:
    """Queue an evaluation of a checkpoint."""
    wish = parse_body(EvaluationRequest, document, "the evaluation")
    checkpoint = await find_checkpoint(service.store, wish.checkpoint)
    await check_study(service, wish.kind, checkpoint)
    record = EvaluationRecord(
        id=fresh_id(request, "eval"),
        checkpoint=checkpoint.id,
        run=checkpoint.run,
        kind=wish.kind,
        examples=wish.examples,
        level=wish.level,
        sampled=wish.sampled and wish.kind == "accuracy",
        baselines=wish.baselines,
        calls=wish.calls,
        **owned_by(caller),
    )
    async with room_for(EVALUATIONS, service, caller, record.id):
        stored, _ = await service.store.create(record)
    return stored


@routes.get("/evaluations", response_model=Listing[EvaluationView], responses=errors(400))
async def list_evaluations(
    _: Reader,
    service: Serviced,
    after: After = None,
    limit: Limit = 20,
    state: Annotated[EvaluationState | None, Query(description="Only evaluations in this state.")] = None,
    kind: Annotated[EvaluationKind | None, Query(description="Only evaluations of this kind.")] = None,
    run: Text = None,
    checkpoint: Text = None,
) -> Response:
    """List evaluations, newest first."""
    where = {"state": state, "kind": kind, "run": run, "checkpoint": checkpoint}
    return await listing(service, EvaluationRecord, EvaluationView, where, after, limit)


@routes.get("/evaluations/{evaluation_id}", response_model=EvaluationView, responses=errors(404))
async def read_evaluation(_: Reader, service: Serviced, evaluation_id: EvaluationId) -> EvaluationRecord:
    """Read an evaluation, with its figures once it has succeeded."""
    return await service.store.get(EvaluationRecord, evaluation_id)


@routes.post(
    "/evaluations/{evaluation_id}/cancel",
    response_model=EvaluationView,
    responses=errors(400, 404, 409),
    openapi_extra=KEYED,
)
async def cancel_evaluation(caller: Trainer, service: Serviced, evaluation_id: EvaluationId) -> EvaluationRecord:
    """Give an evaluation up; its processes end within seconds."""
    return await give_up(service.store, caller, evaluation_id)
