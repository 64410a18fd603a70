from pathlib import Path

import pytest

from neuromas.errors import CheckpointError, TaskError
from neuromas.journal.data_record import check_data, record_data
from neuromas.journal.folder import RunFolder
from neuromas.spec.load import load_spec
from neuromas.tasks.chain import ChainSpec
from neuromas.tasks.file import FileSpec


def test_a_run_goes_on_with_the_files_it_began_with(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text('{"question": "q", "answer": "1"}')
    spec = FileSpec(type="file", train=str(tmp_path / "train.jsonl"), test=str(tmp_path / "test.jsonl"))
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    check_data(folder, spec)  # recorded nothing
    record_data(folder, spec)
    check_data(folder, spec)
    (tmp_path / "test.jsonl").write_text('{"question": "q", "answer": "2"}')
    with pytest.raises(CheckpointError, match=r"test\.jsonl \(task\.test\) has changed since .*run began"):
        check_data(folder, spec)
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(TaskError, match=r"task\.train: .* cannot be read"):
        check_data(folder, spec)


def test_a_task_without_files_records_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    record_data(folder, ChainSpec(type="chain"))
    assert list(tmp_path.iterdir()) == []


def test_paths_of_a_spec_are_relative_to_its_file_and_those_of_overrides_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "work").mkdir()
    spec = tmp_path / "specs" / "run.toml"
    spec.write_text('topology = {chain = 1}\ntask = {type = "file", train = "a.jsonl", test = "../b.jsonl"}\n')
    monkeypatch.chdir(tmp_path / "work")
    task = load_spec(spec).task
    assert task.files() == {"train": str(tmp_path / "specs" / "a.jsonl"), "test": str(tmp_path / "b.jsonl")}
    task = load_spec(spec, ["task.test=c.jsonl"]).task
    assert task.files() == {"train": str(tmp_path / "specs" / "a.jsonl"), "test": str(tmp_path / "work" / "c.jsonl")}
