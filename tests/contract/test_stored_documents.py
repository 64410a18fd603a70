"""What earlier programs of this version of the store have written is read, of every kind, and kept whole."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest
import redis
from store_place import StorePlace

from neuromas.services.keys import find_key
from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.cluster import ClusterRecord
from neuromas.services.records.endpoint import EndpointRecord
from neuromas.services.records.evaluation import EvaluationRecord
from neuromas.services.records.key import KeyRecord
from neuromas.services.records.record import Record
from neuromas.services.records.run import RunRecord
from neuromas.services.records.serve_token import ServeTokenRecord
from neuromas.services.records.topology import TopologyRecord
from neuromas.services.store import redis_keys as keys
from neuromas.services.store.base import Store, StoreUnusableError

pytestmark = pytest.mark.anyio
KEY_TEXT = "nmk_0123456789abcdef_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
GRAPH = '{"name":"pair","nodes":[{"id":"a"},{"id":"b"}],"edges":[["a","b"]],"output":"b"}'
ERROR = '{"code":"driver_lost","message":"exit code -9","param":null}'
STORED: dict[type[Record], tuple[str, str]] = {
    RunRecord: (
        "run_00000000000000aa",
        (
            '{"sequence":3,"id":"run_00000000000000aa","object":"run","name":"small-grown","state":"failed","wanted":"run",'
            f'"spec":{{"name":"small-grown","topology":{GRAPH},"growth":null}},"task":"chain","base":"tiny",'
            '"topology":"topo_aa","owner":"key_aa","project":"p","parent":{"run":"run_00000000000000ab","checkpoint":'
            '"ckpt_aa","plan":{"edits":[{"edit":"append","layers":[1]}]},"level":2},"parent_run":"run_00000000000000ab",'
            '"attempt":1,"max_attempts":2,"failures":2,"job":"run_00000000000000aa-1","started":1700000001.5,'
            '"ended":1700000009.25,"heartbeat":1700000008.75,"progress":{"stage":0,"stage_name":"stage-0","step":3,'
            '"steps":40,"nodes":2,"level":null,"eta_s":12.5},"latest":{"rollout/reward_mean":0.25,"rollout/calls":12,'
            f'"train/kl":null}},"accuracy":0.5,"result":null,"error":{ERROR},'
            '"folder":"runs/run_00000000000000aa/small-grown","version":9,"created":1700000000}'
        ),
    ),
    CheckpointRecord: (
        "ckpt_aa",
        (
            '{"sequence":4,"id":"ckpt_aa","object":"checkpoint","state":"deleting","run":"run_aa","stage":1,"stage_name":'
            '"stage-1","step":20,"kind":"training","path":"runs/run_aa/small/kept/stage-1-000020","nodes":3,"level":2,'
            '"topology_hash":"ab","accuracy":null,"version":2,"created":1700000001}'
        ),
    ),
    EndpointRecord: (
        "ep_aa",
        (
            '{"sequence":5,"id":"ep_aa","object":"endpoint","name":"solver","generation":2,"checkpoint":"ckpt_aa",'
            '"run":"run_aa","state":"ready","wanted":"run","replicas":1,"max_replicas":2,"error":null,"url":"/engine-1",'
            '"owner":"local","project":null,"served":1,"version":6,"created":1700000002}'
        ),
    ),
    EvaluationRecord: (
        "eval_aa",
        (
            '{"sequence":6,"id":"eval_aa","object":"evaluation","state":"succeeded","checkpoint":"ckpt_aa","run":"run_aa",'
            '"examples":8,"level":null,"sampled":false,"baselines":["untrained"],"attempt":1,"job":"eval_aa-1","result":'
            '{"accuracy":{"greedy":{"value":0.5}}},"error":null,"owner":"local","project":null,"started":1700000004.5,'
            '"ended":1700000006.5,"version":4,"created":1700000003}'
        ),
    ),
    KeyRecord: (
        "key_0123456789abcdef",
        (
            '{"sequence":7,"id":"key_0123456789abcdef","object":"key","name":"laptop","hash":'
            '"b6a01e3c0c3e0a6b0a0bd01b8ed9c0cbd3a2ffe4b7bbcd1a1b9b1bb2a4c3e1d0","scopes":["read","train"],"quota":'
            '{"requests_per_minute":60},"state":"revoked","project":null,"expires":1800000000,"owner":"key_ab",'
            '"used":1700000005,"revoked":1700000007,"version":3,"created":1700000004}'
        ),
    ),
    TopologyRecord: (
        "topo_aa",
        (
            '{"sequence":2,"id":"topo_aa","object":"topology","state":null,"name":"pair","hash":"ab",'
            f'"document":{GRAPH},"version":1,"created":1700000000}}'
        ),
    ),
    ClusterRecord: (
        "cluster",
        '{"sequence":1,"id":"cluster","fault":"","seen":1700000005.5,"state":null,"version":30,"created":1700000000}',
    ),
    ServeTokenRecord: (
        "serve",
        '{"sequence":8,"id":"serve","token":"secret","state":null,"version":1,"created":1700000000}',
    ),
}
KINDS = pytest.mark.parametrize("kind", list(STORED), ids=lambda kind: kind.__name__)


async def write(place: StorePlace, store: Store, kind: type[Record], id: str, text: str) -> None:
    """Put a document's text where a program of this version of the store has put it, whatever it holds."""
    await store.check()
    if place.settings.uses_sqlite:
        document = json.loads(text)
        row = (document["sequence"], kind.noun, id, document["created"], text)
        with sqlite3.connect(place.settings.sqlite_file) as connection:
            connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?)", row)
        connection.close()
    else:
        with redis.Redis.from_url(place.settings.store_url) as client:
            client.set(keys.document(kind.noun, id), text)


