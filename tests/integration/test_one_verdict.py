"""A spec is valid for the API exactly where it is for ``neuromas validate``, and refused in the same words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer, error_of, running_api, settings_over

from neuromas.cli.main import main

RUN = {"topology": {"chain": 2}, "task": {"type": "chain", "hops": 2}}
APPEND = {"edits": [{"edit": "append", "layers": [1] * 16}]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world").resolve()


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, folder: Path, small_base: Path) -> Iterator[ApiServer]:
    roots = {
        "task_roots": (folder,),
        "base_roots": (small_base.resolve().parent, folder),
        "bases": ("tiny", "far/away"),
    }
    with running_api(settings_over("sqlite", request, folder, **roots)) as server:
        yield server


def rows(folder: Path, name: str, count: int, length: int = 1) -> str:
    """Return a file of examples."""
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps({"question": f"{i} " * length, "answer": "1"}) + "\n" for i in range(count)))
    return str(file)


def told(folder: Path, spec: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> tuple[bool, set[tuple[str, str]]]:
    """Return the verdict of the command line: whether the spec is valid, and what is wrong."""
    file = folder / "spec.json"
    file.write_text(json.dumps(spec))
    capsys.readouterr()
    code = main(["validate", str(file), "--json"])
    captured = capsys.readouterr()
    assert code in (0, 2)
    if not code:
        return True, set()
    error = json.loads(captured.out or captured.err)["error"]
    return False, {(fault["path"], fault["message"]) for fault in error["faults"]}


def world(folder: Path, base: Path) -> dict[str, dict[str, Any]]:
    """Return specs by what is wrong with them."""
    few, many = rows(folder, "few", 1), rows(folder, "many", 200)
    long = rows(folder, "long", 200, length=300)
    return {
        "nothing": {},
        "nothing, a real base": {"base": str(base), "prompt": {"renderer": "compact"}},
        "positions that the base has no words for": {"topology": {"chain": 20}},
        "such positions after growth": {"growth": {"levels": [1, 2], "plans": [APPEND]}},
        "a plan for a layer that is not there": {
            "growth": {"without_levels": "grow", "plans": [{"edits": [{"edit": "widen", "layer": 7}]}]}
        },
        "a level of growth that the task lacks": {"growth": {"levels": [1, 3]}},
        "layers that the base has not": {"adapter": {"targets": ["nothing_proj"]}},
        "a context longer than the base's": {"engine": {"max_model_len": 10**6}},
        "questions longer than the context": {"task": {"type": "file", "train": long, "test": long}},
        "too few held-out questions": {"task": {"type": "file", "train": many, "test": few}},
        "a file that is not there": {"task": {"type": "file", "train": many, "test": str(folder / "none.jsonl")}},
        "a setting that the renderer does not use": {"prompt": {"system": "be brief"}},
        "a placeholder that is none": {"prompt": {"template": "{layer:>9}"}},
        "a setting that is gone": {"engine": {"max_adapters": 1}},
        "a rank that no engine holds": {"adapter": {"rank": 10**4}},
        "a base that is none": {"base": str(folder)},
    }


KINDS = (
    "nothing",
    "nothing, a real base",
    "positions that the base has no words for",
    "such positions after growth",
    "a plan for a layer that is not there",
    "a level of growth that the task lacks",
    "layers that the base has not",
    "a context longer than the base's",
    "questions longer than the context",
    "too few held-out questions",
    "a file that is not there",
    "a setting that the renderer does not use",
    "a placeholder that is none",
    "a setting that is gone",
    "a rank that no engine holds",
    "a base that is none",
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_api_says_what_the_command_line_says(
    api: ApiServer, folder: Path, small_base: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = world(folder, small_base)
    assert set(specs) == set(KINDS)
    spec = RUN | specs[kind]
    is_valid, faults = told(folder, spec, capsys)
    assert is_valid == kind.startswith("nothing"), faults
    checked = api.client.post("/v1/topologies:validate", json=spec)
    submitted = api.client.post("/v1/runs", json=spec)
    if is_valid:
        assert (checked.status_code, submitted.status_code) == (200, 202), checked.text
        assert len(checked.json()["checked_at_start"]) == 1
        return
    assert (checked.status_code, submitted.status_code) == (422, 422), checked.text
    for answer in (checked, submitted):
        assert {(fault["path"], fault["message"]) for fault in error_of(answer)["faults"]} == faults


def test_what_a_base_that_is_not_here_keeps_from_being_checked_is_said(api: ApiServer) -> None:
    answer = api.client.post("/v1/topologies:validate", json=RUN | {"base": "far/away"})
    assert answer.status_code == 200, answer.text
    base, where = answer.json()["checked_at_start"]
    assert base.startswith("the base far/away, which this process cannot read")
    assert where.startswith("that the engine's")
    spec = RUN | {"base": "far/away", "growth": {"levels": [1, 3]}}
    assert error_of(api.client.post("/v1/topologies:validate", json=spec))["param"] == "growth.levels"
