"""One suite over both stores, continued: streams, and writers in several processes."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from typing import Any

import pytest
from store_place import StorePlace, until
from stored import a_run, an_endpoint

from neuromas.services.records.endpoint import EndpointRecord
from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import AUDIT
from neuromas.services.runs.retention import Retention
from neuromas.services.settings import Settings
from neuromas.services.store.base import TRIMMED, ConflictError, MissingError, Store, StreamEntry

pytestmark = pytest.mark.anyio
LONG_S = 60.0
"""A wait that is not meant to be waited out."""


async def follow(store: Store, stream: str, count: int) -> list[StreamEntry]:
    """Read a stream as a client would, from where it was left each time, until so many entries are there."""
    found: list[StreamEntry] = []
    end = time.monotonic() + LONG_S
    while len(found) < count:
        assert time.monotonic() < end, f"{len(found)} of {count} entries came"
        found += await store.read(stream, after=found[-1].id if found else 0, limit=7, wait_s=1)
    return found


def documents(entries: Any) -> list[dict[str, Any]]:
    return [entry.document for entry in entries]


async def test_entries_come_in_order_with_growing_ids(store: Store) -> None:
    assert await store.append("run/events", [("a", {"n": 1}), ("b", {"n": 2})]) == 2
    assert await store.append("run/events", [("c", {"n": 3})]) == 1
    entries = await store.read("run/events")
    assert documents(entries) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert 0 < entries[0].id < entries[1].id < entries[2].id


async def test_a_reader_goes_on_from_the_id_it_has_seen(store: Store) -> None:
    await store.append("s", [(str(n), {"n": n}) for n in range(10)])
    first = await store.read("s", limit=4)
    rest = await store.read("s", after=first[-1].id)
    assert documents([*first, *rest]) == [{"n": n} for n in range(10)]
    assert await store.read("s", after=rest[-1].id) == []


@pytest.mark.parametrize("after", [-1, 10**18, 2**63, 10**40])
async def test_any_number_is_a_place_to_read_from(store: Store, after: int) -> None:
    await store.append("s", [("a", {"n": 1})])
    assert documents(await store.read("s", after=after)) == ([{"n": 1}] if after < 0 else [])


async def test_a_key_that_the_stream_has_seen_is_left_out(store: Store) -> None:
    assert await store.append("s", [("a", {"n": 1}), ("b", {"n": 2}), ("a", {"n": 9})]) == 2
    assert await store.append("s", [("b", {"n": 9}), ("c", {"n": 3})]) == 1
    assert await store.append("s", []) == 0
    assert documents(await store.read("s")) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert await store.append("t", [("a", {"n": 4})]) == 1


async def test_a_trimmed_stream_keeps_the_newest_and_forgets_the_keys_of_the_others(store: Store) -> None:
    count = TRIMMED + 12
    await store.append("s", [(str(n), {"n": n}) for n in range(count)])
    await store.append("t", [("0", {"n": 0})])
    assert [await store.trim("s", keep) for keep in (count + 1, count, 5, 5, 5)] == [0, 0, TRIMMED, 7, 0]
    left = await store.read("s")
    assert documents(left) == [{"n": n} for n in range(count - 5, count)]
    assert documents(await store.read("t")) == [{"n": 0}]
    assert await store.append("s", [("0", {"n": -1}), (str(count - 1), {"n": -2})]) == 1
    assert documents(await store.read("s", after=left[-1].id)) == [{"n": -1}]
    assert await store.trim("never-there", 5) == 0


async def test_the_audit_log_keeps_as_many_entries_as_the_settings_say(store: Store, place: StorePlace) -> None:
    await store.append(AUDIT, [(str(n), {"n": n}) for n in range(TRIMMED + 20)])
    await store.append("run_1/events", [("a", {"n": 1})])
    await Retention(store, place.settings).round()
    assert documents(await store.read(AUDIT, limit=1)) == [{"n": 0}]
    assert place.settings.retain_audit_entries == 100_000
    await Retention(store, place.settings.model_copy(update={"retain_audit_entries": 3})).round()
    assert documents(await store.read(AUDIT)) == [{"n": n} for n in range(TRIMMED + 17, TRIMMED + 20)]
    assert documents(await store.read("run_1/events")) == [{"n": 1}]


async def test_a_dropped_stream_is_forgotten_and_its_ids_are_not_used_again(store: Store) -> None:
    await store.append("s", [("a", {"n": 1}), ("b", {"n": 2})])
    await store.append("t", [("a", {"n": 3})])
    last = (await store.read("s"))[-1].id
    await store.drop("s")
    await store.drop("never-there")
    assert await store.read("s") == []
    assert documents(await store.read("t")) == [{"n": 3}]
    assert await store.append("s", [("a", {"n": 4})]) == 1
    assert documents(await store.read("s", after=last)) == [{"n": 4}]


async def test_a_reader_who_waits_gets_an_event_of_another_client_at_once(place: StorePlace) -> None:
    reader, writer = place.open(), place.open()
    try:
        await writer.append("other", [("a", {"n": 0})])
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(reader.read("s", wait_s=LONG_S))
            beside = tasks.create_task(reader.read("other", wait_s=LONG_S))
            assert documents(await beside) == [{"n": 0}]
            assert not waiting.done()
            await writer.append("other", [("b", {"n": 1})])
            began = time.monotonic()
            await writer.append("s", [("a", {"n": 2})])
        assert documents(waiting.result()) == [{"n": 2}]
        assert time.monotonic() - began < LONG_S
    finally:
        await reader.close()
        await writer.close()


async def test_a_reader_who_waits_in_vain_gets_nothing_when_the_time_is_over(store: Store) -> None:
    began = time.monotonic()
    assert await store.read("s", wait_s=0.2) == []
    assert time.monotonic() - began > 0.15


async def test_many_readers_may_wait(store: Store) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(store.read(f"s{n % 3}", wait_s=LONG_S)) for n in range(150)]
        for n in range(3):
            await store.append(f"s{n}", [("a", {"stream": n})])
    assert [documents(task.result()) for task in waiting] == [[{"stream": n % 3}] for n in range(150)]


async def test_a_reader_who_goes_away_takes_nothing_along(store: Store) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(store.read("s", wait_s=LONG_S))
        await store.ping()
        waiting.cancel()
    await store.append("s", [("a", {"n": 1})])
    assert documents(await store.read("s", wait_s=LONG_S)) == [{"n": 1}]
    for n in range(5):
        assert await store.count("c", 1, LONG_S) == n + 1


async def test_what_one_client_wrote_is_there_for_the_next(place: StorePlace) -> None:
    first = place.open()
    await first.create(a_run(owner="me"))
    await first.append("s", [("a", {"n": 1})])
    assert await first.acquire("supervisor", "first", LONG_S)
    await first.close()
    await first.close()
    second = place.open()
    assert [run.id for run in (await second.list(RunRecord, where={"owner": "me"})).items] == ["run_1"]
    assert await second.append("s", [("a", {"n": 1}), ("b", {"n": 2})]) == 1
    assert not await second.acquire("supervisor", "second", LONG_S)
    await second.close()


async def test_writers_in_several_processes_lose_and_double_nothing(place: StorePlace, store: Store) -> None:
    rounds, names = 60, ["one", "two", "three"]
    await store.create(a_run("run_shared"))
    writers = [place.writer(name, str(rounds)) for name in names]
    followed = await follow(store, "shared", rounds * (len(names) + 1))
    outputs = [(await asyncio.to_thread(writer.communicate, timeout=LONG_S))[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    done = {key: sum(json.loads(output)[key] for output in outputs) for key in ("made", "new", "own", "moved")}
    assert done == {"made": rounds, "new": rounds, "own": 3 * rounds, "moved": rounds}
    run = await store.get(RunRecord, "run_shared")
    assert (run.attempt, run.version) == (3 * rounds, 3 * rounds + 1)
    assert await store.count("shared", 0, 1e9) == 3 * rounds
    # The follower saw every entry, in the order that stands, although entries came while it read.
    assert followed == list(await store.read("shared", limit=1000))
    for name in names:
        own = [entry.document["place"] for entry in followed if entry.document.get("writer") == name]
        assert own == list(range(rounds))
    assert len((await store.list(RunRecord, where={"state": "running"}, limit=1000)).items) == rounds


async def test_a_killed_writer_leaves_nothing_half_done(place: StorePlace, store: Store) -> None:
    writer = place.writer("for-ever")

    async def has_written() -> bool:
        return len(await store.read("pairs", limit=1000)) >= 100

    try:
        await until(has_written)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    entries: list[StreamEntry] = []
    while page := await store.read("pairs", after=entries[-1].id if entries else 0, limit=1000):
        entries += page
    assert [entry.document["place"] for entry in entries] == [n // 2 for n in range(len(entries))]
    assert len(entries) % 2 == 0
    last = len(entries) // 2
    assert await store.append("pairs", [(f"{last - 1} b", {}), (f"{last} a", {})]) == 1


@pytest.mark.parametrize("place", ["redis"], indirect=True)
@pytest.mark.parametrize("seed", range(3))
async def test_both_stores_answer_any_calls_alike(place: StorePlace, seed: int) -> None:
    """Random calls on few names, with their answers or errors, compared one by one."""
    stores = [place.open(), StorePlace(Settings(data_dir=place.settings.data_dir / "beside")).open()]
    chance = random.Random(seed)
    try:
        for _ in range(400):
            method, arguments, named = _any_call(chance)
            answers = [await _answer(store, method, arguments, named) for store in stores]
            assert answers[0] == answers[1], (method, arguments, named)
    finally:
        for store in stores:
            await store.close()


def _any_call(chance: random.Random) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    id, state = f"ep_{chance.randrange(12)}", chance.choice(["deploying", "ready", "stopped"])
    keys = [(f"k{chance.randrange(30)}", {"n": chance.random()}) for _ in range(3)]
    made = an_endpoint(id, created=chance.randrange(4), state=state, owner=chance.choice("ab"), wanted="stop")
    where = chance.choice([None, {"state": state}, {"owner": "a", "state": state}, {"wanted": "stop", "owner": "b"}])
    after = chance.choice([None, id])
    return chance.choice(
        [
            ("create", (made,), {}),
            ("get", (EndpointRecord, id), {}),
            (
                "list",
                (EndpointRecord,),
                {"where": where, "after": after, "limit": chance.randint(1, 5)},
            ),
            ("update", (EndpointRecord, id, {"state": "ready", "owner": "c"}), {"states": [state]}),
            ("update", (EndpointRecord, id, {"served": chance.randrange(9)}), {"version": chance.randint(1, 3)}),
            ("delete", (EndpointRecord, id), {}),
            ("append", (f"s{chance.randrange(2)}", keys), {}),
            ("read", (f"s{chance.randrange(2)}",), {"after": chance.randrange(60), "limit": chance.randint(1, 40)}),
            ("drop", (f"s{chance.randrange(9)}",), {}),
            ("acquire", (f"l{chance.randrange(3)}", chance.choice("xy"), LONG_S), {}),
            ("release", (f"l{chance.randrange(3)}", chance.choice("xy")), {}),
            ("remember", (f"r{chance.randrange(20)}", {"n": chance.random()}, LONG_S), {}),
            ("count", (f"c{chance.randrange(3)}", chance.randrange(5), 1e9), {}),
        ]
    )


async def _answer(store: Store, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    try:
        return await getattr(store, method)(*arguments, **named)
    except (MissingError, ConflictError) as error:
        return type(error), str(error), getattr(error, "document", None)
