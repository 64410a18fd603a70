"""Adapters that people bring along: two files by PUT, looked at before anything reads them, bounded, and deleted."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from api_server import ApiServer, error_of, running_api
from safetensors.numpy import save
from small_files import files_of_at_most
from waiting import until

from neuromas.adapters.export import CONFIG, WEIGHTS, write_peft_folder
from neuromas.adapters.ref import PlainLora
from neuromas.services.api.adapters import MAX_ADAPTERS, MAX_CONFIG_BYTES, MAX_HEADER_BYTES
from neuromas.services.api.auth import Caller
from neuromas.services.api.uploads import check_room
from neuromas.services.keys import make_key
from neuromas.services.records.streams import AUDIT
from neuromas.services.settings import Settings

CONFIGURED = json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1}).encode()
TENSORS = save({"base_model.model.q.lora_A.weight": np.zeros((1, 64), np.float32)})
Put = Callable[..., httpx.Response]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(Settings(data_dir=tmp_path / "data", port=0)) as server:
        yield server


def put(api: ApiServer, name: str, file: str, content: bytes, **headers: str) -> httpx.Response:
    return api.client.put(f"/v1/adapters/{name}/{file}", content=content, headers=headers)


def headed(header: object, content: bytes = b"") -> bytes:
    """Return a safetensors file with a header of one's own."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def left_in(api: ApiServer) -> list[str]:
    return sorted(path.name for path in files_in(api))


def files_in(api: ApiServer) -> list[Path]:
    return [path for path in api.settings.uploads_dir.rglob("*") if path.is_file()]


def test_a_folder_as_peft_saves_it_is_kept_listed_replaced_and_deleted(api: ApiServer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lora = PlainLora(2, {"model.q_proj": (rng.random((2, 8)).astype("f4"), rng.random((4, 2)).astype("f4"))})
    write_peft_folder(lora, "tiny", tmp_path / "made")
    config, weights = ((tmp_path / "made" / file).read_bytes() for file in (CONFIG, WEIGHTS))
    first = put(api, "mine", WEIGHTS, weights)
    assert (first.status_code, first.json()["missing"], first.json()["method"]) == (200, [CONFIG], None)
    whole = put(api, "mine", CONFIG, config).json()
    assert whole == {
        "name": "mine",
        "object": "adapter",
        "method": "LORA",
        "tensors": 2,
        "bytes": len(config) + len(weights),
        "missing": [],
    }
    (kept,) = api.settings.uploads_dir.rglob("mine")
    assert [(kept / file).read_bytes() for file in (CONFIG, WEIGHTS)] == [config, weights]
    assert [(kept / file).stat().st_mode & 0o777 for file in (CONFIG, WEIGHTS)] == [0o600, 0o600]
    for name in ("a", "z"):
        assert put(api, name, CONFIG, CONFIGURED).status_code == 200
    page = api.client.get("/v1/adapters", params={"limit": 2}).json()
    assert ([one["name"] for one in page["data"]], page["has_more"]) == (["a", "mine"], True)
    rest = api.client.get("/v1/adapters", params={"limit": 2, "after": page["last_id"]}).json()
    assert ([one["name"] for one in rest["data"]], rest["has_more"]) == (["z"], False)
    assert put(api, "mine", WEIGHTS, TENSORS).json()["tensors"] == 1
    assert api.client.get("/v1/adapters/mine").json()["tensors"] == 1
    deleted = api.client.delete("/v1/adapters/mine")
    assert deleted.json() == {"id": "mine", "object": "adapter", "deleted": True}
    assert [api.client.request(method, "/v1/adapters/mine").status_code for method in ("GET", "DELETE")] == [404, 404]
    assert left_in(api) == [CONFIG, CONFIG]


def test_curl_brings_an_adapter_along_in_one_line(api: ApiServer, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_bytes(CONFIGURED)
    (tmp_path / WEIGHTS).write_bytes(TENSORS)
    command = ["curl", "-sf", "-T", f"{{{CONFIG},{WEIGHTS}}}", f"{api.url}/v1/adapters/mine/"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert api.client.get("/v1/adapters/mine").json()["missing"] == []


LIES = {
    "a pickle": (b"\x80\x04K\x01.", "got a pickle, which could run code when read; save the adapter as safetensors"),
    "pickles": (b"PK\x03\x04" + bytes(40), "got a pickle"),
    "nothing": (b"", "no safetensors, or cut off"),
    "cut off in its header": (TENSORS[:40], "no safetensors, or cut off: the header alone would take"),
    "cut off in its numbers": (TENSORS[:-1], "no whole safetensors file"),
    "more than it says": (TENSORS + b"x", "no whole safetensors file"),
    "a header that is no JSON": (headed(b"{]}"), "no whole safetensors file"),
    "a header of its own size": (struct.pack("<Q", 2**63) + bytes(64), "the header alone would take"),
    "a shape that lies": (
        headed({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}, bytes(4)),
        "no whole safetensors file",
    ),
    "numbers beyond its end": (
        headed({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}, bytes(4)),
        "no whole safetensors file",
    ),
    "numbers of two at one place": (
        headed({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in "ab"}, bytes(4)),
        "no whole safetensors file",
    ),
    "a size beyond all numbers": (
        headed({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4)),
        "no whole safetensors file",
    ),
    "no tensors": (headed({}), "it holds no tensors"),
    "a header too large": (headed(b"{" + b" " * MAX_HEADER_BYTES + b"}"), f"allowed are {MAX_HEADER_BYTES}"),
}


@pytest.mark.parametrize("kind", list(LIES))
def test_weights_that_are_not_what_they_say_are_refused_and_not_kept(api: ApiServer, kind: str) -> None:
    content, message = LIES[kind]
    answer = put(api, "mine", WEIGHTS, content)
    assert (answer.status_code, error_of(answer)["param"]) == (422, "file")
    assert message in error_of(answer)["message"]
    assert left_in(api) == []
    assert api.client.get("/v1/adapters").json()["data"] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"\xff\xfe", "it is no JSON"),
        (b"[]", "got peft_type None; expected a configuration as PEFT saves it"),
        (b'{"peft_type": 3}', "got peft_type 3"),
    ],
)
def test_a_configuration_that_is_none_is_refused(api: ApiServer, content: bytes, message: str) -> None:
    answer = put(api, "mine", CONFIG, content)
    assert (answer.status_code, error_of(answer)["param"]) == (422, "file")
    assert message in error_of(answer)["message"]
    assert left_in(api) == []


