"""The reasoning_gym family: its refusal where the package is missing, and its questions where it is installed."""

import sys
from importlib.util import find_spec

import pytest

from neuromas.errors import TaskError
from neuromas.tasks.base import Task
from neuromas.tasks.judge import judge
from neuromas.tasks.reasoning_gym import REFUSED
from neuromas.tasks.registry import make_task, task_spec


def made(**settings: object) -> Task:
    return make_task(task_spec({"type": "reasoning_gym", **settings}), seed=1)


def test_a_missing_package_is_named_with_the_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(TaskError, match=r"pip install 'neuromas\[reasoning-gym\]'"):
        made(dataset="chain_sum", config={"max_terms": 3})  # other data sets may have been made before


if find_spec("reasoning_gym") is not None:

    @pytest.mark.parametrize(
        ("dataset", "attribute"),
        [("chain_sum", "num_terms"), ("leg_counting", "num_animals"), ("family_relationships", "family_size")],
    )
    def test_right_answers_score_1_and_no_question_is_in_both_splits(dataset: str, attribute: str) -> None:
        task = made(dataset=dataset, attribute=attribute)
        for level in task.levels[:2]:
            train, test = ([task.example(split, n, level) for n in range(30)] for split in ("train", "test"))
            assert [judge(task, example, example.answer).reward for example in train + test] == [1.0] * 60
            assert [judge(task, example, "zzz").reward for example in train + test] == [0.0] * 60
            assert {example.prompt for example in train} & {example.prompt for example in test} == set()
            assert made(dataset=dataset, attribute=attribute).example("test", 3, level) == test[3]

    def test_a_level_asks_its_own_questions_alone() -> None:
        task = made(dataset="chain_sum", attribute="num_terms")
        for level, terms in ((1, 2), (2, 3), (3, 4)):
            signs = {sum(task.example("train", n, level).prompt.count(f" {sign} ") for sign in "+-") for n in range(40)}
            assert signs == {terms - 1}

    def test_data_sets_that_cannot_be_trained_on_are_refused_with_the_reason() -> None:
        for dataset, why in REFUSED.items():
            with pytest.raises(TaskError, match=why):
                made(dataset=dataset)
        with pytest.raises(TaskError, match="did you mean 'chain_sum'"):
            made(dataset="chain_sun")
        with pytest.raises(TaskError, match="allowed are num_terms, num_digits"):
            made(dataset="chain_sum", attribute="terms")
        with pytest.raises(TaskError, match=r"task\.config: chain_sum of reasoning-gym refuses it"):
            made(dataset="chain_sum", config={"nope": 1})
