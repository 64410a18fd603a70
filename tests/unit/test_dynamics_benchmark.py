"""The numerical baselines that are printed beside the dynamics task."""

import numpy as np
import pytest
import torch

from benchmarks.dynamics import by_regression, library, measure, sparse_regression
from benchmarks.power_network import by_network, features, powers, select
from neuromas.tasks.dynamics.answer import FLOOR, agreement


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
    ways = {"regression": by_regression}
    assert measure("lorenz", 2, 0.0, ways)["regression"] > 0.99
    found = measure("michaelis_menten", 2, 0.0, ways)
    assert found["truth"] == 1.0
    assert found["regression"] < 0.9


def test_units_are_products_of_powers_with_their_signs() -> None:
    values = torch.tensor([[2.0, -2.0, -2.0], [3.0, 3.0, -4.0]], dtype=torch.float64)
    exponents = torch.tensor([[3.0, 0.0], [2.0, 1.0], [-1.0, -1.0], [0.5, 0.0]], dtype=torch.float64)
    found = powers(values, exponents)
    assert found[0].tolist() == pytest.approx([8, -8, -8])
    assert found[1].tolist() == pytest.approx([12, 12, -16])
    assert found[2].tolist() == pytest.approx([1 / 6, -1 / 6, 1 / 8])
    assert found[3].tolist() == pytest.approx([2**0.5, 0, 0], abs=1e-7)  # the root of -2 has no real part


def test_the_read_out_weighs_a_constant_the_variables_and_units_of_them_and_their_sum() -> None:
    states = torch.tensor([[2.0], [3.0]], dtype=torch.float64)
    exponents = torch.tensor([[1.0, 2.0, 0.0], [1.0, 0.0, -1.0]], dtype=torch.float64)
    found = features(states, exponents, torch.tensor([0.5, 1.0], dtype=torch.float64))
    assert found.tolist() == [pytest.approx([1, 2, 3, 2 * 9, 2 / (1 + 1 + 3)])]


def test_the_criterion_takes_the_terms_that_are_there() -> None:
    terms = np.random.default_rng(2).normal(size=(20, 6))
    target = 2 * terms[:, 1] - 0.5 * terms[:, 4]
    _, kept, weights = select(terms, target / target.std(), np.ones(6))
    assert kept == [1, 4]
    assert weights * target.std() == pytest.approx([2, -0.5])
    terms[0, 1] = np.nan
    assert 1 not in select(terms, target / target.std(), np.ones(6))[1]


def test_the_criterion_counts_what_was_fitted_in_a_term() -> None:
    terms = np.random.default_rng(2).normal(size=(20, 2))
    target = terms[:, 0] + 0.5 * terms[:, 1]
    cheap, dear = (select(terms, target / target.std(), np.array([1.0, number])) for number in (1.0, 200.0))
    assert (cheap[1], dear[1]) == ([0, 1], [0])
    assert cheap[0] == pytest.approx(20 * np.log(1e-7) + 2 * np.log(20))


def test_the_network_finds_a_quotient_that_no_polynomial_is() -> None:
    rng = np.random.default_rng(3)
    shown, unseen = rng.uniform(0.5, 5, (1, 20)), rng.uniform(0.5, 5, (1, 50))
    true = -2 * unseen / (0.7 + unseen)
    rates = -2 * shown / (0.7 + shown)
    assert agreement(by_network(shown, rates, unseen)[0], true[0], FLOOR) > 0.999
    assert agreement(by_regression(shown, rates, unseen)[0], true[0], FLOOR) < 0.9
