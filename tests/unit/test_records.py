"""Records: what may change in one, and the moves that it makes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from stored import a_run, an_evaluation

from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.cluster import ClusterRecord
from neuromas.services.records.endpoint import EndpointRecord, EndpointState
from neuromas.services.records.evaluation import EvaluationRecord, EvaluationState
from neuromas.services.records.key import KeyRecord, KeyState
from neuromas.services.records.record import Record
from neuromas.services.records.run import ENDED, RunRecord, RunState
from neuromas.services.records.topology import TopologyRecord

KINDS = [RunRecord, EndpointRecord, EvaluationRecord, CheckpointRecord, KeyRecord, ClusterRecord, TopologyRecord]
STATES = {
    RunRecord: set(RunState),
    EndpointRecord: set(EndpointState),
    EvaluationRecord: set(EvaluationState),
    KeyRecord: set(KeyState),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_may_change_is_there_and_not_the_stores_own(kind: type[Record]) -> None:
    assert kind.updatable <= kind.model_fields.keys()
    assert kind.updatable.isdisjoint({"id", "version", "created", "sequence"})


@pytest.mark.parametrize("kind", STATES, ids=lambda kind: kind.__name__)
def test_every_state_can_be_reached_from_the_first(kind: type[Record]) -> None:
    first = kind.model_fields["state"].default
    reached, new = {first}, {first}
    while new:
        new = {state for start in new for state in kind.moves.get(start, ())} - reached
        reached |= new
    assert reached == STATES[kind]


def test_nothing_leaves_an_end() -> None:
    assert {state for state in RunState if not RunRecord.moves.get(state)} == ENDED
    ends = {state for state in EvaluationState if not EvaluationRecord.moves.get(state)}
    assert ends == {"succeeded", "failed", "cancelled"}
    assert {state for state in EvaluationState if an_evaluation(state=state).has_ended} == ends
    assert not KeyRecord.moves.get(KeyState.REVOKED)


def test_a_record_is_not_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        a_run().state = RunState.RUNNING


@pytest.mark.parametrize("values", [{"id": ""}, {"id": 7}, {"created": 1.5}, {"created": -1}, {"state": "asleep"}])
def test_a_record_without_a_proper_id_time_or_state_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        a_run(**{"id": "run_1", **values})
