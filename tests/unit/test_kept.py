"""What was found out about a checkpoint is kept beside it, and shown where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_files import TOO_LARGE, files_of_at_most

from neuromas.journal.events import Event, Notice
from neuromas.journal.folder import RunFolder
from neuromas.workflows.kept import keep


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    RunFolder(tmp_path / "run").create({"name": "run"})
    return tmp_path / "run" / "checkpoints" / "stage-0-000001"


def test_a_finding_is_kept_with_its_checkpoint_and_the_report_tells_it(checkpoint: Path) -> None:
    told: list[Event] = []
    found = keep(checkpoint, "diagnosis.json", {"questions": 3}, told.append)
    folder = checkpoint.parents[1]
    assert found == {"checkpoint": str(checkpoint), "questions": 3}
    assert json.loads((folder / "diagnosis.json").read_text()) == found
    assert "What training can still move" in (folder / "report.html").read_text()
    assert told == []


def test_a_finding_that_cannot_be_kept_is_returned_and_that_is_told(checkpoint: Path) -> None:
    told: list[Event] = []
    with files_of_at_most(8):
        found = keep(checkpoint, "diagnosis.json", {"questions": 3}, told.append)
    assert found["questions"] == 3
    assert not (checkpoint.parents[1] / "diagnosis.json").exists()
    (notice,) = told
    assert isinstance(notice, Notice)
    assert (notice.severity, notice.source) == ("warning", "diagnosis")
    assert notice.message.startswith("what was found is not kept: ")
    assert notice.message.endswith(TOO_LARGE)
