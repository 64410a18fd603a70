"""The dynamics task: its systems, what earns its reward, and the ways of earning it without the equations."""

import re
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from neuromas.tasks.base import Description, Example
from neuromas.tasks.dynamics.systems import STEPS, SYSTEMS, System, derivatives, of_tier, paths
from neuromas.tasks.dynamics.task import DynamicsTask

TASK = DynamicsTask()


def form(system: System) -> str:
    """The system's equations with a free constant for each parameter."""
    numbers = {name: f"c{number}" for number, name in enumerate(("a", "b", "d", "e"))}
    free = [re.sub(r"\b[abde]\b", lambda found: numbers[found[0]], text) for text in system.formulas]
    return "\n".join(f"{name}' = {text}" for name, text in zip(system.variables, free, strict=True))


def of_system(name: str, task: DynamicsTask = TASK) -> Example:
    """The first held-out example of a system."""
    examples = (task.example("test", index, SYSTEMS[name].tier) for index in range(200))
    return next(example for example in examples if example.info["system"] == name)


def test_there_are_ten_systems_in_three_tiers() -> None:
    assert len(SYSTEMS) == 10
    assert [len(of_tier(tier)) for tier in TASK.levels] == [3, 4, 3]


@pytest.mark.parametrize("name", list(SYSTEMS))
def test_the_truth_scores_1_with_numbers_and_with_fitted_constants(name: str) -> None:
    for task in (TASK, DynamicsTask(noise=0.05)):
        example = of_system(name, task)
        assert task.score(example, example.answer).reward == 1.0
        assert task.score(example, "I think\n" + form(SYSTEMS[name])).reward > 0.95
        assert task.describe(example, example.answer) is not None


@pytest.mark.parametrize("shown_paths", [3, 8])
def test_a_question_shows_four_rows_of_each_path(shown_paths: int) -> None:
    example = DynamicsTask(shown_paths=shown_paths).example("train", 0)
    shown = example.prompt.splitlines()[2:-1]
    assert len(shown) == len(list(example.info["rows"])) == 4 * shown_paths  # type: ignore[arg-type]


def test_a_path_is_that_of_the_equations() -> None:
    # x'' = -4 x: x = cos 2t, x' = -2 sin 2t.
    system = SYSTEMS["oscillator"]
    rates = system.rates({"a": 4.0, "b": 0.0})
    gone = paths(rates, system.variables, np.array([[1.0], [0.0]]), 2.0)
    time = np.linspace(0, 2, STEPS + 1)
    assert gone[0, 0] == pytest.approx(np.cos(2 * time), abs=1e-5)
    assert derivatives(rates, system.variables, gone)[0, 0] == pytest.approx(-2 * np.sin(2 * time), abs=1e-4)


def test_the_steepest_logistic_path_is_that_of_the_closed_form() -> None:
    system = SYSTEMS["logistic"]
    gone = paths(system.rates({"a": 2.0, "b": 1.0}), system.variables, np.array([[6.0, 0.1]]), system.horizon)
    time = np.linspace(0, system.horizon, STEPS + 1)
    for path, start in zip(gone[0], (6.0, 0.1), strict=True):
        assert path == pytest.approx(1 / (1 + (1 / start - 1) * np.exp(-2 * time)), abs=0.05)


@pytest.mark.parametrize("name", list(SYSTEMS))
def test_no_path_leaves_the_numbers_wherever_its_parameters_and_first_values_lie(name: str) -> None:
    system = SYSTEMS[name]
    starts = np.array(list(product(*system.starts)), dtype=float).T
    for values in product(*system.parameters.values()):
        rates = system.rates(dict(zip(system.parameters, map(float, values), strict=True)))
        assert np.abs(paths(rates, system.variables, starts, system.horizon)).max() < 500


def test_a_question_shows_rates_of_the_values_beside_them() -> None:
    example = of_system("lorenz")
    table = [list(map(float, line.split())) for line in example.prompt.split("\n")[2:22]]
    x, y, z, dx, dy, dz = np.array(table).T
    a, b, d = (float(str(example.info["parameters"][name])) for name in ("a", "b", "d"))  # type: ignore[index, call-overload]
    assert dx == pytest.approx(a * (y - x), rel=2e-2, abs=0.2)
    assert dy == pytest.approx(x * (b - z) - y, rel=2e-2, abs=0.5)
    assert dz == pytest.approx(x * y - d * z, rel=2e-2, abs=0.2)


