"""Numerical baselines of the dynamics task: ``python -m benchmarks.dynamics``.

Sparse regression (SINDy: Brunton, Proctor, Kutz, PNAS 113, 2016): the rates of change as a sum of few terms of a
library, by least squares whose small coefficients are set to 0 in turn. It reads the rows that a question shows, and
its rates are scored on the paths that no question shows, as an answer's are; its formulas may be longer than an
answer's, so only the part ``rates`` of the reward is comparable. Printed beside it are the truth, a network of products
of powers (``benchmarks.power_network``), and the same regression by the package ``pysindy`` where that is installed.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import combinations_with_replacement
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from benchmarks.power_network import by_network
from neuromas.tasks.dynamics.answer import FLOOR, agreement
from neuromas.tasks.dynamics.systems import SYSTEMS
from neuromas.tasks.dynamics.task import DynamicsTask, held_paths

Array = NDArray[np.float64]
Way = Callable[[Array, Array, Array], Array]
"""Rates at unseen states, from states that are shown, their rates, and the unseen states: all (variables, rows)."""
DEGREE = 3
THRESHOLD = 0.05
ROUNDS = 20


def library(states: Array) -> Array:
    """Return all monomials up to ``DEGREE`` of states of shape (variables, rows): shape (rows, terms)."""
    terms = [np.ones(states.shape[1])]
    for degree in range(1, DEGREE + 1):
        chosen = combinations_with_replacement(range(len(states)), degree)
        terms.extend(np.prod(states[list(variables)], axis=0) for variables in chosen)
    return np.stack(terms, axis=1)


def sparse_regression(terms: Array, target: Array) -> Array:
    """Return coefficients of shape (terms,): least squares, with those below ``THRESHOLD`` left out until none is."""
    kept = np.ones(terms.shape[1], dtype=bool)
    for _ in range(ROUNDS):
        coefficients = np.zeros(terms.shape[1])
        if kept.any():
            coefficients[kept] = np.linalg.lstsq(terms[:, kept], target, rcond=None)[0]
        still = np.abs(coefficients) >= THRESHOLD
        if (still == kept).all():
            break
        kept = still
    return coefficients


def by_regression(states: Array, rates: Array, unseen: Array) -> Array:
    """Return the rates at unseen states, from those that are shown; all of shape (variables, rows)."""
    terms, wanted = library(states), library(unseen)
    return np.stack([wanted @ sparse_regression(terms, target) for target in rates])


def by_pysindy(states: Array, rates: Array, unseen: Array) -> Array:
    """Return the same by the package pysindy, with a polynomial library and its STLSQ of the same threshold."""
    pysindy = import_module("pysindy")
    model = pysindy.SINDy(
        optimizer=pysindy.STLSQ(threshold=THRESHOLD), feature_library=pysindy.PolynomialLibrary(degree=DEGREE)
    )
    model.fit(states.T, t=1.0, x_dot=rates.T)
    return np.asarray(model.predict(unseen.T), dtype=float).T


def installed_ways() -> dict[str, Way]:
    """Return the baselines that can run here, by name."""
    ways: dict[str, Way] = {"regression": by_regression, "network": by_network}
    return ways if find_spec("pysindy") is None else {**ways, "pysindy": by_pysindy}


def measure(name: str, examples: int, noise: float, ways: Mapping[str, Way]) -> dict[str, float]:
    """Return the mean agreement of the truth and of each way on held-out questions of one system."""
    task = DynamicsTask(noise=noise)
    found: dict[str, list[float]] = {way: [] for way in ("truth", *ways)}
    index = 0
    while len(found["truth"]) < examples:
        example = task.example("test", index, SYSTEMS[name].tier)
        index += 1
        if example.info["system"] != name:
            continue
        found["truth"].append(task.score(example, example.answer).parts["rates"])
        held = held_paths(example)
        count = len(SYSTEMS[name].variables)
        shown = np.array(example.info["rows"], dtype=float).T
        unseen, true = held.states.reshape(count, -1), held.rates.reshape(count, -1)
        for way, guess in ways.items():
            given = guess(shown[:count], shown[count:], unseen)
            each = [agreement(one, other, FLOOR + noise**2) for one, other in zip(given, true, strict=True)]
            found[way].append(math.prod(each) ** (1 / count))
    return {way: fmean(values) for way, values in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10, help="questions of each system (default: 10)")
    parser.add_argument("--noise", type=float, default=0.0, help="deviation of the rates that are shown (default: 0)")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args(arguments)
    ways = installed_ways()
    table = {name: measure(name, options.examples, options.noise, ways) for name in SYSTEMS}
    print(f"{'system':<18}" + "".join(f"{way:>12}" for way in next(iter(table.values()))))
    for name, values in table.items():
        print(f"{name:<18}" + "".join(f"{value:>12.3f}" for value in values.values()))
    if options.json is not None:
        options.json.write_text(json.dumps({"examples": options.examples, "noise": options.noise, "systems": table}))


if __name__ == "__main__":
    main()
