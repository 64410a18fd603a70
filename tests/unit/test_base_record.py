"""A base that was changed under the same path is known by its content."""

import os
from pathlib import Path

import pytest
from letter_base import write_letter_base

from neuromas.base.fingerprint import fingerprint
from neuromas.errors import CheckpointError
from neuromas.journal.base_record import check_base, record_base
from neuromas.journal.folder import RunFolder

WEIGHTS = "model-00001-of-00002.safetensors"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write_letter_base(tmp_path / "base")
    (folder / WEIGHTS).write_bytes(bytes(1 << 24))
    return folder


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    record_base(run, base)
    return run


def alter(file: Path, place: int) -> None:
    """Change one byte and put the times of content and access back."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "config.json"])
def test_one_changed_byte_is_refused_and_the_old_files_are_taken_again(
    base: Path, folder: RunFolder, name: str
) -> None:
    check_base(folder, str(base))
    alter(base / name, 7)
    with pytest.raises(CheckpointError, match=r"has changed since .* put the old files back, or train anew"):
        check_base(folder, str(base))
    alter(base / name, 7)
    check_base(folder, str(base))


def test_a_base_is_its_content_not_its_place(base: Path, folder: RunFolder, tmp_path: Path) -> None:
    moved = base.rename(tmp_path / "elsewhere")
    (moved / "README.md").write_text("about it")
    check_base(folder, str(moved))
    (moved / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(CheckpointError, match="has changed"):
        check_base(folder, str(moved))


def test_a_run_that_recorded_no_base_passes(base: Path, tmp_path: Path) -> None:
    check_base(RunFolder(tmp_path / "old"), str(base))


def test_large_files_are_read_once(base: Path, tmp_path: Path) -> None:
    first = fingerprint(base)
    memory = tmp_path / "cache" / "neuromas" / "base-hashes.json"
    assert memory.read_text().count(":") == 5  # one file: four colons in its key, one behind it
    memory.write_text("broken")
    assert fingerprint(base) == first


def test_a_home_that_cannot_be_written_only_costs_time(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint(base)
    monkeypatch.setenv("XDG_CACHE_HOME", str(base / "config.json"))
    assert fingerprint(base) == first
