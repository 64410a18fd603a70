"""What a key has made is changed by it, by keys of its project and by admins; everything is written down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import RUN, ApiServer, checkpoint_of, error_of, running_api, settings_over

from neuromas.services.keys import find_key, make_key, rotate_key
from neuromas.services.records.key import KeyRecord
from neuromas.services.store.base import Document

Headers = dict[str, str]


@pytest.fixture(params=["sqlite", "redis"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(settings_over(request.param, request, tmp_path, auth="keys")) as server:
        yield server


def key(api: ApiServer, *scopes: str, **more: Any) -> tuple[str, Headers]:
    wanted = scopes or ("read", "train", "serve")
    made, text = api.store(lambda store: make_key(store, "test", wanted, **more))
    return made.id, {"authorization": f"Bearer {text}"}


def ask(api: ApiServer, method: str, path: str, headers: Headers, body: Any = None) -> httpx.Response:
    return api.client.request(method, path, headers=headers, json=body)


Things = tuple[Document, Document, Document, Document]


def made(api: ApiServer, headers: Headers) -> Things:
    """Make a run, a checkpoint of it, an endpoint and an analysis."""
    run = ask(api, "POST", "/v1/runs", headers, RUN).json()
    checkpoint = checkpoint_of(api, run, 3, 0.5)
    body = {"name": "solver", "checkpoint": checkpoint["id"]}
    endpoint = ask(api, "POST", "/v1/endpoints", headers, body).json()
    wish = {"checkpoint": checkpoint["id"], "kind": "analysis"}
    return run, checkpoint, endpoint, ask(api, "POST", "/v1/evaluations", headers, wish).json()


def changes(run: Document, checkpoint: Document, endpoint: Document, analysis: Document) -> list[tuple[str, str, Any]]:
    grow = {"plan": {"edits": [{"edit": "append", "layers": [1]}]}}
    return [
        ("POST", f"/v1/runs/{run['id']}/pause", None),
        ("POST", f"/v1/runs/{run['id']}/resume", None),
        ("POST", f"/v1/runs/{run['id']}/grow", grow),
        ("PATCH", f"/v1/runs/{run['id']}", {"tags": ["mine"]}),
        ("PATCH", f"/v1/endpoints/{endpoint['id']}", {"max_replicas": 2}),
        ("POST", "/v1/endpoints", {"name": "solver", "checkpoint": checkpoint["id"], "max_replicas": 2}),
        ("DELETE", f"/v1/endpoints/{endpoint['id']}", None),
        ("POST", f"/v1/evaluations/{analysis['id']}/cancel", None),
        ("POST", f"/v1/runs/{run['id']}/cancel", None),
        ("DELETE", f"/v1/checkpoints/{checkpoint['id']}", None),
        ("DELETE", f"/v1/runs/{run['id']}", None),
    ]


def test_another_key_changes_nothing_and_sees_everything(api: ApiServer) -> None:
    _, mine = key(api)
    things = made(api, mine)
    for _, other in (key(api), key(api, project="p")):
        for method, path, body in changes(*things):
            answer = ask(api, method, path, other, body)
            assert (answer.status_code, error_of(answer)["code"]) == (403, "not_owner"), f"{method} {path}"
        run = ask(api, "GET", f"/v1/runs/{things[0]['id']}", other).json()
        assert (run["state"], run["version"]) == ("queued", things[0]["version"])


@pytest.mark.parametrize("who", ["owner", "project", "admin"])
def test_owners_their_project_and_admins_do(api: ApiServer, who: str) -> None:
    _, mine = key(api, project="p")
    things = made(api, mine)
    _, caller = {
        "owner": lambda: ("", mine),
        "project": lambda: key(api, project="p"),
        "admin": lambda: key(api, "read", "train", "serve", "admin"),
    }[who]()
    for method, path, body in changes(*things):
        answer = ask(api, method, path, caller, body)
        is_state = answer.status_code == 409 and error_of(answer)["code"] in ("in_use", "conflict", "illegal_move")
        assert answer.is_success or is_state, f"{method} {path}: {answer.text}"


def test_a_rotated_key_owns_what_the_old_one_made_and_the_old_one_expires(api: ApiServer) -> None:
    id, old = key(api, project="p")
    run = ask(api, "POST", "/v1/runs", old, RUN).json()
    made, text = api.store(lambda store: rotate_key(store, id, 3600))
    new = {"authorization": f"Bearer {text}"}
    assert made.id != id
    assert ask(api, "POST", f"/v1/runs/{run['id']}/pause", new).status_code == 200
    assert ask(api, "POST", "/v1/runs", new, RUN).json()["owner"] == run["owner"] == id
    assert ask(api, "GET", "/v1/runs", old).status_code == 200
    api.change(KeyRecord, id, expires=int(time.time()) - 1)
    assert api.store(lambda store: find_key(store, old["authorization"].partition(" ")[2])) is None


def test_an_expired_key_is_refused(api: ApiServer) -> None:
    _, expired = key(api, expires=int(time.time()))
    answer = ask(api, "GET", "/v1/runs", expired)
    assert (answer.status_code, "expired" in answer.text) == (401, True)


def test_the_last_use_of_a_key_is_known(api: ApiServer) -> None:
    id, headers = key(api)
    assert api.store(lambda store: store.get(KeyRecord, id)).used is None
    ask(api, "GET", "/v1/runs", headers)
    assert abs(api.store(lambda store: store.get(KeyRecord, id)).used - time.time()) < 60


def test_the_audit_log_tells_who_did_what_and_who_was_refused(api: ApiServer) -> None:
    mine_id, mine = key(api)
    other_id, other = key(api, "read")
    _, admin = key(api, "admin")
    run = ask(api, "POST", "/v1/runs", mine, RUN).json()
    ask(api, "GET", f"/v1/runs/{run['id']}", mine)
    ask(api, "POST", "/v1/topologies:validate", mine, {"chain": 2})
    ask(api, "POST", f"/v1/runs/{run['id']}/cancel", other)
    assert ask(api, "GET", "/v1/audit", mine).status_code == 403
    ask(api, "POST", f"/v1/runs/{run['id']}/cancel", mine)
    ask(api, "DELETE", f"/v1/runs/{run['id']}", mine)
    entries = ask(api, "GET", "/v1/audit", admin).json()["data"]
    assert [(one["key"], one["method"], one["path"], one["status"], one["code"]) for one in entries] == [
        (mine_id, "POST", "/v1/runs", 202, ""),
        (other_id, "POST", f"/v1/runs/{run['id']}/cancel", 403, "missing_scope"),
        (mine_id, "POST", f"/v1/runs/{run['id']}/cancel", 200, ""),
        (mine_id, "DELETE", f"/v1/runs/{run['id']}", 200, ""),
    ]
    assert all(one["owner"] == one["key"] and one["request"].startswith("req_") for one in entries)
    ask(api, "POST", f"/v1/runs/{'x' * 30_000}/cancel", other | {"idempotency-key": "once"})
    assert len(ask(api, "GET", "/v1/audit", admin).json()["data"][-1]["path"]) == 256


def test_an_upload_is_named_by_its_key_its_project_and_admins(api: ApiServer) -> None:
    id, mine = key(api)
    _, rotated = api.store(lambda store: rotate_key(store, id, 3600))
    (_, shared), (_, partner), (_, other) = key(api, project="p"), key(api, project="p"), key(api, project="q")
    _, admin = key(api, "train", "admin")
    lines = '{"question": "1+1", "answer": "2"}\n{"question": "1+2", "answer": "3"}\n'

    def upload(headers: Headers) -> str:
        answer = ask(api, "POST", "/v1/files", headers, {"name": "mine.jsonl", "content": lines})
        return str(answer.raise_for_status().json()["path"])

    def may_name(headers: Headers, path: str) -> bool:
        test = ask(api, "POST", "/v1/files", headers, {"name": "test.jsonl", "content": lines.replace("1+", "2+")})
        body = RUN | {"task": {"type": "file", "train": path, "test": test.json()["path"]}}
        answer = ask(api, "POST", "/v1/runs", headers, body)
        if answer.status_code != 202:
            assert (answer.status_code, error_of(answer)["param"]) == (400, "task.train")
            assert "allowed are files that this key, or its project, has uploaded" in error_of(answer)["message"]
        return answer.status_code == 202

    callers = [mine, {"authorization": f"Bearer {rotated}"}, shared, partner, other, admin]
    own, of_project, others = upload(mine), upload(shared), upload(other)
    assert len({own, of_project, others}) == 3
    assert upload(partner) == of_project
    assert [may_name(caller, own) for caller in callers] == [True, True, False, False, False, True]
    assert [may_name(caller, of_project) for caller in callers] == [False, False, True, True, False, True]
    outwards = Path(others).parents[3] / "project/q/../../key" / Path(own).relative_to(Path(own).parents[2])
    assert [may_name(caller, str(outwards)) for caller in (mine, other)] == [True, False]
    upload(other)  # the same content, but a file of its own
    assert not may_name(other, own)


def test_the_messages_between_nodes_need_the_scope_read(api: ApiServer) -> None:
    _, app = key(api, "serve")
    body = {"model": "none", "messages": [{"role": "user", "content": "x"}]}
    assert ask(api, "POST", "/v1/chat/completions", app, body).status_code == 404
    answer = ask(api, "POST", "/v1/chat/completions", app, body | {"neuromas": {"trace": True}})
    assert (answer.status_code, error_of(answer)["param"]) == (403, "neuromas.trace")
