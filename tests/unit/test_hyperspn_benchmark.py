"""The circuits that are printed beside the hidden tree task."""

from itertools import product

import numpy as np
import pytest
import torch

from benchmarks.hyperspn import FreeTables, HyperTables, Rows, Tables, Way, independent, log_likelihood, oracle, trained
from neuromas.tasks.hidden_tree import NOISE, likelihoods


def all_rows(leaves: int) -> torch.Tensor:
    """All rows, shape (leaves, rows)."""
    return torch.tensor(list(product((0.0, 1.0), repeat=leaves))).T


@pytest.mark.parametrize("leaves", [2, 4, 8])
@pytest.mark.parametrize("kind", ["free", "hyper"])
def test_probabilities_of_all_rows_sum_to_one(kind: str, leaves: int) -> None:
    torch.manual_seed(0)
    replicas = 3
    made = FreeTables(leaves, replicas) if kind == "free" else HyperTables(leaves, replicas, 4)
    orders = torch.stack([torch.randperm(leaves) for _ in range(replicas)])
    likely = log_likelihood(made(), all_rows(leaves)[orders]).exp()
    assert likely.shape == (2**leaves,)
    assert likely.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert likely.std() > 0.01 * likely.mean()  # a constant would sum to one, too


def test_a_circuit_of_two_leaves_is_the_mixture_by_hand() -> None:
    # States say 1 with .2 and .9 on the left, .6 and .5 on the right; the root takes them with 3/4 and 1/4.
    leaves = torch.tensor([[[[0.8, 0.2], [0.1, 0.9]], [[0.4, 0.6], [0.5, 0.5]]]])
    tables = Tables(leaves.log(), torch.zeros(1, 0, 2, 2), torch.tensor([[0.75, 0.25]]).log(), torch.zeros(1))
    likely = log_likelihood(tables, torch.tensor([[[0.0, 1.0], [1.0, 1.0]]])).exp()
    assert likely.tolist() == pytest.approx([0.75 * 0.8 * 0.6 + 0.25 * 0.1 * 0.5, 0.75 * 0.2 * 0.6 + 0.25 * 0.9 * 0.5])


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_circuit_with_the_true_weights_is_the_oracle(depth: int) -> None:
    """A state is a chance on the oracle's grid; its weights are the trapezoidal rule's over the noise."""
    cells = 6
    half = cells * depth
    states = 2 * half + 1
    chances = 0.5 + np.arange(-half, half + 1) * (NOISE / cells)
    away = np.abs(np.arange(states)[:, None] - np.arange(states))
    steps = ((away < cells) + 0.5 * (away == cells)) / (2 * cells)
    one = np.clip(chances, 0.0, 1.0)
    leaf = steps @ np.stack([1 - one, one], axis=1)
    root = np.zeros((1, states))
    root[0, half] = 1.0
    tables = Tables(
        torch.from_numpy(leaf).log().expand(1, 2**depth, states, 2),
        torch.from_numpy(steps).log().expand(1, 2**depth - 2, states, states),
        torch.from_numpy(root).log(),
        torch.zeros(1),
    )
    rows = all_rows(2**depth)
    found = log_likelihood(tables, rows[None]).exp().numpy()
    assert found == pytest.approx(likelihoods(rows.T.numpy().astype(int), cells), rel=1e-9)


def test_training_gains_on_independent_leaves_and_no_row_beats_the_oracle() -> None:
    rows = Rows.draw(depth=3, number=2000, seed=0)
    assert [len(part) for part in (rows.train, rows.stop, rows.test)] == [1400, 200, 400]
    floor, ceiling = independent(rows.train, rows.test), oracle(rows.test)
    assert floor == pytest.approx(8 * np.log(0.5), abs=0.05)
    for make in (FreeTables, lambda leaves, replicas: HyperTables(leaves, replicas, 5)):
        found = trained(Way("", make, 2e-2), rows, replicas=4, steps=200, seed=0)
        assert floor + 0.2 * (ceiling - floor) < found["test"] < ceiling + 0.05
        assert found["train"] > floor
    assert found["numbers"] == 4 * 15 * 5 + 4 + (5 * 20 + 20) + (20 * 5 + 5) + (5 + 1) * (10 + 25 + 5)
