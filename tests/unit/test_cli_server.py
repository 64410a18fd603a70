"""The command line around the service: keys, errors of a server in words, and the events of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuromas.cli.main import main
from neuromas.cli.remote import Remote
from neuromas.cli.watch import event_of
from neuromas.journal.events import Evaluated, StageStarted, StepDone


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEUROMAS_SERVER", "NEUROMAS_API_KEY", "NEUROMAS_DATA_DIR", "NEUROMAS_STORE_URL"):
        monkeypatch.delenv(name, raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, object]:
    assert main([*arguments, "--json"]) == code
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


def test_a_key_is_made_shown_once_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--data", str(tmp_path)]
    made = run(capsys, "keys", "create", "--name", "laptop", "--scope", "train,read", "--scope", "serve", *place)
    assert made["scopes"] == ["read", "train", "serve"]
    assert str(made["key"]).startswith("nmk_")
    listed = run(capsys, "keys", "list", *place)["data"]
    assert isinstance(listed, list)
    assert [(key["name"], key["state"]) for key in listed] == [("laptop", "active")]
    assert str(made["key"])[-20:] not in json.dumps(listed)
    assert run(capsys, "keys", "revoke", str(made["id"]), *place)["state"] == "revoked"


def test_a_wrong_scope_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "keys", "create", "--scope", "reed", "--data", str(tmp_path), code=2)
    assert "did you mean 'read'" in json.dumps(found)


def test_a_key_that_is_not_there_cannot_be_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "keys", "revoke", "key_gone", "--data", str(tmp_path), code=2)
    assert "key_gone" in json.dumps(found)


@pytest.mark.parametrize(
    "command", [["runs", "list"], ["runs", "cancel", "run_1"], ["watch", "run_1"], ["endpoints", "list"],
                ["checkpoints", "export", "run_1@best", "--out", "x.tar"]],
)  # fmt: skip
def test_a_server_that_is_not_there_is_named(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, *command, "--server", "http://127.0.0.1:1", code=1)
    assert "no server answers at http://127.0.0.1:1" in json.dumps(found)


def test_the_server_is_named_by_option_environment_or_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Remote(None).address == "http://127.0.0.1:8080"
    monkeypatch.setenv("NEUROMAS_SERVER", "http://there:1/")
    assert Remote(None).address == "http://there:1"
    assert Remote("http://here:2").address == "http://here:2"


def test_a_growth_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "runs", "grow", "run_1", "--append", "0", code=2)
    assert "--append" in json.dumps(found)


def test_an_archive_has_a_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "checkpoints", "export", "ckpt_1", "--out", str(tmp_path / "x.rar"), code=2)
    assert ".tar or .zip" in json.dumps(found)


def test_events_of_a_stream_are_those_of_a_run() -> None:
    step = StepDone(stage=0, step=3, metrics={"train/loss": 0.5}, time_s=7.0)
    told = {"id": 9, "type": "step", "stage": 0, "step": 3, "metrics": {"train/loss": 0.5}, "time_s": 7.0}
    assert event_of(told) == step
    for event in (
        StageStarted(stage=0, name="s", topology={"nodes": []}, level=None, steps=4, trainable_parameters=8),
        Evaluated(stage=0, step=1, level=2, mode="greedy", correct=1.0, examples=2),
    ):
        assert event_of({"id": 1, **event.to_document()}) == event
    assert event_of({"id": 1, "type": "run_ended", "status": "succeeded"}) is None
