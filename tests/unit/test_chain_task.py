import re
from itertools import product

import pytest

from neuromas.errors import TaskError
from neuromas.tasks.chain import ChainProblem, ChainTask
from neuromas.tasks.facts import derive

QUESTION = "0: 5 1: 3 2: 7 3: 0 4: 6 5: 1 6: 2 7: 4 start 2 find E="


def test_a_question_is_written_as_pairs_start_and_the_asked_name() -> None:
    problem = ChainProblem(successor=(5, 3, 7, 0, 6, 1, 2, 4), start=2, hops=5)
    assert problem.question == QUESTION
    assert ChainProblem.parse(QUESTION) == problem


def test_facts_follow_the_permutation_hop_by_hop() -> None:
    assert derive(ChainProblem.parse(QUESTION).rules) == {"A": 7, "B": 4, "C": 6, "D": 2, "E": 7}


def test_a_wrong_message_is_followed_rather_than_recomputed() -> None:
    assert derive(ChainProblem.parse(QUESTION).rules, {"B": 1})["C"] == 3


@pytest.mark.parametrize(
    ("cycles", "prompt", "answer"),
    [
        ("one", "0: 2 1: 4 2: 7 3: 5 4: 3 5: 6 6: 0 7: 1 start 3 find G=", "G= 4"),
        ("any", "0: 6 1: 0 2: 2 3: 7 4: 1 5: 4 6: 3 7: 5 start 3 find G=", "G= 3"),
    ],
)
def test_the_first_examples_of_the_streams_never_change(cycles: str, prompt: str, answer: str) -> None:
    example = ChainTask(hops=7, cycles=cycles).example("train", 3, level=7)
    assert example.id == "chain-7/0/train/3"
    assert (example.prompt, example.answer, example.level) == (prompt, answer, 7)


def test_in_one_cycle_all_hops_below_eight_end_apart() -> None:
    for index in range(200):
        problem = ChainProblem.parse(ChainTask(hops=7).example("train", index).prompt)
        stops = list(derive(problem.rules).values())
        assert sorted([problem.start, *stops]) == list(range(8))


def test_in_any_permutation_five_hops_end_where_one_does_for_three_questions_of_eight() -> None:
    task = ChainTask(hops=5, cycles="any")
    facts = [derive(ChainProblem.parse(task.example("train", index).prompt).rules) for index in range(4000)]
    assert sum(fact["A"] == fact["E"] for fact in facts) / 4000 == pytest.approx(3 / 8, abs=0.02)


def test_a_level_is_the_number_of_hops_and_none_is_the_target() -> None:
    task = ChainTask(hops=4)
    assert task.levels == (1, 2, 3, 4)
    assert task.example("test", 0).prompt.endswith("find D=")
    assert task.example("test", 0, level=1).prompt.endswith("find A=")
    for level in (0, 5):
        with pytest.raises(TaskError, match="raise hops="):
            task.example("test", 0, level=level)
    for hops in (0, 10):
        with pytest.raises(TaskError, match="allowed are 1 to 9"):
            ChainTask(hops=hops)


def test_streams_are_repeatable_and_differ_by_seed() -> None:
    task = ChainTask(hops=5)
    stream = [task.example("train", i).prompt for i in range(200)]
    assert stream == [ChainTask(hops=5).example("train", i).prompt for i in range(200)]
    assert stream != [ChainTask(hops=5, seed=1).example("train", i).prompt for i in range(200)]
    assert task.size("train") is None


@pytest.mark.parametrize("cycles", ["one", "any"])
def test_no_question_of_the_test_split_is_trained_on_at_any_level(cycles: str) -> None:
    asked: dict[str, set[str]] = {"train": set(), "test": set()}
    for seed, split, level in product((0, 1), asked, (2, 5)):
        task = ChainTask(hops=5, seed=seed, cycles=cycles)
        asked[split] |= {task.example(split, index, level).prompt.partition(" find")[0] for index in range(1000)}
    assert not asked["train"] & asked["test"]


@pytest.mark.parametrize("hops", range(1, 10))
def test_the_answer_is_what_walking_the_pairs_gives(hops: int) -> None:
    task = ChainTask(hops=hops, cycles="one" if hops < 8 else "any")
    for index in range(20):
        example = task.example("test", index)
        successor = dict(re.findall(r"(\d): (\d)", example.prompt))
        at = re.search(r"start (\d)", example.prompt)[1]
        for _ in range(hops):
            at = successor[at]
        assert example.answer == f"{'ABCDEFGHI'[hops - 1]}= {at}"
        assert task.score(example, f"so {example.answer} .") == 1.0


def test_chance_of_the_quickstart() -> None:
    assert ChainTask(hops=5).chance() == 1 / 7
    assert ChainTask(hops=5, cycles="any").chance() == 2 / 8


def test_messages_are_described_by_the_hop_they_state() -> None:
    task = ChainTask(hops=7)
    example = task.example("train", 3, level=7)
    assert task.describe(example, "so A= 5").correct
    assert not task.describe(example, "A= 6 .").correct
    assert task.describe(example, "A= 6 .").label == "A"
    assert task.describe(example, "so so") is None


def test_other_text_is_refused() -> None:
    for text in ("A= 4 +9 find A=", "0: 1 1: 0 start 0 find A=", QUESTION.replace("E=", "Z=")):
        with pytest.raises(TaskError, match="expected a chain question"):
            ChainProblem.parse(text)
