"""What a guess is worth, for every family that says so: the best that answers without work on the question earn."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from neuromas.errors import SpecError, TaskError
from neuromas.tasks.base import Example, Task
from neuromas.tasks.chain import ChainTask
from neuromas.tasks.file import FileSpec
from neuromas.tasks.registry import task_spec
from neuromas.tasks.tree import TreeTask

QUESTIONS = 1500
Guess = Callable[[Example], str]


def copied(number: int, shift: int) -> Guess:
    """The digit at a place of the question, a constant further on; the fact asked for is the question's last word."""

    def guess(example: Example) -> str:
        digits = re.findall(r"\d", example.prompt)
        return f"{example.prompt.split()[-1]} {(int(digits[number]) + shift) % 10}"

    return guess


def constant(value: int) -> Guess:
    return lambda example: f"{example.prompt.split()[-1]} {value}"


def another_than_the_start(example: Example) -> str:
    """One of the seven symbols that are not the start, ever another one."""
    start = int(example.prompt.split("start ")[1][0])
    return f"{example.prompt.split()[-1]} {(start + 1 + int(example.id.rsplit('/', 1)[1]) % 7) % 8}"


def best(task: Task, level: int, guesses: list[Guess]) -> float:
    examples = [task.example("train", index, level) for index in range(QUESTIONS)]
    return max(sum(float(task.score(example, guess(example))) for example in examples) for guess in guesses) / QUESTIONS


CHAINS = [
    *((ChainTask(hops=7), level) for level in range(1, 8)),
    *((ChainTask(hops=9, cycles="any"), level) for level in range(1, 10)),
]


@pytest.mark.parametrize(("task", "level"), CHAINS, ids=lambda value: getattr(value, "cycles", value))
def test_the_chance_of_chains_is_what_the_best_guess_earns(task: Task, level: int) -> None:
    places = [*range(1, 16, 2), 16]  # what follows each symbol, and the start
    guesses = [*map(constant, range(8)), *(copied(place, 0) for place in places), another_than_the_start]
    assert task.chance(level) == pytest.approx(best(task, level, guesses), abs=0.035)


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_the_chance_of_trees_is_what_the_best_guess_earns(level: int) -> None:
    task = TreeTask(depth=4)
    guesses = [*map(constant, range(10)), *(copied(place, shift) for place in (0, 1) for shift in range(10))]
    assert task.chance(level) == pytest.approx(best(task, level, guesses), abs=0.04)


@pytest.mark.parametrize("level", [3, 4])
def test_the_chance_of_hidden_trees_is_what_the_best_constant_earns(level: int) -> None:
    task = task_spec({"type": "hidden_tree"}).make(0)
    assert task.chance(level) == pytest.approx(best(task, level, [lambda _: "0", lambda _: "1"]), abs=0.05)


@pytest.mark.parametrize("answers", ["abcd", "aabc", "aaaa", "abab"])
def test_the_chance_of_a_file_is_what_the_best_guess_earns(tmp_path: Path, answers: str) -> None:
    rows = [{"question": f"{n}?", "answer": answer, "choices": list("abcd")} for n, answer in enumerate(answers)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = FileSpec(
        type="file",
        train=str(tmp_path / "rows.jsonl"),
        test=str(tmp_path / "rows.jsonl"),
        verifier="label",
        choices_key="choices",
    )
    task = spec.make(0)
    examples = task.sample("train", None, 4)
    earned = max(sum(float(task.score(example, guess)) for example in examples) / 4 for guess in "abcd")
    assert task.chance() == earned


@pytest.mark.parametrize(("family", "chance"), [("chain", 1 / 7), ("tree", 1 / 10)])
def test_chance_at_the_default_settings(family: str, chance: float) -> None:
    assert task_spec({"type": family}).make(0).chance() == chance


@pytest.mark.parametrize("hops", [8, 9])
def test_hops_that_end_at_the_start_of_the_one_cycle_are_refused(hops: int) -> None:
    with pytest.raises(TaskError, match=f"got hops={hops} in one cycle, allowed are 1 to 7"):
        ChainTask(hops=hops)
    with pytest.raises(SpecError, match="who copies it is always right; or set cycles='any'"):
        task_spec({"type": "chain", "hops": hops})
    assert task_spec({"type": "chain", "hops": hops, "cycles": "any"}).make(0).chance(hops) < 0.6
