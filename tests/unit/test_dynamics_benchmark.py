"""The sparse regression that is printed beside the dynamics task."""

import numpy as np
import pytest

from benchmarks.dynamics import by_regression, library, measure, sparse_regression


def test_the_library_is_all_monomials() -> None:
    states = np.array([[2.0, 3.0], [5.0, 7.0]])
    assert library(states)[0].tolist() == [1, 2, 5, 4, 10, 25, 8, 20, 50, 125]
    assert library(states).shape == (2, 10)


def test_few_terms_are_found() -> None:
    states = np.random.default_rng(0).uniform(-2, 2, (2, 30))
    x, y = states
    coefficients = sparse_regression(library(states), 1.5 * x - 0.7 * x * x * y)
    assert coefficients == pytest.approx([0, 1.5, 0, 0, 0, 0, 0, -0.7, 0, 0], abs=1e-9)


def test_rates_that_are_polynomials_are_known_everywhere() -> None:
    rng = np.random.default_rng(1)
    states, unseen = rng.uniform(-2, 2, (2, 30)), rng.uniform(-3, 3, (2, 50))
    guessed = by_regression(states, np.stack([states[1], states[0] ** 3]), unseen)
    assert guessed == pytest.approx(np.stack([unseen[1], unseen[0] ** 3]), abs=1e-8)


def test_systems_of_polynomials_are_met_and_others_are_not() -> None:
    assert measure("lorenz", 2, 0.0)["regression"] > 0.99
    found = measure("michaelis_menten", 2, 0.0)
    assert found["truth"] == 1.0
    assert found["regression"] < 0.9
