"""What every Task promises, over all families."""

import json
from pathlib import Path

import pytest

from neuromas.errors import TaskError
from neuromas.tasks.arithmetic import ArithmeticSpec
from neuromas.tasks.base import Split, Task
from neuromas.tasks.chain import ChainSpec
from neuromas.tasks.circuit import CircuitSpec
from neuromas.tasks.dynamics.task import DynamicsSpec
from neuromas.tasks.file import FileSpec
from neuromas.tasks.hidden_tree import HiddenTreeSpec
from neuromas.tasks.judge import judge
from neuromas.tasks.registry import make_task
from neuromas.tasks.spec import TaskSpec
from neuromas.tasks.tree import TreeSpec

SPLITS: tuple[Split, Split] = ("train", "test")


@pytest.fixture(params=["chain", "tree", "circuit", "arithmetic", "hidden_tree", "dynamics", "file"])
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> TaskSpec:
    if request.param == "chain":
        return ChainSpec(type="chain", hops=3)
    if request.param == "tree":
        return TreeSpec(type="tree", depth=4)
    if request.param == "circuit":
        return CircuitSpec(type="circuit", depth=4)
    if request.param == "arithmetic":
        return ArithmeticSpec(type="arithmetic", depth=4)
    if request.param == "hidden_tree":
        return HiddenTreeSpec(type="hidden_tree", depth=4)
    if request.param == "dynamics":
        return DynamicsSpec(type="dynamics", tier=3)
    for split, numbers in (("train", range(40)), ("test", range(40, 80))):
        lines = [{"question": f"{n} + {n}?", "answer": 2 * n, "level": 1 + n % 2} for n in numbers]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    paths = {split: str(tmp_path / f"{split}.jsonl") for split in SPLITS}
    return FileSpec.model_validate({"type": "file", "verifier": "number", "level_key": "level", **paths})


@pytest.fixture
def task(spec: TaskSpec) -> Task:
    return make_task(spec, seed=1)


def test_the_name_is_the_one_in_the_spec(spec: TaskSpec, task: Task) -> None:
    assert task.name == spec.type


def test_levels_increase_and_the_last_is_the_target(task: Task) -> None:
    assert list(task.levels) == sorted(set(task.levels))
    for split in SPLITS:
        assert task.example(split, 5) == task.example(split, 5, level=task.levels[-1])


def test_examples_are_the_same_for_the_same_seed(spec: TaskSpec, task: Task) -> None:
    again = make_task(spec, seed=1)
    for split in SPLITS:
        for level in task.levels:
            assert [again.example(split, n, level) for n in range(9)] == [
                task.example(split, n, level) for n in range(9)
            ]


def test_ids_are_unique_within_split_and_level(task: Task) -> None:
    for split in SPLITS:
        for level in task.levels:
            size = task.size(split, level) or 100
            assert len({task.example(split, index, level).id for index in range(size)}) == size


def test_the_size_is_that_of_the_level(task: Task) -> None:
    for split in SPLITS:
        assert task.size(split) == task.size(split, task.levels[-1])
        for level in task.levels:
            if (size := task.size(split, level)) is not None:
                with pytest.raises(TaskError, match=f"{size}"):
                    task.example(split, size, level)


def test_the_right_answer_scores_1_and_another_0(task: Task) -> None:
    for level in task.levels:
        example = task.example("test", 3, level)
        assert example.level == level
        rewards = [judge(task, example, text).reward for text in (example.answer, "", "nothing to say")]
        assert rewards == [1.0, 0.0, 0.0]


def test_descriptions_agree_with_the_score(task: Task) -> None:
    example = task.example("test", 0)
    description = task.describe(example, example.answer)
    assert description is not None
    assert description.correct
    assert task.describe(example, "nothing to say") is None


def test_an_unknown_level_is_refused(task: Task) -> None:
    with pytest.raises(TaskError, match="allowed are"):
        task.example("train", 0, level=task.levels[-1] + 1)
