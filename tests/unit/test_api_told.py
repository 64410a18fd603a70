"""What is stored, as clients see it: entries as they are stored, records through their views, which are remembered."""

from __future__ import annotations

import json

import pytest
from stored import a_run

from neuromas.services.api.schemas.run import RunView
from neuromas.services.api.told import Telling, told_entry, told_page, told_step
from neuromas.services.records.run import RunRecord, RunState
from neuromas.services.store.base import Document, StoreUnusableError, StreamEntry
from neuromas.services.store.versions import encode

STEP: Document = {"type": "step", "stage": 0, "step": 3, "time_s": 1.5, "metrics": {"a/b": 0.5}}


def stored(run: RunRecord) -> str:
    return encode(run.to_document())


@pytest.mark.parametrize(
    "document", [STEP, {}, {"a": 1}, {"text": 'a "id": in a text'}, {"of": {"id": 9}}, {"text": "ü\x00\n"}]
)
def test_an_entry_is_its_document_with_its_id(document: Document) -> None:
    assert json.loads(told_entry(StreamEntry(17, encode(document)))) == {"id": 17, **document}


def test_a_step_is_told_without_its_type_and_nothing_else_is_a_step() -> None:
    told = told_step(StreamEntry(17, encode(STEP)))
    assert told is not None
    assert json.loads(told) == {"id": 17, "stage": 0, "step": 3, "time_s": 1.5, "metrics": {"a/b": 0.5}}
    assert told_step(StreamEntry(18, encode({"type": "state", "text": '{"type":"step",'}))) is None


def test_a_record_is_told_through_its_view_and_anew_when_it_has_changed() -> None:
    telling, run = Telling(), a_run(job="not for clients", state="running")
    for one in (run, run, run.model_copy(update={"version": 2, "state": RunState.SUCCEEDED})):
        id, body = telling.tell(RunRecord, RunView, stored(one))
        view = RunView.model_validate(one, from_attributes=True)
        assert (id, json.loads(body)) == (run.id, view.model_dump(mode="json"))
        assert "not for clients" not in body


def test_no_more_is_remembered_than_allowed() -> None:
    texts = [stored(a_run(f"run_{number}")) for number in range(9)]
    telling = Telling(most=5 * len(texts[0]))
    first = [telling.tell(RunRecord, RunView, text) for text in texts]
    assert telling.size <= 5 * len(texts[0])
    assert [telling.tell(RunRecord, RunView, text) for text in texts] == first
    nothing = Telling(most=0)
    assert nothing.tell(RunRecord, RunView, texts[0]) == first[0]
    assert nothing.size == 0


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(StoreUnusableError, match="holds a run that cannot be read"):
        Telling().tell(RunRecord, RunView, '{"id":"run_1"}')


def test_a_page_says_where_it_ends() -> None:
    for items, last_id, has_more in (([], None, False), (['{"id":1}', '{"id":"b"}'], "b", True)):
        page = json.loads(bytes(told_page(items, last_id, has_more=has_more).body))
        data = [json.loads(item) for item in items]
        assert page == {"object": "list", "data": data, "has_more": has_more, "last_id": last_id}
