"""What people bring along: files of examples that a run may then name, and specs as TOML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from api_server import RUN, ApiServer, error_of, running_api
from small_files import files_of_at_most

import neuromas
from neuromas.services.keys import make_key
from neuromas.services.settings import Settings

ROOT = Path(neuromas.__file__).parents[1]
LINES = '{"question": "1+1", "answer": "2"}\n\n{"question": "1+2", "answer": "3"}\n'


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(Settings(data_dir=tmp_path / "data", port=0)) as server:
        yield server


def test_a_run_trains_on_a_file_that_was_brought_along(api: ApiServer) -> None:
    kept = [api.client.post("/v1/files", json={"name": "mine.jsonl", "content": LINES}).json() for _ in range(2)]
    assert kept[0] == kept[1]
    path = Path(kept[0]["path"])
    assert (kept[0]["examples"], kept[0]["bytes"]) == (2, len(LINES))
    assert path.is_relative_to(api.settings.data_dir)
    assert path.read_text() == LINES
    assert path.stat().st_mode & 0o777 == 0o600
    test = api.client.post("/v1/files", json={"name": "test.jsonl", "content": LINES.replace("1+", "2+")}).json()
    task = {"type": "file", "train": str(path), "test": test["path"]}
    answer = api.client.post("/v1/runs", json=RUN | {"task": task})
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("name", ["../x.jsonl", "a/b.jsonl", ".jsonl", "mine.json", "a" * 120 + ".jsonl", "x\n.jsonl"])
def test_names_that_could_be_paths_are_refused(api: ApiServer, name: str) -> None:
    answer = api.client.post("/v1/files", json={"name": name, "content": LINES})
    assert (answer.status_code, error_of(answer)["param"]) == (422, "name")
    assert not api.settings.uploads_dir.exists()


def test_a_file_that_is_no_examples_is_refused_with_the_line(api: ApiServer) -> None:
    answer = api.client.post("/v1/files", json={"name": "mine.jsonl", "content": LINES + "three"})
    assert answer.status_code == 422
    assert "line 4: got 'three'; expected one JSON object a line" in error_of(answer)["message"]


def test_a_file_is_as_large_as_a_body_may_be(api: ApiServer) -> None:
    large = {"name": "mine.jsonl", "content": LINES * (api.settings.max_body_bytes // len(LINES) + 1)}
    assert api.client.post("/v1/files", json=large).status_code == 413


@pytest.mark.parametrize(("project", "whose"), [(None, "this key"), ("sums", "the project sums")])
def test_the_files_of_one_owner_have_a_bound_that_others_do_not_share(
    tmp_path: Path, project: str | None, whose: str
) -> None:
    content = '{"question": "1+1", "answer": "2"}\n' * 16  # 560 bytes
    settings = Settings(data_dir=tmp_path / "data", port=0, auth="keys", max_upload_bytes=1200)
    with running_api(settings) as api:

        def uploader(project: str | None) -> Callable[[str], httpx.Response]:
            _, text = api.store(lambda store: make_key(store, "test", ("train",), project=project))
            headers = {"authorization": f"Bearer {text}"}
            return lambda name: api.client.post("/v1/files", json={"name": name, "content": content}, headers=headers)

        mine, others = uploader(project), uploader(None)
        assert [mine(name).status_code for name in ("one.jsonl", "two.jsonl", "two.jsonl")] == [201, 201, 201]
        refused = mine("three.jsonl")
        message = f"the files of {whose} take 1120 bytes and this one 560; allowed are 1200 together"
        assert (refused.status_code, error_of(refused)["code"]) == (413, "too_much_kept")
        assert message in error_of(refused)["message"]
        assert others("three.jsonl").status_code == 201


def test_files_that_come_at_once_keep_the_bound(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", port=0, max_upload_bytes=1200)
    bodies = [{"name": f"{place}.jsonl", "content": f'{{"a": {place}}}\n' * 50} for place in range(8)]  # 450 bytes
    with running_api(settings) as api, ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda body: api.client.post("/v1/files", json=body).status_code, bodies))
    assert sorted(statuses) == [201, 201, *[413] * 6]


def test_a_file_for_which_there_is_no_space_is_refused_and_taken_once_there_is(api: ApiServer) -> None:
    wish = {"name": "mine.jsonl", "content": LINES * 20_000}
    with files_of_at_most(1 << 20):  # the store's own files are smaller
        answer = api.client.post("/v1/files", json=wish)
        assert (answer.status_code, error_of(answer)["code"]) == (507, "storage")
        assert "make space" in error_of(answer)["message"]
        assert str(api.settings.data_dir) not in answer.text
        assert [path for path in api.settings.uploads_dir.rglob("*") if path.is_file()] == []
    assert api.client.post("/v1/files", json=wish).status_code == 201


def test_what_may_not_be_named_says_which_setting_would_allow_it(api: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(LINES)
    task = {"type": "file", "train": str(tmp_path / "mine.jsonl"), "test": "/etc/passwd"}
    answer = api.client.post("/v1/runs", json=RUN | {"task": task, "base": str(tmp_path)})
    messages = {fault["path"]: fault["message"] for fault in error_of(answer)["faults"]}
    assert set(messages) == {"base", "task.train", "task.test"}
    assert "neuromas service --tasks DIR, or NEUROMAS_TASK_ROOTS" in messages["task.train"]
    assert "neuromas service --bases DIR" in messages["base"]


def test_the_spec_of_the_readme_is_read_as_toml(api: ApiServer) -> None:
    text = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[0]
    document = api.client.post("/v1/specs:read", json={"toml": text}).json()["document"]
    assert document["topology"] == {"chain": 5}
    assert api.client.post("/v1/runs", json=document).status_code == 202


def test_what_is_no_toml_is_refused_with_its_line(api: ApiServer) -> None:
    answer = api.client.post("/v1/specs:read", json={"toml": 'name = "a"\nsteps = = 3\n'})
    assert answer.status_code == 422
    assert "line 2" in error_of(answer)["message"]
