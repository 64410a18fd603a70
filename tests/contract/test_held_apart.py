"""No question that a figure is reported on is trained on: over all task families and all example specs."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import pytest

import neuromas
from neuromas.spec.load import load_spec
from neuromas.tasks.base import Split, Task
from neuromas.tasks.registry import FAMILIES, make_task, task_spec
from neuromas.tasks.tree import TreeTask

EXAMPLES = sorted((Path(neuromas.__file__).parents[1] / "examples").glob("*.toml"))
BRING_YOUR_OWN = {"gpu-qwen"}
"""Examples whose files of questions are the user's."""
DRAWN = 600
"""Questions that are looked at of each split and level of an endless stream."""
DRAWN_NUMBERS = 60
"""The same where questions show drawn numbers, so that none comes twice."""
OTHER_SEED = 2


def own_task(seed: int) -> Task:
    """Return a task as a user's factory makes it."""
    return TreeTask(depth=3, seed=seed)


def question_files(folder: Path) -> dict[str, str]:
    for split, numbers in (("train", range(40)), ("test", range(40, 80))):
        rows = [{"question": f"{n} + {n}?", "answer": 2 * n, "level": 1 + n % 2} for n in numbers]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {split: str(folder / f"{split}.jsonl") for split in ("train", "test")}


def data_set(folder: Path) -> str:
    folder.mkdir()
    question_files(folder)
    return str(folder)


def program_files(folder: Path) -> dict[str, str]:
    folder.mkdir()
    for split, names in (("train", "abc"), ("test", "xyz")):
        rows = [
            {"text": f"Return {name}.", "code": f"def {name}():\n    return 1", "test_list": [f"assert {name}() == 1"]}
            for name in names
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {split: str(folder / f"{split}.jsonl") for split in ("train", "test")}


def sections(family: str, folder: Path) -> list[dict[str, Any]]:
    """Return sections ``task`` of a family, every kind of question that it has."""
    found: dict[str, list[dict[str, Any]]] = {
        "chain": [{"hops": 1}, {"hops": 4}, {"hops": 4, "cycles": "any"}],
        "tree": [{"depth": 1}, {"depth": 4}],
        "circuit": [{"depth": 1}, {"depth": 4}],
        "arithmetic": [{"depth": 1}, {"depth": 4}],
        "hidden_tree": [{"depth": 3}, {"depth": 5}],
        "dynamics": [{"tier": 1}, {"tier": 3}],
        "file": [{"verifier": "number", "level_key": "level", **question_files(folder)}],
        "hub": [{"verifier": "number", "level_key": "level", "folder": data_set(folder / "hub")}],
        "programs": [{"allow_execution": True, **program_files(folder / "programs")}],
        "python": [{"factory": f"{__name__}:own_task"}],
        "reasoning_gym": [
            {"dataset": "chain_sum", "attribute": "num_terms"},
            {"dataset": "leg_counting", "attribute": "num_animals"},
            {"dataset": "family_relationships", "attribute": "family_size"},
        ],
    }
    return [{"type": family, **settings} for settings in found[family]]


def prompts(task: Task, split: Split) -> dict[int | None, set[str]]:
    """Return questions of a split by level: all that a file has, of a stream the first."""
    drawn = DRAWN_NUMBERS if task.name == "dynamics" else DRAWN
    found = {}
    for level in task.levels or (None,):
        size = task.size(split, level)
        numbers = range(drawn if size is None else size)
        found[level] = {task.example(split, number, level).prompt for number in numbers}
    return found


def check(task: Task, other: Task) -> None:
    """No held-out question of any level is trained on at any other, nor under another seed."""
    held_out = {prompt for found in prompts(other, "test").values() for prompt in found}
    assert held_out
    for own in (task, other):
        for level, trained in prompts(own, "train").items():
            assert trained, level
            assert not trained & held_out, level


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "reasoning_gym" or find_spec(name)])
def test_no_family_trains_on_a_held_out_question(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for section in sections(family, tmp_path):
        spec = task_spec(section)
        check(make_task(spec, 1), make_task(spec, OTHER_SEED))


@pytest.mark.parametrize(
    "path", [path for path in EXAMPLES if path.stem not in BRING_YOUR_OWN], ids=lambda path: path.stem
)
def test_no_example_spec_trains_on_a_held_out_question(path: Path) -> None:
    spec = load_spec(path)
    check(make_task(spec.task, spec.seed), make_task(spec.task, spec.seed + 1))