def test_names_that_could_be_paths_and_files_of_other_kinds_are_refused(api: ApiServer) -> None:
    for name in ("%2e%2e", ".drafts", "UP", "a" * 64, "x%0a", "a%5cb"):
        answer = put(api, name, CONFIG, CONFIGURED)
        assert (answer.status_code, error_of(answer)["param"]) == (422, "name"), name
        assert api.client.delete(f"/v1/adapters/{name}").status_code == 422
    assert put(api, "..%2f..%2fx", CONFIG, CONFIGURED).status_code == 404
    for file in ("adapter_model.bin", "adapter_model.pt", "%2e%2e", "README.md"):
        answer = put(api, "mine", file, TENSORS)
        assert (answer.status_code, error_of(answer)["param"]) == (422, "file")
        assert f"allowed are {CONFIG} and {WEIGHTS}" in error_of(answer)["message"]
    assert not api.settings.uploads_dir.exists()


def test_a_file_is_larger_than_a_body_may_be_and_its_size_is_announced(api: ApiServer) -> None:
    large = save({"a": np.zeros(api.settings.max_body_bytes, np.uint8)})
    assert put(api, "mine", WEIGHTS, large).status_code == 200
    assert api.client.post("/v1/files", content=large).status_code == 413
    refused = put(api, "mine", CONFIG, b" " * (MAX_CONFIG_BYTES + 1))
    assert (refused.status_code, error_of(refused)["param"]) == (413, "file")
    announced = {"Content-Length": str(api.settings.max_upload_bytes + 1), "Host": "127.0.0.1"}
    told = spoken(api, f"PUT /v1/adapters/mine/{WEIGHTS}", announced)
    assert b"413" in told.split(b"\r\n")[0]
    unknown = api.client.put(f"/v1/adapters/mine/{WEIGHTS}", content=iter([TENSORS]))
    assert (unknown.status_code, error_of(unknown)["code"]) == (411, "length_required")


