"""What a full disk does to the files of a run: nothing is half written, and with space again the work goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_files import TOO_LARGE, files_of_at_most

from neuromas.checkpoints.checkpoint import Checkpoint, CheckpointWriter, read_checkpoint
from neuromas.checkpoints.location import list_checkpoints, resolve_checkpoint
from neuromas.errors import StorageError, refusal
from neuromas.journal import lines as journal
from neuromas.journal.folder import SPEC_FILE, RunFolder, locked
from neuromas.topology.document import topology_from_document

FULL = "No space left on device; make space on its disk"


def checkpoint(step: int, width: int) -> Checkpoint:
    state = {"name": "main", "index": 0, "step": step, "cursor": 0, "accuracy": 0.5}
    adapters = {"n1/m/A": torch.full((1, width), float(step))}
    return Checkpoint(topology_from_document({"chain": 1}), adapters, {}, {"n1": step}, {"seed": 0}, state)


def test_a_journal_takes_all_of_some_lines_or_none(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    file = journal.Journal(path)
    file.append({"step": 1})
    with files_of_at_most(30), pytest.raises(StorageError) as raised:
        file.append({"step": 2}, {"step": 3})
    assert str(raised.value) == f"{path} cannot be written: {TOO_LARGE}"
    assert path.read_text() == '{"step": 1}\n'
    file.append({"step": 2})
    file.close()
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_what_another_process_added_is_not_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    ours, theirs = journal.Journal(path), journal.Journal(path)
    ours.append({"from": "us"})
    theirs.append({"from": "them"})
    with files_of_at_most(36), pytest.raises(StorageError):
        ours.append({"from": "us, and long"})
    assert [line["from"] for line in journal.read(path)] == ["us", "them"]


def test_a_document_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_json("result.json", {"steps": 1})
    with files_of_at_most(20), pytest.raises(StorageError, match=r"result\.json cannot be written"):
        folder.write_json("result.json", {"steps": 2, "text": "x" * 100})
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]
    assert folder.read_json("result.json") == {"steps": 1}


def test_a_checkpoint_that_finds_no_space_leaves_the_one_before_and_nothing_of_itself(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, 2)
    writer.write(checkpoint(1, 1))
    before = sorted(file.name for file in tmp_path.iterdir())
    with files_of_at_most(8000), pytest.raises(StorageError) as raised:
        writer.write(checkpoint(2, 4000))
    assert str(raised.value) == f"{tmp_path / 'main-000002'} cannot be written: {TOO_LARGE}"
    assert sorted(file.name for file in tmp_path.iterdir()) == before
    assert read_checkpoint(resolve_checkpoint(tmp_path)).state["step"] == 1
    writer.write(checkpoint(2, 4000))
    assert torch.equal(read_checkpoint(tmp_path).adapters["n1/m/A"], torch.full((1, 4000), 2.0))


def test_an_alias_that_was_never_moved_does_not_stop_the_next_run(tmp_path: Path) -> None:
    CheckpointWriter(tmp_path, 1).write(checkpoint(1, 1))
    (tmp_path / ".draft-latest.json").write_text('{"checkp')
    CheckpointWriter(tmp_path, 1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.json", "latest.json", "main-000001"]
    assert [folder.name for folder in list_checkpoints(tmp_path)] == ["main-000001"]


def test_a_run_that_could_not_begin_begins_when_there_is_space(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with files_of_at_most(300), locked(folder.path), pytest.raises(StorageError, match=SPEC_FILE):
        folder.create({"name": "x" * 1000})
    with locked(folder.path):
        folder.create({"name": "run"})
    assert json.loads((folder.path / SPEC_FILE).read_text()) == {"name": "run"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), FULL),
        (RuntimeError("I/O error: No space left on device (os error 28)"), FULL),
        (OSError(30, "Read-only file system"), "Read-only file system; name a place on a disk that can be written"),
        (PermissionError(13, "Permission denied"), "Permission denied; give it to this user, or name another place"),
        (FileNotFoundError(2, "No such file or directory"), None),
        (ValueError("os error 28"), None),
    ],
)
def test_what_the_system_refuses_is_told_with_a_remedy(error: Exception, expected: str | None) -> None:
    assert refusal(error) == expected
