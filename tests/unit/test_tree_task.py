import pytest

from neuromas.errors import TaskError
from neuromas.tasks.facts import derive
from neuromas.tasks.tree import TreeProblem, TreeTask

QUESTION = "A= 4 +9 B= 3 -0 C= 2 -7 D= 8 +5 E= A +B F= C -D G= E +F find G="


def test_gates_are_evaluated_modulo_ten() -> None:
    assert derive(TreeProblem.parse(QUESTION).rules) == {"A": 3, "B": 3, "C": 5, "D": 3, "E": 6, "F": 2, "G": 8}
    assert derive(TreeProblem.parse("A= 4 +9 B= 3 -0 E= A +B find E=").rules) == {"A": 3, "B": 3, "E": 6}


def test_a_wrong_message_is_followed_rather_than_recomputed() -> None:
    derived = derive(TreeProblem.parse(QUESTION).rules, {"E": 9, "A": 0})
    assert (derived["E"], derived["G"]) == (3, 1)


def test_question_text_and_problem_are_the_same_thing() -> None:
    assert TreeProblem.parse(QUESTION).question == QUESTION
    for depth in (1, 2, 3, 4):
        prompt = TreeTask(depth=4).example("train", 5, level=depth).prompt
        assert TreeProblem.parse(prompt).question == prompt


def test_the_first_examples_of_the_streams_never_change() -> None:
    example = TreeTask(depth=3).example("test", 0)
    assert example.id == "tree-3/0/test/0"
    assert example.prompt == "A= 0 -6 B= 4 -9 C= 4 -0 D= 9 +2 E= A +B F= C -D G= E -F find G="
    assert (example.answer, example.level) == ("G= 6", 3)


def test_a_level_is_a_depth_and_names_nest() -> None:
    task = TreeTask(depth=4)
    assert task.levels == (1, 2, 3, 4)
    asked = [task.example("train", 0, level=level).prompt[-2] for level in task.levels]
    assert asked == ["A", "E", "G", "O"]
    names = [
        {rule.name for rule in TreeProblem.parse(task.example("train", 0, level=level).prompt).rules}
        for level in task.levels
    ]
    assert [len(level_names) for level_names in names] == [1, 3, 7, 15]
    assert names[0] < names[1] < names[2] < names[3]


def test_levels_and_depths_outside_the_range_are_refused() -> None:
    with pytest.raises(TaskError, match="raise depth="):
        TreeTask(depth=2).example("train", 0, level=3)
    for depth in (0, 5):
        with pytest.raises(TaskError, match="allowed are 1 to 4"):
            TreeTask(depth=depth)


def test_streams_of_splits_are_distinct_and_repeatable() -> None:
    task = TreeTask(depth=3)
    train, test = ([task.example(split, i).prompt for i in range(200)] for split in ("train", "test"))
    assert len(set(train) | set(test)) == 400
    assert train == [task.example("train", i).prompt for i in range(200)]
    assert task.size("test") is None


def test_the_200_questions_of_depth_1_are_divided_between_the_splits() -> None:
    task = TreeTask(depth=3)
    assert [task.size("test", level) for level in (1, 2, 3)] == [58, None, None]
    test = [task.example("test", index, level=1).prompt for index in range(58)]
    train = {task.example("train", index, level=1).prompt for index in range(3000)}
    assert len(set(test)) == 58
    assert len(train) == 142
    assert not train & set(test)
    with pytest.raises(TaskError, match="got test example 58, depth 1 has 58"):
        task.example("test", 58, level=1)


def test_what_is_held_out_does_not_depend_on_the_seed() -> None:
    test = {TreeTask(depth=2, seed=1).example("test", index).prompt for index in range(2000)}
    train = {TreeTask(depth=2, seed=2).example("train", index).prompt for index in range(2000)}
    assert not train & test


def test_scores_and_descriptions_follow_the_answer() -> None:
    task = TreeTask(depth=3)
    example = task.example("test", 0)
    assert task.score(example, "so G= 6 .") == 1.0
    assert task.score(example, "G= 5") == 0.0
    assert task.score(example, "E= 6") == 0.0
    leaf = task.describe(example, "A= 4 .")
    assert (leaf.label, leaf.correct) == ("A", True)
    assert task.describe(example, "no fact here") is None


def test_other_text_is_refused() -> None:
    for text in ("0: 1 1: 0 start 0 find A=", "E= A +B find E=", "A= 1 +2 find B=", "A= 1 +2"):
        with pytest.raises(TaskError, match="expected a tree question"):
            TreeProblem.parse(text)
