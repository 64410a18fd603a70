"""The hub family: data sets in the hub's layout, in a folder and in the hub's cache; what it refuses."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from neuromas.errors import CheckpointError, SpecError, TaskError
from neuromas.journal.data_record import check_data, record_data
from neuromas.journal.folder import RunFolder
from neuromas.tasks.base import Task
from neuromas.tasks.registry import make_task, task_spec

QUESTIONS = {"train": range(12), "test": range(12, 20)}


def write_jsonl(folder: Path) -> None:
    """As repositories on the hub are laid out: a folder of files, named by their splits."""
    (folder / "data").mkdir(parents=True)
    for split, numbers in QUESTIONS.items():
        lines = [json.dumps({"question": f"{n} + 0.5?", "answer": n + 0.5}) for n in numbers]
        (folder / "data" / f"{split}-00000-of-00001.jsonl").write_text("\n".join(lines))


def write_subsets(folder: Path) -> None:
    """Two subsets, told by the card."""
    folder.mkdir()
    for subset in ("main", "other"):
        for split, numbers in QUESTIONS.items():
            lines = [json.dumps({"question": f"{n} + 0.5? {subset}", "answer": n + 0.5}) for n in numbers]
            (folder / f"{subset}_{split}.jsonl").write_text("\n".join(lines))
    configs = "".join(
        f"- config_name: {subset}\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: {subset}_{split}.jsonl\n" for split in QUESTIONS)
        for subset in ("main", "other")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")


def write_parquet(folder: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    folder.mkdir()
    for split, numbers in QUESTIONS.items():
        table = {"question": [f"{n} + 0.5?" for n in numbers], "answer": [n + 0.5 for n in numbers]}
        parquet.write_table(pyarrow.table(table), folder / f"{split}.parquet")


def write_saved(folder: Path) -> None:
    from datasets import Dataset, DatasetDict

    rows = {
        split: Dataset.from_dict({"question": [f"{n} + 0.5?" for n in numbers], "answer": [n + 0.5 for n in numbers]})
        for split, numbers in QUESTIONS.items()
    }
    DatasetDict(rows).save_to_disk(str(folder))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")


def made(**settings: object) -> Task:
    return make_task(task_spec({"type": "hub", "verifier": "number", **settings}), seed=3)


@pytest.mark.parametrize("write", [write_jsonl, write_parquet, write_saved])
def test_a_folder_of_a_data_set_is_a_task(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "sums")
    task = made(folder=str(tmp_path / "sums"))
    assert task.name == "hub"
    assert task.size("test") == 8
    assert [task.example("test", index).answer for index in range(3)] == ["25/2", "27/2", "29/2"]
    asked = [task.example("train", index) for index in range(24)]
    assert sorted(example.prompt for example in asked[:12]) == sorted(f"{n} + 0.5?" for n in range(12))
    assert asked == [made(folder=str(tmp_path / "sums")).example("train", index) for index in range(24)]
    held = [task.example("test", index) for index in range(8)]
    assert {example.prompt for example in asked} & {example.prompt for example in held} == set()
    assert [task.score(example, example.answer) for example in asked + held] == [1.0] * 32
    assert [task.score(example, "1/3") for example in asked + held] == [0.0] * 32


def test_questions_are_equal_in_another_process(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "sums")
    document = {"type": "hub", "verifier": "number", "folder": str(tmp_path / "sums")}
    code = (
        "from neuromas.tasks.registry import make_task, task_spec\n"
        f"print(make_task(task_spec({document!r}), 3).example('train', 17).prompt, end='')"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout == made(folder=str(tmp_path / "sums")).example("train", 17).prompt


def test_subsets_and_parts_of_splits_are_chosen_by_name(tmp_path: Path) -> None:
    write_subsets(tmp_path / "sums")
    task = made(folder=str(tmp_path / "sums"), subset="other", train="train[:75%]", test="train[75%:]")
    assert [task.example("test", index).prompt for index in range(3)] == [f"{n} + 0.5? other" for n in (9, 10, 11)]
    assert task.size("test") == 3
    assert len(task.sample("train", None, 1)) == 9


def test_a_data_set_in_the_hubs_cache_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "hub" / "datasets--lab--sums"
    write_jsonl(repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert made(dataset="lab/sums").example("test", 0).prompt == "12 + 0.5?"
    with pytest.raises(TaskError, match=r"lab/absent is not in the local hub cache .* give its path as task\.folder"):
        made(dataset="lab/absent").example("test", 0)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "sums")
    write_saved(tmp_path / "saved")
    with pytest.raises(TaskError, match=r"task\.test: .*the split 'validation' cannot be read: .*validation"):
        made(folder=str(tmp_path / "sums"), test="validation").example("test", 0)
    with pytest.raises(TaskError, match=r"the split 'validation' cannot be read"):
        made(folder=str(tmp_path / "saved"), test="validation").example("test", 0)
    with pytest.raises(TaskError, match=r"is one split without a name"):
        made(folder=str(tmp_path / "saved" / "train")).example("test", 0)
    with pytest.raises(TaskError, match=r"is not a folder \(task\.folder\)"):
        made(folder=str(tmp_path / "absent")).example("test", 0)
    with pytest.raises(TaskError, match=r"sums, test, row 1: no key 'Question' \(task\.question_key\)"):
        made(folder=str(tmp_path / "sums"), question_key="Question").example("test", 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "give either folder or dataset"),
        ({"folder": "a", "dataset": "b/c"}, "give either folder or dataset"),
        ({"folder": "a", "revision": "main"}, "revision does nothing beside folder"),
        ({"dataset": "../x"}, "dataset"),
        ({"dataset": "https://host/x"}, "dataset"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        task_spec({"type": "hub", **settings})


def test_a_service_has_to_allow_what_the_hub_gives() -> None:
    assert task_spec({"type": "hub", "dataset": "a/b"}).code() == {"dataset": "neuromas.tasks.hub:dataset"}
    by_folder = task_spec({"type": "hub", "folder": "/data/sums"})
    assert by_folder.code() == {}
    assert by_folder.files() == {"folder": "/data/sums"}


def test_a_folder_that_has_changed_is_refused_at_resume(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "sums")
    spec = task_spec({"type": "hub", "folder": str(tmp_path / "sums")})
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    record_data(folder, spec)
    check_data(folder, spec)
    (tmp_path / "sums" / "data" / "test-00000-of-00001.jsonl").rename(tmp_path / "sums" / "data" / "test-1.jsonl")
    with pytest.raises(CheckpointError, match=r"task\.folder.* has changed"):
        check_data(folder, spec)
