"""Formulas of the dynamics task: the grammar, what it refuses, and the fit of constants."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromas.tasks.dynamics.fit import fit
from neuromas.tasks.dynamics.formula import FormulaError, parse_formula

NAMES = ("x", "y", "c0", "c1", "c2")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2*3", 7.0),
        ("10 - 3 - 2", 5.0),
        ("12/3/2", 2.0),
        ("2^3^2", 512.0),
        ("-2^2", -4.0),
        ("2**-1", 0.5),
        ("-(x + y)", -5.0),
        ("--x", 2.0),
        ("x*-y", -6.0),
        ("1.5e1 + .5", 15.5),
        ("sin(x)^2 + cos(x)^2", 1.0),
        ("sqrt(x*8) - log(exp(y))", 1.0),
        ("tanh(0)", 0.0),
    ],
)
def test_a_formula_has_the_value_of_its_arithmetic(text: str, value: float) -> None:
    assert parse_formula(text, NAMES)({"x": np.float64(2), "y": np.float64(3)}) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x +",
        "2x",
        "x y",
        "(x",
        "x)",
        "z",
        "c9",
        "sin",
        "sin x",
        "abs(x)",
        "max(x, y)",
        "x if x > 1 else y",
        "x > 1",
        "x // 2",
        "x % 2",
        "[1, 2][0]",
        "x.real",
        "x.__class__",
        "__import__('os')",
        "eval('1')",
        "lambda: 1",
        "(x := 2)",
        "'a'",
        "1e9999",
        "x" * 500,
        "(" * 399,
        "-" * 399 + "x",
        "2^" * 150 + "2",
        "+".join(["x"] * 40),
        "+".join(["1*x"] * 7),
        "9" * 300,
        "\N{FULLWIDTH DIGIT ONE}",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "x\0",
    ],
)
def test_whatever_is_no_formula_or_too_large_a_one_is_refused(text: str) -> None:
    with pytest.raises(FormulaError):
        parse_formula(text, NAMES)


@given(st.text(alphabet="xyc012.+-*/^() eE_sinlog'\n", max_size=60))
def test_any_text_is_refused_or_computed(text: str) -> None:
    try:
        formula = parse_formula(text, NAMES)
    except FormulaError:
        return
    value = formula(dict.fromkeys(NAMES, np.array([0.0, -1.0, 1e300])))
    assert np.broadcast_to(value, 3).shape == (3,)


def test_towers_of_powers_are_not_finite_and_cost_nothing() -> None:
    assert math.isinf(float(parse_formula("9^9^9^9", NAMES)({})))
    assert math.isnan(float(parse_formula("log(-1)", NAMES)({})))


def test_complexity_leaves_signs_to_the_constants() -> None:
    assert parse_formula("-c0*x", NAMES).complexity == parse_formula("-2.5*x", NAMES).complexity == 3


@pytest.mark.parametrize(
    ("text", "constants"),
    [
        ("c0*x + c1*y + c2", {"c0": 2.0, "c1": -3.5, "c2": 0.25}),
        ("c0*x*(1 - x/c1)", {"c0": 1.3, "c1": 4.0}),
        ("c0*sin(c1*x)", {"c0": 2.0, "c1": 1.4}),
        ("c0*x/(c1 + x)", {"c0": -1.5, "c1": 0.7}),
    ],
)
def test_constants_are_found_from_rows(text: str, constants: dict[str, float]) -> None:
    formula = parse_formula(text, NAMES)
    rows = {"x": np.linspace(0.1, 3, 16), "y": np.cos(np.arange(16.0))}
    target = np.asarray(formula.bound(constants)(rows))
    found = fit(formula, rows, target)
    assert found is not None
    assert formula.bound(found)(rows) == pytest.approx(target, abs=1e-4)
    assert found == fit(formula, rows, target)


def test_a_formula_that_is_never_finite_has_no_fit() -> None:
    rows = {"x": np.linspace(0.1, 3, 16)}
    assert fit(parse_formula("c0/(x - x)", NAMES), rows, np.ones(16)) is None


def test_a_formula_without_constants_is_taken_as_it_is() -> None:
    assert fit(parse_formula("x", NAMES), {"x": np.ones(4)}, np.zeros(4)) == {}
