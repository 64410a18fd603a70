"""Circuits and arithmetic in plain English: what is asked, what is right, and how levels nest."""

from __future__ import annotations

from collections import Counter

import pytest

from neuromas.errors import TaskError
from neuromas.tasks.base import Description, Example
from neuromas.tasks.registry import task_spec
from neuromas.tasks.step_tree import StepTreeTask

FAMILIES = ["circuit", "arithmetic"]


def make(family: str, depth: int = 3, seed: int = 0) -> StepTreeTask:
    task = task_spec({"type": family, "depth": depth}).make(seed)
    assert isinstance(task, StepTreeTask)
    return task


def by_reading(prompt: str) -> dict[str, bool]:
    """Return what every door is by the sentences of a question, read anew."""
    is_open: dict[str, bool] = {}
    for sentence in prompt.split(". "):
        words = sentence.replace(" exactly when exactly one of", " exactly when one-of").split(" exactly when ")
        if len(words) == 1:
            for part in sentence.removeprefix("The ").split(" and the "):
                if " valve is " in part:
                    name, _, value = part.partition(" valve is ")
                    is_open[f"the {name} valve"] = value == "open"
            continue
        named, state = words[0].removeprefix("Door ").split(" is ")
        left, right = (operand for operand in sorted(is_open, key=words[1].find) if operand in words[1])
        both, either = is_open[left] and is_open[right], is_open[left] or is_open[right]
        holds = both if words[1].endswith("both open") else either if "or both" in words[1] else either and not both
        is_open[f"door {named}"] = holds == (state == "open")
    return is_open


def test_a_circuit_says_what_its_doors_depend_on() -> None:
    task = make("circuit")
    for index in range(100):
        example = task.example("train", index)
        doors = by_reading(example.prompt)
        values = example.info["values"]
        assert {f"door {name}": value == "open" for name, value in values.items()} == {
            name: value for name, value in doors.items() if name.startswith("door")
        }
        assert example.prompt.endswith("Is door G open or closed?")
        assert example.answer == values["G"]


def test_arithmetic_says_what_its_steps_are() -> None:
    task = make("arithmetic")
    for index in range(100):
        example = task.example("test", index)
        values: dict[str, int] = {}
        for sentence in example.prompt.removesuffix(" What is G?").removesuffix(".").split(". "):
            name, _, left, operator, right = sentence.split()
            a, b = (values[part] if part in values else int(part) for part in (left, right))
            values[name] = {"plus": a + b, "minus": a - b, "times": a * b}[operator]
        assert {name: str(value) for name, value in values.items()} == example.info["values"]
        assert example.answer == str(values["G"])


@pytest.mark.parametrize(
    ("family", "said", "reward"),
    [
        ("circuit", "open", 1.0),
        ("circuit", "Door A is closed, so the door is open.", 1.0),
        ("circuit", "It is closed.", 0.0),
        ("circuit", "open? The answer is closed.", 0.0),
        ("circuit", "", 0.0),
        ("arithmetic", "17", 1.0),
        ("arithmetic", "A is 4, B is 13, so C is 17.", 1.0),
        ("arithmetic", "-17", 0.0),
        ("arithmetic", "17 minus 4 is 13", 0.0),
        ("arithmetic", "seventeen", 0.0),
    ],
)
def test_the_answer_that_a_text_announces_or_says_last_is_scored(family: str, said: str, reward: float) -> None:
    example = Example("one", "", {"circuit": "open", "arithmetic": "17"}[family])
    assert make(family).score(example, said) == reward


def test_a_message_is_described_by_the_step_that_it_states_last() -> None:
    task, example = make("arithmetic"), Example("one", "", "17", info={"values": {"A": "4", "B": "13", "C": "17"}})
    assert task.describe(example, "A is 4, so C is 16.") == Description("C", correct=False)
    assert task.describe(example, "B = 13") == Description("B", correct=True)
    assert task.describe(example, "17") == Description("an answer", correct=True)
    assert task.describe(example, "Z is 4") == Description("an answer", correct=False)
    assert task.describe(example, "nothing") is None


@pytest.mark.parametrize("family", FAMILIES)
def test_a_level_asks_for_a_step_of_the_next_one(family: str) -> None:
    task = make(family, depth=4)
    for level, asked in zip(task.levels, "ACGO", strict=True):
        example = task.example("train", 3, level)
        values = example.info["values"]
        assert isinstance(values, dict)
        assert list(values)[-1] == asked
        assert len(values) == 2**level - 1
        assert f" {asked}" in example.prompt.split(". ")[-1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("level", [1, 2])
def test_the_splits_of_a_level_have_no_question_in_common(family: str, level: int) -> None:
    questions = {
        split: {make(family, seed=seed).example(split, index, level).prompt for index in range(400) for seed in (0, 1)}
        for split in ("train", "test")
    }
    assert not questions["train"] & questions["test"]
    assert len(questions["test"]) > 150


@pytest.mark.parametrize("level", [1, 3])
def test_a_guess_is_right_as_often_as_the_task_says(level: int) -> None:
    doors = Counter(make("circuit").example("train", index, level).answer for index in range(2000))
    assert doors["open"] / 2000 == pytest.approx(make("circuit").chance(level), abs=0.04)
    results = Counter(make("arithmetic").example("train", index, level).answer for index in range(2000))
    assert results.most_common(1)[0][1] / 2000 == pytest.approx(make("arithmetic").chance(level), abs=0.012)


@pytest.mark.parametrize("family", FAMILIES)
def test_unknown_levels_and_depths_are_refused(family: str) -> None:
    with pytest.raises(TaskError, match=rf"{family} task: got level 4, allowed are \(1, 2, 3\)"):
        make(family).example("train", 0, 4)
    with pytest.raises(TaskError, match="got depth=5, allowed are 1 to 4"):
        type(make(family))(depth=5)
