import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from neuromas.errors import TaskError
from neuromas.tasks.base import Description, Example, Split, Task
from neuromas.tasks.chain import ChainTask
from neuromas.tasks.file import FileSpec, FileTask
from neuromas.tasks.held_out import HeldOutPart, held_out, part_sizes
from neuromas.tasks.tree import TreeTask

PARTS: tuple[HeldOutPart, HeldOutPart] = ("validation", "test")


def file_task(folder: Path, test: Sequence[str]) -> FileTask:
    for split, questions in (("train", ["0?"]), ("test", test)):
        lines = [json.dumps({"question": question, "answer": "1"}) for question in questions]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return FileSpec(type="file", train=str(folder / "train.jsonl"), test=str(folder / "test.jsonl")).make(0)


def prompts(task: Task, part: HeldOutPart, examples: int = 10**6, level: int | None = None) -> list[str]:
    return [example.prompt for example in held_out(task, level, examples, part)]


@pytest.mark.parametrize(
    "task",
    [ChainTask(hops=1), ChainTask(hops=7, cycles="any"), TreeTask(depth=1), TreeTask(depth=2), TreeTask(depth=3)],
)
def test_no_question_decides_and_is_reported(task: Task) -> None:
    validation, test = (prompts(task, part, 1000) for part in PARTS)
    assert validation
    assert test
    assert not set(validation) & set(test)


def test_parts_do_not_depend_on_the_seed() -> None:
    assert not set(prompts(TreeTask(depth=2, seed=1), "test", 2000)) & set(
        prompts(TreeTask(depth=2, seed=2), "validation", 2000)
    )


def test_a_stream_gives_as_many_as_asked_for_and_the_first_stay_the_first() -> None:
    task = ChainTask(hops=3)
    assert part_sizes(task, None) is None
    for part in PARTS:
        many = held_out(task, None, 512, part)
        assert len(many) == 512
        assert held_out(task, None, 100, part) == many[:100]


def test_a_quarter_of_a_list_decides_and_the_rest_is_reported_in_its_order(tmp_path: Path) -> None:
    questions = [f"{number}+1?" for number in range(40)]
    task = file_task(tmp_path, questions)
    validation, test = (prompts(task, part) for part in PARTS)
    assert (len(validation), len(test)) == (10, 30)
    assert part_sizes(task, None) == {"validation": 10, "test": 30}
    assert sorted(validation + test) == sorted(questions)
    assert test == [question for question in questions if question in test]
    assert prompts(task, "test", 4) == test[:4]


def test_the_part_of_a_question_is_kept_where_the_list_is_in_another_order(tmp_path: Path) -> None:
    questions = [f"{number}+1?" for number in range(40)]
    before = set(prompts(file_task(tmp_path, questions), "test"))
    assert set(prompts(file_task(tmp_path, questions[::-1]), "test")) == before


def test_a_question_that_is_asked_twice_is_on_one_side(tmp_path: Path) -> None:
    task = file_task(tmp_path, [f"{number % 4}+1?" for number in range(8)])
    assert (len(prompts(task, "validation")), len(prompts(task, "test"))) == (2, 6)
    assert not set(prompts(task, "validation")) & set(prompts(task, "test"))


@pytest.mark.parametrize("questions", [["1+1?"], ["1+1?"] * 9])
def test_a_list_that_cannot_be_divided_is_refused(tmp_path: Path, questions: list[str]) -> None:
    with pytest.raises(TaskError, match="got 1 different held-out questions, needed are at least 2"):
        held_out(file_task(tmp_path, questions), None, 1, "test")


def test_sizes_are_those_of_the_level() -> None:
    task = TreeTask(depth=3)
    assert [part_sizes(task, level) for level in (1, 2, None)] == [{"validation": 14, "test": 44}, None, None]


@dataclass(frozen=True)
class Endless:
    """A stream of one question."""

    name: str = "endless"
    levels: tuple[int, ...] = ()

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        return Example(str(index), "again?", "1")

    def size(self, split: Split, level: int | None = None) -> int | None:
        return None

    def score(self, example: Example, text: str) -> float:
        return 0.0

    def describe(self, example: Example, text: str) -> Description | None:
        return None


def test_a_stream_of_one_question_ends_instead_of_searching_for_ever() -> None:
    assert prompts(Endless(), "validation", 3) == ["again?"] * 3
    with pytest.raises(TaskError, match="got no test question in 1000 held-out ones"):
        held_out(Endless(), None, 1, "test")