LATER: dict[type[Record], dict[str, Any]] = {RunRecord: {"tags": []}, EvaluationRecord: {"kind": "accuracy"}}
"""What fields that came later hold where they are not None."""


@KINDS
async def test_a_stored_document_is_read_with_all_that_it_holds(
    place: StorePlace, store: Store, kind: type[Record]
) -> None:
    id, text = STORED[kind]
    await write(place, store, kind, id, text)
    record = await store.get(kind, id)
    held: dict[str, Any] = json.loads(text)
    read = record.to_document()
    assert {name: read[name] for name in held} == held
    told_later = {name: value for name, value in read.items() if name not in held and value is not None}
    assert told_later == LATER.get(kind, {})


async def test_what_came_before_a_field_is_listed_by_the_fields_default(place: StorePlace, store: Store) -> None:
    id, text = STORED[EvaluationRecord]
    await store.create(EvaluationRecord.model_validate_json(text))  # so that it is in the lists
    await write(place, store, EvaluationRecord, id, text)
    assert '"kind"' not in text
    for kind, expected in (("accuracy", [id]), ("analysis", [])):
        page = await store.list(EvaluationRecord, where={"kind": kind, "run": "run_aa"})
        assert [record.id for record in page.items] == expected


async def test_a_field_of_a_later_program_is_kept(place: StorePlace, store: Store) -> None:
    id, text = STORED[EndpointRecord]
    await write(place, store, EndpointRecord, id, text.replace('"served":1', '"served":1,"colour":{"of":"later"}'))
    stored = await store.update(EndpointRecord, id, {"served": 2})
    assert stored.to_document()["colour"] == {"of": "later"}
    assert (await store.get(EndpointRecord, id)).to_document() == stored.to_document()


async def test_a_key_of_an_early_program_is_found(place: StorePlace, store: Store) -> None:
    text = (
        '{"sequence":1,"id":"key_0123456789abcdef","object":"key","name":"old","hash":'
        '"0f007385b6f9d4b7eeb2748605afe1a984a0a3bfa3f014d09e2a784ce9e5cd1a","scopes":["read"],"quota":null,'
        '"state":"active","version":1,"created":1700000000}'
    )
    await write(place, store, KeyRecord, "key_0123456789abcdef", text)
    key = await find_key(store, KEY_TEXT)
    assert key is not None
    assert (key.owner_id, key.project, key.expires) == ("key_0123456789abcdef", None, None)


@KINDS
async def test_a_document_that_is_none_is_told_with_its_place(
    place: StorePlace, store: Store, kind: type[Record]
) -> None:
    id, text = STORED[kind]
    await write(place, store, kind, id, text.replace('"created":17', '"created":-17'))
    with pytest.raises(StoreUnusableError, match=f"holds a {kind.noun} that cannot be read \\(created: "):
        await store.get(kind, id)
