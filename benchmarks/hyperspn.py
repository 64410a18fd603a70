"""Circuits that learn the leaves of hidden trees, beside the exact oracle: ``python -m benchmarks.hyperspn``.

A sum-product network over binary leaves has an exact likelihood. Its weights are free, or made by one small network
from an embedding of each place in the circuit (HyperSPN, arXiv:2112.00914); the paper's claim is that the second, with
fewer numbers to train, is likelier on rows that were held out than the first with weight decay. The rows are those of
the ``hidden_tree`` task, whose likelihood message passing knows. Circuits do not see the tree: each of their replicas
joins the leaves in a random order.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.measure import Cell, report
from neuromas.tasks.hidden_tree import draw_leaves, likelihoods

Bits = NDArray[np.int64]
STATES: Final = 5
"""Sums at each place of a circuit, N in the paper."""
HIDDEN: Final = 20
LEARNING_RATES: Final = {"free": 2e-2, "hyper": 5e-3}
BATCH: Final = 250
CHECK_EVERY: Final = 50
ORACLE_PART: Final = 50  # rows at a time: the messages of 256 leaves take 16 MB


@dataclass(frozen=True)
class Tables:
    """Log weights of a circuit of R replicas over x leaves, x a power of 2, each normalised over its last axis.

    Attributes:
        leaves: of 0 and 1 under each state, shape (R, x, N, 2).
        inner: of the products under each state, shape (R, x - 2, N, N): the root's children first, level by level.
        root: of the products at the top, shape (R, N).
        replicas: shape (R,).
    """

    leaves: Tensor
    inner: Tensor
    root: Tensor
    replicas: Tensor

    @classmethod
    def normalised(cls, leaves: Tensor, inner: Tensor, root: Tensor, replicas: Tensor) -> Tables:
        """Return tables from numbers of any size."""
        return cls(*(table.log_softmax(-1) for table in (leaves, inner, root, replicas)))


def log_likelihood(tables: Tables, rows: Tensor) -> Tensor:
    """Return log P(row) in nats, shape (rows,).

    A place's state k is the sum over j of weight (k, j) times the product of its two children's states j.

    Args:
        tables: of the circuit.
        rows: 0 and 1 in the order of each replica, shape (R, x, rows).
    """
    zero, one = tables.leaves[..., :1], tables.leaves[..., 1:]
    values = zero + rows[:, :, None] * (one - zero)  # (R, places, N, rows), from here to the root
    while True:
        values = values[:, 0::2] + values[:, 1::2]
        places = values.shape[1]
        if places == 1:
            by_replica = (values[:, 0] + tables.root[:, :, None]).logsumexp(1)
            return (by_replica + tables.replicas[:, None]).logsumexp(0)
        weights = tables.inner[:, places - 2 : 2 * places - 2].exp()
        largest = values.detach().amax(2, keepdim=True)
        values = (weights @ (values - largest).exp()).log() + largest


class FreeTables(nn.Module):
    """Every weight is a number of its own."""

    def __init__(self, leaves: int, replicas: int) -> None:
        super().__init__()
        self.leaves = nn.Parameter(torch.randn(replicas, leaves, STATES, 2))
        self.inner = nn.Parameter(torch.randn(replicas, leaves - 2, STATES, STATES))
        self.root = nn.Parameter(torch.randn(replicas, STATES))
        self.replicas = nn.Parameter(torch.zeros(replicas))

    def forward(self) -> Tables:
        """Return the circuit's tables."""
        return Tables.normalised(self.leaves, self.inner, self.root, self.replicas)


class HyperTables(nn.Module):
    """Embeddings of ``STATES`` numbers for each place; one network with a bottleneck makes the weights from them."""

    def __init__(self, leaves: int, replicas: int, bottleneck: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.rand(replicas, 2 * leaves - 1, STATES))
        self.replicas = nn.Parameter(torch.zeros(replicas))
        self.network = nn.Sequential(nn.Linear(STATES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, bottleneck))
        self.to_leaf = nn.Linear(bottleneck, STATES * 2)
        self.to_inner = nn.Linear(bottleneck, STATES * STATES)
        self.to_root = nn.Linear(bottleneck, STATES)

    def forward(self) -> Tables:
        """Return the circuit's tables."""
        features = self.network(self.places)
        inner_end = (self.places.shape[1] + 1) // 2 - 1  # the root, its x - 2 inner places, then the x leaves
        return Tables.normalised(
            self.to_leaf(features[:, inner_end:]).unflatten(-1, (STATES, 2)),
            self.to_inner(features[:, 1:inner_end]).unflatten(-1, (STATES, STATES)),
            self.to_root(features[:, 0]),
            self.replicas,
        )


@dataclass(frozen=True)
class Way:
    """A kind of circuit: how its weights are made, and how Adam trains them."""

    name: str
    make: Callable[[int, int], nn.Module]
    learning_rate: float
    weight_decay: float = 0.0


WAYS: Final = (
    *(
        Way("free" if not decay else f"free, decay {decay:g}", FreeTables, LEARNING_RATES["free"], decay)
        for decay in (0.0, 1e-4, 1e-3)
    ),
    *(
        Way(f"hyper, bottleneck {size}", partial(HyperTables, bottleneck=size), LEARNING_RATES["hyper"])
        for size in (5, 20)
    ),
)


