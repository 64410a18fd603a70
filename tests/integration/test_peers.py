"""The comparison with what a user would run instead, with TRL."""

from pathlib import Path

import pytest

from benchmarks.peers.__main__ import main
from benchmarks.peers.table import Record


def test_trl_does_the_same_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--peers", "trl", "--nodes", "1", "--rounds", "1", "--warmup", "1", "--steps", "1", "--out", str(tmp_path)]
    assert main(asked) == 0
    record = Record.read(tmp_path / "trl-1-0.json")
    assert record.figures is not None, record.error
    assert record.figures.read == 24 * 8 * 25
    assert 24 * 8 * 2 < record.figures.generated <= 24 * 8 * 8
    assert "| 1 | TRL, a trainer per agent, no checkpointing |" in capsys.readouterr().out
    before = (tmp_path / "trl-1-0.json").stat().st_mtime_ns
    assert main(asked) == 0  # what is there is not measured again
    assert (tmp_path / "trl-1-0.json").stat().st_mtime_ns == before
