from itertools import product
from random import Random

import numpy as np
import pytest

from neuromas.errors import TaskError
from neuromas.tasks.base import Description
from neuromas.tasks.hidden_tree import UNKNOWN, HiddenTreeTask, draw_leaves, likelihoods, posterior


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_probabilities_of_all_rows_sum_to_one(depth: int) -> None:
    rows = np.array(list(product((0, 1), repeat=2**depth)))
    assert likelihoods(rows).sum() == pytest.approx(1.0)
    assert likelihoods(rows) == pytest.approx(likelihoods(1 - rows))


def test_two_leaves_of_one_parent_agree_by_the_variance_of_its_chance() -> None:
    # E[p²] = 1/4 + (2/5)²/12 for siblings of depth 2, E[p]² for leaves that share the root alone.
    rows = np.array([[1, 1, UNKNOWN, UNKNOWN], [1, UNKNOWN, 1, UNKNOWN]])
    assert likelihoods(rows, cells=200) == pytest.approx([1 / 4 + 0.16 / 12, 1 / 4], abs=1e-6)
    assert posterior([1, UNKNOWN, UNKNOWN, UNKNOWN], 1) == pytest.approx(1 / 2 + 0.32 / 12, abs=1e-4)


def test_the_oracle_of_256_leaves_has_the_published_likelihood() -> None:
    """-158.73 nats a row on the paper's test set; a sample of 200 rows has a standard error of 0.8."""
    rng = Random(0)
    rows = np.array([draw_leaves(rng, 8) for _ in range(200)])
    nats = np.concatenate([np.log(likelihoods(part, cells=10)) for part in np.split(rows, 10)])
    assert nats.mean() == pytest.approx(-158.73, abs=2.5)
    assert nats.mean() > 256 * np.log(0.5) + 15  # independent leaves: -177.4


def test_a_posterior_is_the_share_of_ones_among_trees_with_the_same_leaves() -> None:
    rng = Random(1)
    drawn = np.array([draw_leaves(rng, 2) for _ in range(40_000)])
    alike = drawn[(drawn[:, 0] == 1) & (drawn[:, 2] == 0) & (drawn[:, 3] == 0)]
    assert alike[:, 1].mean() == pytest.approx(posterior([1, UNKNOWN, 0, 0], 1), abs=0.03)


def test_the_answer_is_the_decision_of_the_oracle() -> None:
    task = HiddenTreeTask(depth=4)
    examples = [task.example("train", index) for index in range(60)]
    for example in examples:
        probability = float(str(example.info["probability"]))
        assert abs(probability - 0.5) >= 0.02
        assert example.answer == ("1" if probability > 0.5 else "0")
        assert task.score(example, f"The answer is {example.answer}.") == 1.0
        assert task.score(example, str(1 - int(example.answer))) == 0.0
    assert 0.3 < np.mean([example.answer == "1" for example in examples]) < 0.7
    assert len({example.prompt for example in examples}) == 60
    assert task.describe(examples[0], "so 7") is None
    assert task.describe(examples[0], examples[0].answer) == Description(f"says {examples[0].answer}", True)


def test_levels_are_depths() -> None:
    task = HiddenTreeTask(depth=5)
    assert task.levels == (3, 4, 5)
    assert task.example("test", 0, 3).prompt.startswith("A binary tree has 8 leaves.")
    with pytest.raises(TaskError, match=r"got level 6, allowed are \(3, 4, 5\)"):
        task.example("test", 0, 6)