@dataclass(frozen=True)
class Rows:
    """Rows of leaves: 70 % to train on, 10 % to stop by, 20 % held out; each of shape (rows, leaves)."""

    train: Bits
    stop: Bits
    test: Bits

    @classmethod
    def draw(cls, depth: int, number: int, seed: int) -> Rows:
        """Return ``number`` rows of trees of a depth."""
        rng = Random(f"hyperspn/{seed}")
        rows = np.array([draw_leaves(rng, depth) for _ in range(number)])
        return cls(*np.split(rows, [number * 7 // 10, number * 8 // 10]))


def oracle(rows: Bits) -> float:
    """Return the true mean log likelihood of a row, nats."""
    parts = [rows[at : at + ORACLE_PART] for at in range(0, len(rows), ORACLE_PART)]
    return float(np.log(np.concatenate([likelihoods(part) for part in parts])).mean())


def independent(train: Bits, rows: Bits) -> float:
    """Return that of leaves which know nothing of each other, each with its share of ones in ``train``."""
    ones = (train.sum(axis=0) + 1) / (len(train) + 2)
    return float((rows * np.log(ones) + (1 - rows) * np.log(1 - ones)).sum(axis=1).mean())


def trained(way: Way, rows: Rows, replicas: int, steps: int, seed: int) -> dict[str, float]:
    """Return a circuit's trained numbers and its likelihoods, nats a row, at the step likeliest on ``rows.stop``."""
    torch.manual_seed(seed)
    leaves = rows.train.shape[1]
    orders = torch.stack([torch.randperm(leaves) for _ in range(replicas)])
    train, stop, test = (_ordered(part, orders) for part in (rows.train, rows.stop, rows.test))
    made = way.make(leaves, replicas)
    optimizer = torch.optim.Adam(made.parameters(), lr=way.learning_rate, weight_decay=way.weight_decay)
    best, best_step, best_state = -np.inf, 0, made.state_dict()
    for step in range(1, steps + 1):
        batch = train[:, :, torch.randint(train.shape[2], (BATCH,))]
        optimizer.zero_grad()
        torch.autograd.backward(-log_likelihood(made(), batch).mean())
        optimizer.step()
        if step % CHECK_EVERY == 0 and (likely := _mean(made, stop)) > best:
            best, best_step, best_state = likely, step, {key: value.clone() for key, value in made.state_dict().items()}
    made.load_state_dict(best_state)
    numbers = sum(one.numel() for one in made.parameters())
    return {"numbers": numbers, "step": best_step, "train": _mean(made, train), "test": _mean(made, test)}


def _ordered(rows: Bits, orders: Tensor) -> Tensor:
    return torch.from_numpy(rows.T.astype(np.float32))[orders]


@torch.no_grad()
def _mean(made: nn.Module, rows: Tensor) -> float:
    tables = made()
    parts = [log_likelihood(tables, part) for part in torch.split(rows, BATCH, dim=2)]
    return float(torch.cat(parts).mean())


def compare(depth: int, number: int, replicas: int, steps: int, seeds: Sequence[int]) -> list[dict[str, Cell]]:
    """Return a row for each way: means over the seeds, with the lowest and the highest of the test's."""
    found: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        rows = Rows.draw(depth, number, seed)
        least, most = independent(rows.train, rows.test), oracle(rows.test)
        known = {"independent leaves": least, "oracle": most}
        ends = {name: {"numbers": 0, "step": 0, "train": test, "test": test} for name, test in known.items()}
        ends["independent leaves"] |= {"numbers": 2**depth, "train": independent(rows.train, rows.train)}
        ends["oracle"]["train"] = oracle(rows.train)
        each = {**ends, **{way.name: trained(way, rows, replicas, steps, seed) for way in WAYS}}
        for name, one in each.items():
            found.setdefault(name, []).append({**one, "gained": (one["test"] - least) / (most - least)})
    return [_row(name, ones) for name, ones in found.items()]


def _row(name: str, ones: Sequence[dict[str, float]]) -> dict[str, Cell]:
    tests = [one["test"] for one in ones]
    means = {key: fmean(one[key] for one in ones) for key in ("step", "train", "test", "gained")}
    nats = {key: f"{means[key]:.2f}" for key in ("train", "test")}
    ends: dict[str, Cell] = {"lowest": f"{min(tests):.2f}", "highest": f"{max(tests):.2f}"}
    numbers = {"numbers": round(ones[0]["numbers"]), "step": round(means["step"])}
    return {"circuit": name, **numbers, **nats, **ends, "of the headroom": means["gained"]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=8, help="of the trees: 2^depth leaves (default: 8, the paper's)")
    parser.add_argument("--rows", type=int, default=10_000, help="rows in all (default: 10000, the paper's)")
    parser.add_argument("--replicas", type=int, default=5, help="of each circuit (default: 5; the paper: 50)")
    parser.add_argument("--steps", type=int, default=300, help="of each, of which the best is kept (default: 300)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args(arguments)
    rows = compare(options.depth, options.rows, options.replicas, options.steps, options.seeds)
    report(f"nats a row of {2**options.depth} leaves, {len(options.seeds)} seeds", rows, options.json)


if __name__ == "__main__":
    main()