def spoken(api: ApiServer, line: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return what the server answers to a request of these very bytes."""
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall(f"{line} HTTP/1.1\r\n{text}\r\n".encode() + body)
        return connection.recv(65536)


def uploader(api: ApiServer, *scopes: str, project: str | None = None) -> tuple[Put, dict[str, str]]:
    _, text = api.store(lambda store: make_key(store, "test", scopes or ("read", "train"), project=project))
    headers = {"authorization": f"Bearer {text}"}
    return lambda name, content=TENSORS: put(api, name, WEIGHTS, content, **headers), headers


def test_what_another_key_brought_along_is_not_there_and_every_change_is_written_down(tmp_path: Path) -> None:
    with running_api(Settings(data_dir=tmp_path / "data", port=0, auth="keys")) as api:
        (mine, own), (_, other), (_, reader) = uploader(api), uploader(api), uploader(api, "read")
        (shared, _), (_, second) = uploader(api, project="p"), uploader(api, project="p")
        assert [mine("mine").status_code, shared("shared").status_code] == [200, 200]
        for headers, name, status in ((own, "mine", 200), (other, "mine", 404), (second, "shared", 200)):
            assert api.client.get(f"/v1/adapters/{name}", headers=headers).status_code == status
        assert api.client.get("/v1/adapters", headers=other).json()["data"] == []
        assert api.client.delete("/v1/adapters/mine", headers=other).status_code == 404
        assert api.client.delete("/v1/adapters/mine", headers=reader).status_code == 403
        assert put(api, "mine", WEIGHTS, TENSORS).status_code == 401
        assert put(api, "mine", WEIGHTS, TENSORS, **reader).status_code == 403
        assert api.client.delete("/v1/adapters/mine", headers=own).status_code == 200
        told = [entry.document for entry in api.store(lambda store: store.read(AUDIT, after=0, limit=99))]
    lines = [(one["method"], one["path"], one["status"]) for one in told if one.get("type") == "request"]
    assert ("PUT", f"/v1/adapters/mine/{WEIGHTS}", 200) in lines
    assert ("PUT", f"/v1/adapters/mine/{WEIGHTS}", 403) in lines
    assert lines[-1] == ("DELETE", "/v1/adapters/mine", 200)


def test_all_files_of_an_owner_share_one_bound(tmp_path: Path) -> None:
    text, size = {"name": "texts.jsonl", "content": '{"a": 1}\n' * 60}, len(TENSORS)  # a text of 540 bytes
    allowed = 540 + 2 * size - 1
    settings = Settings(data_dir=tmp_path / "data", port=0, auth="keys", max_upload_bytes=allowed)
    with running_api(settings) as api:
        (mine, headers), (others, _) = uploader(api), uploader(api)
        assert api.client.post("/v1/files", json=text, headers=headers).status_code == 201
        assert mine("first").status_code == 200
        refused = mine("second")
        assert (refused.status_code, error_of(refused)["code"]) == (413, "too_much_kept")
        message = f"the files of this key take {540 + size} bytes and this one {size}; allowed are {allowed} together"
        assert message in error_of(refused)["message"]
        assert others("first").status_code == 200
        api.client.delete("/v1/adapters/first", headers=headers)
        assert mine("second").status_code == 200


@pytest.mark.parametrize("same_request_id", [False, True])
def test_adapters_that_come_at_once_keep_the_bound(tmp_path: Path, same_request_id: bool) -> None:
    settings = Settings(data_dir=tmp_path / "data", port=0, max_upload_bytes=2**21)
    content = save({"a": np.zeros(600_000, np.uint8)})
    headers = {"x-request-id": "mine"} if same_request_id else {}
    with running_api(settings) as api, ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(put, api, f"a{place}", WEIGHTS, content, **headers) for place in range(8)]
        assert sorted(one.result().status_code for one in sent) == [200] * 3 + [413] * 5
        assert left_in(api) == [WEIGHTS] * 3


def test_drafts_that_are_given_up_while_the_room_is_counted_break_nothing(tmp_path: Path) -> None:
    settings, caller = Settings(data_dir=tmp_path), Caller("local", frozenset(), {})
    own, is_over = settings.uploads_of("local", None), threading.Event()
    own.mkdir(parents=True)

    def give_up() -> None:
        while not is_over.is_set():
            for place in range(20):
                (own / f"draft-{place}").touch()
            for place in range(20):
                (own / f"draft-{place}").unlink()

    with ThreadPoolExecutor(1) as pool:
        giving_up = pool.submit(give_up)
        try:
            for _ in range(1000):
                check_room(caller, settings, 1, "file")
        finally:
            is_over.set()
        giving_up.result()


def test_an_owner_keeps_so_many(api: ApiServer) -> None:
    own = api.settings.adapters_of("local", None)
    for place in range(MAX_ADAPTERS):
        (own / f"a{place}").mkdir(parents=True)
    refused = put(api, "one-more", CONFIG, CONFIGURED)
    assert (refused.status_code, error_of(refused)["code"]) == (413, "too_many_kept")
    assert put(api, "a0", CONFIG, CONFIGURED).status_code == 200


def test_an_adapter_for_which_there_is_no_space_is_refused_and_taken_once_there_is(api: ApiServer) -> None:
    content = save({"a": np.zeros(2**21, np.uint8)})
    with files_of_at_most(1 << 20):
        answer = put(api, "mine", WEIGHTS, content)
        assert (answer.status_code, error_of(answer)["code"]) == (507, "storage")
        assert str(api.settings.data_dir) not in answer.text
        assert left_in(api) == []
    assert put(api, "mine", WEIGHTS, content).status_code == 200


def test_who_leaves_half_way_leaves_nothing(api: ApiServer) -> None:
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        line = f"PUT /v1/adapters/mine/{WEIGHTS} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999\r\n\r\n"
        connection.sendall(line.encode() + TENSORS)
        # The room is taken before the first byte is awaited.
        until(lambda: [file.stat().st_size for file in files_in(api)] == [99999], within_s=60)
    until(lambda: left_in(api) == [], within_s=60)
    assert put(api, "mine", WEIGHTS, TENSORS).status_code == 200


KILLED = """
import asyncio, sys
from pathlib import Path
from neuromas.services.api.adapters import Draft
draft = Draft(Path(sys.argv[1]), Path(sys.argv[1]) / "adapters" / ".drafts" / "half", 1000)
draft.add(b"half")
print("half", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_server_left_half_way_takes_no_room_from_the_next(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", port=0, max_upload_bytes=1200)
    own = settings.uploads_of("local", None)
    command = [sys.executable, "-c", KILLED, str(own)]
    with (
        running_api(settings) as api,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == b"half\n"
        assert put(api, "mine", WEIGHTS, TENSORS).status_code == 413
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert put(api, "mine", WEIGHTS, TENSORS).status_code == 200
        assert left_in(api) == [WEIGHTS]
