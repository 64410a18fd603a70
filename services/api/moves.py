"""Moves that users ask for: of runs (cancel, pause, resume) and of evaluations (cancel), by compare-and-set.

Of two who ask at once both see why one of them is refused.

A run that nobody drives is moved at once. Of one that is driven the wish is written down; its driver stops with a
checkpoint as soon as it can, and the supervisor sees to it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final, Literal

from neuromas.services.api.auth import Caller
from neuromas.services.api.ownership import check_owner
from neuromas.services.api.problems import ApiError
from neuromas.services.records.evaluation import UNFINISHED, EvaluationRecord, EvaluationState, EvaluationUpdate
from neuromas.services.records.run import RunRecord, RunState, RunUpdate, Wanted
from neuromas.services.records.streams import events_stream
from neuromas.services.store.base import ConflictError, Store, StoreUnavailableError

logger = logging.getLogger(__name__)

Verb = Literal["cancel", "pause", "resume"]
_ATTEMPTS: Final = 20

_WISHES: Final[Mapping[Verb, Wanted]] = {"cancel": Wanted.CANCEL, "pause": Wanted.PAUSE, "resume": Wanted.RUN}
_PLACES: Final[Mapping[Verb, RunState]] = {
    "cancel": RunState.CANCELLED,
    "pause": RunState.PAUSED,
    "resume": RunState.QUEUED,
}
_DONE: Final[Mapping[Verb, str]] = {"cancel": "cancelled", "pause": "paused", "resume": "resumed"}


async def move(store: Store, caller: Caller, run_id: str, verb: Verb) -> RunRecord:
    """Carry out a verb, or have it carried out, and return the run.

    Raises:
        MissingError: there is no such run.
        ApiError: the run is another's (403), its state does not allow it, or it changes all the time (409).
    """
    for _ in range(_ATTEMPTS):
        run = await store.get(RunRecord, run_id)
        check_owner(caller, run)
        update = update_for(run, verb)
        try:
            moved = await store.update(RunRecord, run_id, update, version=run.version)
        except ConflictError:
            continue  # its driver gives signs of life: look again
        if "state" in update:
            await tell_state(store, moved)
        return moved
    raise ApiError(409, "conflict", f"run {run_id} changes too quickly now; try again", headers={"Retry-After": "1"})


async def give_up(store: Store, caller: Caller, id: str) -> EvaluationRecord:
    """Give an evaluation up, and return it. The supervisor stops its processes, where it has some.

    Raises:
        MissingError: there is no such evaluation.
        ApiError: it is another's (403), or has ended (409).
    """
    evaluation = await store.get(EvaluationRecord, id)
    check_owner(caller, evaluation)
    update: EvaluationUpdate = {"state": EvaluationState.CANCELLED, "ended": time.time()}
    try:
        return await store.update(EvaluationRecord, id, update, states=UNFINISHED)
    except ConflictError as error:
        ended = (await store.get(EvaluationRecord, id)).state
        raise ApiError(409, "illegal_move", f"evaluation {id} has ended ({ended})", param="state") from error


def update_for(run: RunRecord, verb: Verb) -> RunUpdate:
    """Return what a verb changes in a run.

    Raises:
        ApiError: it is not allowed now; the message says why.
    """
    state, wanted, wish = run.state, run.wanted, _WISHES[verb]
    if run.has_ended:
        raise _illegal(run, verb, f"it has ended ({state}); grow it or submit it again to train on")
    if state == RunState.RUNNING:
        if wanted == wish:
            reason = "it is running" if verb == "resume" else f"it is being {_DONE[verb]} already"
            raise _illegal(run, verb, reason)
        if wanted == Wanted.CANCEL:
            raise _illegal(run, verb, "it is being cancelled")
        return {"wanted": wish}
    if state == _PLACES[verb]:
        raise _illegal(run, verb, f"it is {state}")
    update: RunUpdate = {"wanted": wish, "state": _PLACES[verb]}
    return {**update, "ended": time.time()} if verb == "cancel" else {**update, "error": None}


async def tell_state(store: Store, run: RunRecord) -> None:
    """Append a run's state to its events. The record counts: where the store has just gone away, it stands alone."""
    event = {"type": "state", "state": run.state, "attempt": run.attempt, "message": "", "time_s": time.time()}
    key = f"state/{run.attempt}/{run.state}/{run.version}"
    try:
        await store.append(events_stream(run.id), [(key, event)])
    except StoreUnavailableError as error:
        logger.warning("a state was not told", extra={"run_id": run.id, "reason": str(error)})


def _illegal(run: RunRecord, verb: Verb, reason: str) -> ApiError:
    return ApiError(409, "illegal_move", f"run {run.id} cannot be {_DONE[verb]}: {reason}", param="state")
