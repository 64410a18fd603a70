"""One suite over both stores, SQLite and a real Redis: documents, lists, leases, answers and counters."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from store_place import StorePlace, until
from stored import a_run, an_endpoint, an_evaluation

from neuromas.services.records.endpoint import EndpointRecord
from neuromas.services.records.evaluation import EvaluationRecord
from neuromas.services.records.run import RunRecord
from neuromas.services.store.base import ConflictError, MissingError, Store

pytestmark = pytest.mark.anyio
AGES_S = 1e9
"""A window that does not end while a test runs: they begin at multiples of their length."""
NO_TIME_S = 0.2
"""Time to live in tests of expiry; long enough for the calls that must come before it."""


async def make_runs(store: Store, *ids: str, created: int = 1_000, **values: Any) -> None:
    for id in ids:
        await store.create(a_run(id, created=created, **values))


async def ids(store: Store, **given: Any) -> list[str]:
    return [record.id for record in (await store.list(RunRecord, **given)).items]


# Documents


async def test_a_new_document_gets_version_state_and_time(store: Store) -> None:
    before = int(time.time())
    run = a_run(spec={"deep": [1, {}, [], None, "ü\x00"]}, version=7)
    stored, is_new = await store.create(run)
    assert is_new
    assert before <= stored.created <= time.time()
    assert stored == run.model_copy(update={"version": 1, "sequence": 1, "state": "queued"})
    assert await store.get(RunRecord, "run_1") == stored


async def test_texts_are_the_documents_of_a_list(store: Store) -> None:
    await make_runs(store, "run_1", "run_2", "run_3", name="same", topology="t")
    await make_runs(store, "run_4", name="other", topology="t")
    both = {"name": "same", "topology": "t"}
    for given in ({}, {"limit": 2}, {"where": {"name": "same"}, "limit": 2}, {"where": both}):
        page, texts = await store.list(RunRecord, **given), await store.texts(RunRecord, **given)
        assert [RunRecord.model_validate_json(text) for text in texts.items] == list(page.items)
        assert texts.has_more == page.has_more
    with pytest.raises(MissingError):
        await store.texts(RunRecord, after="run_9")


async def test_creating_twice_is_creating_once(store: Store) -> None:
    first, _ = await store.create(a_run(name="first"))
    again, is_new = await store.create(a_run(name="second"))
    assert (again, is_new) == (first, False)
    assert (await store.list(RunRecord)).items == (first,)


async def test_what_is_given_and_what_is_returned_are_the_callers_own(store: Store) -> None:
    given = a_run(spec={"nodes": ["a", "b"]})
    made, _ = await store.create(given)
    given.spec["nodes"] = made.spec["nodes"] = "changed"
    result = {"roles": ["a"]}
    changed = await store.update(RunRecord, "run_1", {"result": result})
    result["roles"] = []
    assert (changed.spec, changed.result) == ({"nodes": ["a", "b"]}, {"roles": ["a"]})


async def test_kinds_are_apart(store: Store) -> None:
    await store.create(a_run("x"))
    with pytest.raises(MissingError, match="there is no endpoint 'x'"):
        await store.get(EndpointRecord, "x")
    assert (await store.list(EndpointRecord)).items == ()


async def test_values_without_a_word_in_json_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON"):
        await store.create(a_run(spec={"loss": float("nan")}))
    with pytest.raises(ValueError, match="JSON"):
        await store.append("s", [("a", {"n": 1}), ("b", {"loss": float("inf")})])
    assert await store.read("s") == []


async def test_an_update_replaces_keys_and_raises_the_version(store: Store) -> None:
    await make_runs(store, "run_1", state="queued", progress={"step": 1})
    run = await store.update(RunRecord, "run_1", {"progress": {"steps": 9}, "error": None})
    assert run == a_run(created=1_000, sequence=1, version=2, progress={"steps": 9})
    assert await store.get(RunRecord, "run_1") == run


async def test_a_move_happens_only_from_the_states_it_is_meant_for(store: Store) -> None:
    await make_runs(store, "run_1", state="queued")
    moved = await store.update(RunRecord, "run_1", {"state": "running"}, states=["queued", "paused"])
    with pytest.raises(ConflictError, match="run_1 is running; this needs it to be queued or paused"):
        await store.update(RunRecord, "run_1", {"state": "failed"}, states=["queued", "paused"])
    assert await store.get(RunRecord, "run_1") == moved


async def test_a_move_that_records_of_its_kind_do_not_make_is_refused(store: Store) -> None:
    await make_runs(store, "run_1", state="paused")
    with pytest.raises(ConflictError, match="run run_1 is paused; it cannot become succeeded"):
        await store.update(RunRecord, "run_1", {"state": "succeeded"})
    assert (await store.update(RunRecord, "run_1", {"state": "paused", "attempt": 1})).version == 2, "it stays there"
    assert await ids(store, where={"state": "paused"}) == ["run_1"]


async def test_a_value_that_a_field_cannot_have_is_refused(store: Store) -> None:
    await make_runs(store, "run_1")
    for change in ({"state": "asleep"}, {"attempt": "many"}, {"error": "broken"}, {"accuracy": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(change))):
            await store.update(RunRecord, "run_1", change)
    assert (await store.get(RunRecord, "run_1")).version == 1


async def test_a_change_meant_for_another_version_is_refused(store: Store) -> None:
    await make_runs(store, "run_1")
    await store.update(RunRecord, "run_1", {"attempt": 1}, version=1)
    with pytest.raises(ConflictError, match="at version 2; this was meant for version 1"):
        await store.update(RunRecord, "run_1", {"attempt": 2}, version=1)
    assert (await store.get(RunRecord, "run_1")).attempt == 1


@pytest.mark.parametrize("key", ["id", "version", "created", "sequence", "owner", "spec", "colour"])
async def test_what_does_not_change_cannot_be_changed(store: Store, key: str) -> None:
    await make_runs(store, "run_1")
    with pytest.raises(ValueError, match=f"^{key} of .* cannot be changed"):
        await store.update(RunRecord, "run_1", {key: 5})


async def test_of_many_movers_one_moves(store: Store) -> None:
    await make_runs(store, "run_1", state="queued")
    moves = [store.update(RunRecord, "run_1", {"state": "running", "attempt": n}, states=["queued"]) for n in range(20)]
    done = await asyncio.gather(*moves, return_exceptions=True)
    (winner,) = [document for document in done if isinstance(document, RunRecord)]
    assert await store.get(RunRecord, "run_1") == winner
    assert sum(isinstance(error, ConflictError) for error in done) == 19


async def test_changes_of_different_keys_at_once_are_all_kept(store: Store) -> None:
    await make_runs(store, "run_1")
    fields = ("attempt", "failures", "started", "ended", "heartbeat", "accuracy")
    await asyncio.gather(*(store.update(RunRecord, "run_1", {field: n}) for n, field in enumerate(fields, start=1)))
    run = await store.get(RunRecord, "run_1")
    assert [getattr(run, field) for field in fields] == [1, 2, 3, 4, 5, 6]
    assert run.version == 7


async def test_a_deleted_document_is_gone_from_everywhere(store: Store) -> None:
    await make_runs(store, "run_1", "run_2", owner="me", state="queued")
    assert await store.delete(RunRecord, "run_1")
    assert not await store.delete(RunRecord, "run_1")
    with pytest.raises(MissingError):
        await store.get(RunRecord, "run_1")
    with pytest.raises(MissingError):
        await store.update(RunRecord, "run_1", {"attempt": 1})
    assert await ids(store) == await ids(store, where={"owner": "me", "state": "queued"}) == ["run_2"]
    assert (await store.create(a_run()))[0].version == 1


# Lists


async def test_documents_are_numbered_as_they_are_made(store: Store, place: StorePlace) -> None:
    async def number(store: Store, record: RunRecord | EvaluationRecord) -> int:
        return (await store.create(record))[0].sequence

    beside = place.open()
    assert await number(store, a_run("z")) == 1
    assert await number(beside, a_run("a", sequence=99)) == 2, "only the store numbers"
    assert await number(store, an_evaluation("a")) == 3
    assert await number(beside, a_run("z")) == 1, "it is there already"
    assert (await store.update(RunRecord, "a", {"state": "running"})).sequence == 2
    await store.delete(EvaluationRecord, "a")
    assert await number(beside, a_run("b")) == 4, "no number is used again"
    await beside.close()


async def test_lists_are_newest_first_and_equal_times_as_they_were_made(store: Store) -> None:
    for id, created in [("a", 5), ("b:1", 5), ("aa", 5), ("c", 4), ("d", 1_795_000_000), ("e", 90)]:
        await store.create(a_run(id, created=created))
    assert await ids(store) == ["d", "e", "aa", "b:1", "a", "c"]


@pytest.mark.parametrize("where", [None, {"owner": "me"}, {"owner": "me", "state": "queued"}, {"base": "red"}])
async def test_pages_join_to_the_whole_list(store: Store, where: dict[str, str] | None) -> None:
    for n in range(23):
        values = {"owner": "me", "state": "queued", "base": "red"}
        await make_runs(store, f"mine_{n:02d}", created=100 + n // 4, **values)
        await make_runs(store, f"other_{n:02d}", created=100 + n // 4, owner="you", state="queued")
    whole = [id for id in await ids(store, limit=1000) if where is None or id.startswith("mine")]
    assert len(whole) == (46 if where is None else 23)
    seen, after = [], None
    while True:
        page = await store.list(RunRecord, where=where, after=after, limit=5)
        seen += [record.id for record in page.items]
        assert page.has_more == (len(seen) < len(whole))
        if not page.has_more:
            break
        after = page.items[-1].id
    assert seen == whole


async def test_new_documents_do_not_shift_a_list_that_is_being_read(store: Store) -> None:
    await make_runs(store, *"abcdef", created=10)
    first = await store.list(RunRecord, limit=3)
    await make_runs(store, *"uvwxyz", created=11)
    await store.delete(RunRecord, "c")
    rest = await ids(store, after="d")
    assert [record.id for record in first.items] + rest == ["f", "e", "d", "b", "a"]


async def test_lists_follow_changes_of_state(store: Store) -> None:
    await make_runs(store, "a", "b", "c", state="queued", owner="me")
    await store.update(RunRecord, "b", {"state": "running"})
    assert await ids(store, where={"state": "queued"}) == ["c", "a"]
    assert await ids(store, where={"state": "running"}) == ["b"]
    assert await ids(store, where={"state": "queued", "owner": "me"}) == ["c", "a"]


async def test_lists_follow_changes_of_other_fields(store: Store) -> None:
    await store.create(an_endpoint("ep_1", owner="me"))
    await store.create(an_endpoint("ep_2", owner="me"))
    await store.update(EndpointRecord, "ep_2", {"owner": "you", "checkpoint": "ckpt_2"})
    page = await store.list(EndpointRecord, where={"owner": "me"})
    assert [record.id for record in page.items] == ["ep_1"]
    page = await store.list(EndpointRecord, where={"checkpoint": "ckpt_2", "owner": "you"})
    assert [record.id for record in page.items] == ["ep_2"]


async def test_a_tally_counts_each_state_and_follows_moves_and_deletions(store: Store) -> None:
    states = ["queued", "running", "paused"]
    assert await store.tally(RunRecord, states) == {"queued": 0, "running": 0, "paused": 0}
    await make_runs(store, "a", "b", "c", "d", state="queued")
    await make_runs(store, "e", state="failed")
    await store.create(an_evaluation("x", state="queued"))
    await store.update(RunRecord, "a", {"state": "running"})
    await store.delete(RunRecord, "b")
    assert await store.tally(RunRecord, states) == {"queued": 2, "running": 1, "paused": 0}
    assert await store.tally(RunRecord, []) == {}


async def test_a_page_may_begin_after_a_document_that_the_list_no_longer_holds(store: Store) -> None:
    await make_runs(store, "a", "b", "c", state="queued")
    await store.update(RunRecord, "b", {"state": "running"})
    assert await ids(store, where={"state": "queued"}, after="b") == ["a"]


async def test_a_rare_value_of_a_key_without_an_index_is_found_far_down(store: Store) -> None:
    await make_runs(store, "old", created=1, base="red", owner="me")
    for n in range(450):
        await make_runs(store, f"run_{n:03d}", owner="me")
    assert await ids(store, where={"base": "red"}, limit=1) == ["old"]
    assert await ids(store, where={"base": "red", "owner": "me"}) == ["old"]


async def test_a_value_matches_whole_and_as_a_text(store: Store) -> None:
    await make_runs(store, "number", attempt=5)
    await make_runs(store, "odd", name='it\'s "5":*?[x]\\')
    await make_runs(store, "none", job=None)
    assert await ids(store, where={"attempt": "5"}) == []
    assert await ids(store, where={"job": ""}) == []
    assert await ids(store, where={"name": 'it\'s "5":*?[x]\\'}) == ["odd"]
    assert await ids(store, where={"name": ""}) == []


async def test_a_list_of_texts_is_asked_for_one_that_it_holds_whole(store: Store) -> None:
    await make_runs(store, "both", tags=("a", "b"))
    await make_runs(store, "one", tags=("ab",))
    await make_runs(store, "none")
    assert await ids(store, where={"tags": "a"}) == ["both"]
    assert await ids(store, where={"tags": "b", "state": "queued"}) == ["both"]
    assert await ids(store, where={"tags": ""}) == []
    await store.update(RunRecord, "none", {"tags": ("a",)})
    assert await ids(store, where={"tags": "a"}) == ["none", "both"]


async def test_an_unknown_cursor_or_a_wrong_limit_is_refused(store: Store) -> None:
    with pytest.raises(MissingError, match="there is no run 'nobody'"):
        await store.list(RunRecord, after="nobody")
    for limit in (0, 1001):
        with pytest.raises(ValueError, match="allowed are 1 to 1000"):
            await store.list(RunRecord, limit=limit)
        with pytest.raises(ValueError, match="allowed are 1 to 1000"):
            await store.read("s", limit=limit)
    with pytest.raises(ValueError, match="cannot list by"):
        await store.list(RunRecord, where={"x') OR 1=1 --": "y"})
    with pytest.raises(ValueError, match="a run has no such field; did you mean 'state'"):
        await store.list(RunRecord, where={"stat": "queued"})


# Leases, answers, counters


async def test_a_lease_has_one_owner_until_it_is_given_back(store: Store) -> None:
    assert await store.acquire("supervisor", "a", 60)
    assert not await store.acquire("supervisor", "b", 60)
    assert await store.acquire("supervisor", "a", 60)
    await store.release("supervisor", "b")
    assert not await store.acquire("supervisor", "b", 60)
    await store.release("supervisor", "a")
    assert await store.acquire("supervisor", "b", 60)
    assert await store.acquire("other", "a", 60)


async def test_a_lease_that_is_not_renewed_goes_to_the_next(store: Store) -> None:
    began = time.monotonic()
    assert await store.acquire("supervisor", "a", NO_TIME_S)
    await until(lambda: store.acquire("supervisor", "b", 60))
    assert time.monotonic() - began >= NO_TIME_S - 0.05
    assert not await store.acquire("supervisor", "a", 60)


async def test_a_renewed_lease_lasts_from_then_on(store: Store) -> None:
    assert await store.acquire("supervisor", "a", NO_TIME_S)
    assert await store.acquire("supervisor", "a", 60)
    end = time.monotonic() + 2 * NO_TIME_S
    while time.monotonic() < end:
        assert not await store.acquire("supervisor", "b", 60)


async def test_the_first_answer_is_remembered_until_its_time_is_over(store: Store) -> None:
    assert await store.remember("kept", {"n": 1}, AGES_S) == {"n": 1}
    assert await store.remember("kept", {"n": 2}, AGES_S) == {"n": 1}
    assert await store.remember("request", {"n": 3}, NO_TIME_S) == {"n": 3}

    async def is_forgotten() -> bool:
        return await store.remember("request", {"n": 4}, 60) == {"n": 4}

    await until(is_forgotten)


async def test_of_many_answers_at_once_all_get_the_same(store: Store) -> None:
    answers = await asyncio.gather(*(store.remember("request", {"n": n}, 60) for n in range(20)))
    assert all(answer == answers[0] for answer in answers)


async def test_a_counter_adds_up_within_its_window(store: Store) -> None:
    assert [await store.count("asked", amount, AGES_S) for amount in (1, 2, 0, 4)] == [1, 3, 3, 7]
    assert await store.count("other", 1, AGES_S) == 1


async def test_a_counter_starts_anew_where_the_time_is_a_multiple_of_its_window(store: Store) -> None:
    window_s, clock_s = 0.5, 0.01
    last = 0
    asked, before = time.time(), 0.0
    while (total := await store.count("asked", 1, window_s)) > last:
        last, before, asked = total, asked, time.time()
    assert total == 1
    assert (time.time() + clock_s) // window_s > (before - clock_s) // window_s