def test_every_question_has_parameters_of_its_own() -> None:
    drawn = [str(TASK.example("train", index, 2).info["parameters"]) for index in range(50)]
    assert len(set(drawn)) == 50


def test_questions_are_equal_in_another_process() -> None:
    code = "from neuromas.tasks.dynamics.task import DynamicsTask as T; print(T().example('train', 7).prompt, end='')"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout == TASK.example("train", 7).prompt


@pytest.mark.parametrize(
    "answer",
    [
        "x' = c0*y",  # an equation lacks
        "x' = y; y' = x if x > 0 else -x",
        "x' = y; y' = __import__('os').getpid()",
        "x' = y; y' = y'",
        "x' = 1/(x - x); y' = -x",
        "x' = exp(exp(exp(x*x + 9))); y' = -x",
        "x' = c0; y' = c1",  # the means
        "x' = y; y' = " + "+".join(f"c{n % 4}*x^{n}" for n in range(30)),
    ],
)
def test_what_is_no_equation_or_not_finite_or_constant_scores_0(answer: str) -> None:
    assert TASK.score(of_system("van_der_pol"), answer).reward == 0.0


def test_the_last_equation_of_a_variable_counts() -> None:
    example = of_system("duffing")
    assert TASK.score(example, f"x' = y*y; y' = x\nNo:\n{example.answer}.").reward == 1.0
    assert TASK.score(example, f"{example.answer}\nx' = y*y").reward < 0.1
    assert TASK.score(example, f"{example.answer}\nx' = maybe").reward == 0.0
    assert TASK.score(example, example.answer.replace("x'", "dx/dt").replace("y'", "dy/dt")).reward == 1.0


def test_what_meets_the_shown_rows_alone_is_worth_little() -> None:
    """A steep term that is fitted to the rows and wrong elsewhere."""
    example = of_system("logistic")
    assert TASK.score(example, "x' = c0*sin(40*x) + c1*cos(40*x) + c2").reward < 0.1


def test_parts_that_are_not_needed_cost() -> None:
    example = of_system("logistic")
    assert TASK.score(example, f"{example.answer} + 0*x").reward == pytest.approx(0.8)
    assert TASK.score(example, f"{example.answer} + 0*x*x*x*x*x*x*x*x*x").reward == pytest.approx(0.0)


def test_one_wrong_equation_pulls_all_down() -> None:
    example = of_system("sir")
    lines = example.answer.split("; ")
    assert TASK.score(example, "; ".join((*lines[:2], "z' = -y"))).reward < 0.3


@pytest.mark.parametrize("tier", [1, 2, 3])
def test_no_answer_that_reads_no_question_earns_much_more_than_chance(tier: int) -> None:
    examples = [TASK.example("test", index, tier) for index in range(12)]
    share = {name: np.mean([example.info["system"] == name for example in examples]) for name in SYSTEMS}
    general = [
        "\n".join(f"{name}' = c0*x + c1*y + c2*z + c3" for name in "xyz"),
        "\n".join(f"{name}' = c0*x + c1*y + c2*x*y + c3*x^3" for name in "xyz"),
        "x' = y\ny' = c0*y + c1*x + c2*x^2*y + c3*x^3",
        "x' = c0*x + c1*x^2 + c2*x^3 + c3",
    ]
    for answer in (*map(form, of_tier(tier)), *general):
        earned = np.mean([TASK.score(example, answer).reward for example in examples])
        assert earned < max(share.values()) + 0.15
    assert TASK.chance(tier) == pytest.approx(1 / len(of_tier(tier)))


def test_a_message_may_give_some_of_the_equations() -> None:
    example = of_system("sir")
    lines = example.answer.split("; ")
    assert TASK.describe(example, lines[1]) == Description("y'", True)
    assert TASK.describe(example, f"{lines[0]}; z' = x*z") == Description("x', z'", False)
    assert TASK.describe(example, "no idea") is None


def test_equal_answers_share_a_form() -> None:
    example = of_system("logistic")
    assert TASK.answer_in(example, "x' = 2 * x") == TASK.answer_in(example, "so dx/dt = (2*x).") == "2.0 x *"
    assert TASK.answer_in(example, "x' = ?") is None
