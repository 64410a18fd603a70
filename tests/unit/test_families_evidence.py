"""The study of adapter families: arms that can run, a sweep that ends, figures that say what the runs said."""

import json
import math
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import error_figure, family_figure
from benchmarks.families_evidence import errors, series, table
from benchmarks.family_arms import ARMS, STUDIES, arm_spec
from benchmarks.family_figure import RateSeries
from benchmarks.power_law import fit, student
from benchmarks.rates import RATES, next_rate
from benchmarks.sweep import chosen
from neuromas.base.linears import linear_shapes
from neuromas.base.resolve import resolve_base
from neuromas.spec.parse import parse_run_spec


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_a_spec_with_as_many_calls_a_step(study: str, arm: str) -> None:
    spec = parse_run_spec(json.loads(json.dumps(arm_spec(study, arm, 1e-2, 0))))
    assert len(spec.topology.nodes) * spec.training.prompts_per_step == 72


def test_the_base_has_room_for_every_arm() -> None:
    adapters = {arm: parse_run_spec(arm_spec("chain", arm, 1e-2, 0)).adapter for arm in ARMS}
    shapes = linear_shapes(resolve_base("tiny"), adapters["lora-1"].targets)
    assert [fault for adapter in adapters.values() for fault in adapter.faults(shapes)] == []
    alone = [arm for arm in ARMS if arm.startswith(("single-", "shared-"))]
    assert [adapters[arm].num_parameters(shapes).per_adapter for arm in alone] == [48, 192, 768, 3072, 192]


def test_a_sweep_goes_on_until_the_best_rate_lies_between_two_others() -> None:
    assert [next_rate({}), next_rate({1e-2: 0.1}), next_rate({1e-2: 0.1, 3e-2: 0.2})] == [1e-2, 3e-2, 1e-1]
    assert next_rate({1e-2: 0.1, 3e-2: 0.3, 1e-1: 0.2}) is None
    assert next_rate({1e-2: 0.1, 3e-2: 0.2, 1e-1: 0.3}) == 3e-1
    assert next_rate({1e-2: 0.3, 3e-2: 0.2, 1e-1: 0.1}) == 3e-3
    assert next_rate({rate: rate for rate in RATES}) is None
    assert next_rate({1e-2: 0.0, 3e-2: 0.0, 1e-1: 0.0}) is None  # of equal ones the middle


def rows(arm: str, trained: int, by_rate: dict[float, float], seeds: int) -> list[dict[str, object]]:
    same = {"study": "chain", "arm": arm, "trained": trained}
    swept = [{**same, "rate": r, "seed": 0, "validation": v, "sampled": v, "greedy": 1.0} for r, v in by_rate.items()]
    best = max(by_rate, key=lambda rate: by_rate[rate])
    more = [{**swept[0], "rate": best, "seed": seed, "sampled": by_rate[best]} for seed in range(1, seeds)]
    return swept + more


def test_the_table_has_each_arm_at_its_best_rate() -> None:
    found = rows("unilora-16", 48, {1e-2: 0.5, 3e-2: 0.9, 1e-1: 0.8}, seeds=3)
    assert [row["seed"] for row in chosen(found, "chain", "unilora-16")] == [0, 1, 2]
    assert "| unilora-16 | 48 | 0.03 | 0, 1, 2 | 90.0 (90.0 to 90.0) | 100.0 (100.0 to 100.0) |" in table(
        found, "chain"
    )


def test_a_row_says_that_its_sweep_goes_on_and_no_picture_shows_it() -> None:
    found = rows("unilora-16", 48, {1e-2: 0.5, 3e-2: 0.9}, seeds=1)
    assert "| unilora-16 | 48 | 0.03, sweep goes on | 0 | 90.0 | 100.0 |" in table(found, "chain")
    assert (errors(found, "chain", "unilora"), list(series(found, "chain"))) == ([], [])
    swept = rows("unilora-16", 48, {1e-2: 0.5, 3e-2: 0.75, 1e-1: 0.5}, seeds=1)
    assert errors(swept, "chain", "unilora") == [(48, 0.25)]
    assert list(series(swept, "chain")) == [RateSeries("unilora", ((48, 0.75, 0.75, 0.75),))]


def test_the_slope_is_that_of_a_power_law() -> None:
    found = [
        row
        for size, place in ((16, 48), (64, 192), (256, 768))
        for row in rows(f"unilora-{size}", place, {1e-2: 0.0, 3e-2: 1 - place**-0.5, 1e-1: 0.0}, seeds=2)
    ]
    law = fit(errors(found, "chain", "unilora"))
    assert law is not None
    assert (law.factor, law.exponent, law.low, law.high) == pytest.approx((1.0, -0.5, -0.5, -0.5), abs=1e-9)
    assert "graph of Uni-LoRA: -0.50 (-0.50 to -0.50)." in table(found, "chain")
    assert fit(errors(found[:4], "chain", "unilora")) is None  # one size


def test_the_interval_of_a_slope_is_students() -> None:
    assert [student(free) for free in (1, 2, 3, 4, 10, 31)] == pytest.approx(
        [12.7062047, 4.3026527, 3.1824463, 2.7764451, 2.2281389, 2.0395134], abs=1e-6
    )
    # log errors 0, 1, 0, 1 over log numbers 0, 1, 2, 3: slope 1/5, residual sum 4/5, so a standard error of sqrt(2/25)
    law = fit([(math.exp(x), math.exp(y)) for x, y in ((0, 0), (1, 1), (2, 0), (3, 1))])
    assert law is not None
    assert law.exponent == pytest.approx(0.2)
    assert law.high - law.exponent == pytest.approx(4.3026527 * math.sqrt(2 / 25), abs=1e-6)


def test_the_picture_of_errors_has_a_dot_for_each_run_and_a_line_for_each_law() -> None:
    drawn = error_figure.draw({"graph": [(10, 1.0), (100, 0.1), (1000, 0.01)], "one node": [(10, 1.0)]})
    picture, name = ElementTree.fromstring(drawn), "{http://www.w3.org/2000/svg}"
    lines = [path.get("d") for path in picture.findall(f"{name}path") if path.get("class") is None]
    assert lines == ["M56.0 16.0L530.0 336.0"]
    dots = [dot for dot in picture.findall(f"{name}circle") if dot.get("r") == "3"]
    assert [(dot.get("cx"), dot.get("cy")) for dot in dots] == [
        ("56.0", "16.0"),
        ("293.0", "176.0"),
        ("530.0", "336.0"),
        ("56.0", "16.0"),
    ]
    assert [text.text for text in picture.iter(f"{name}text")][-2:] == ["graph: -1.00 (-1.00 to -1.00)", "one node"]
    low = ElementTree.fromstring(error_figure.draw({"graph": [(10, 1.0), (100, 0.02), (1000, 0.012)]}))
    ends = [path.get("d") for path in low.findall(f"{name}path") if path.get("class") is None]
    # log errors 0, -1.699 and -1.921: the line goes from -0.247 to -2.167, below the lowest dot's decade
    assert ends == ["M56.0 42.3L530.0 247.1"]
    with pytest.raises(ValueError, match="no point"):
        error_figure.draw({"graph": []})


def test_the_picture_draws_a_line_of_each_family_from_low_to_high() -> None:
    picture = ElementTree.fromstring(
        family_figure.draw([RateSeries("lora", ((100, 0.5, 0.4, 0.6), (1000, 1.0, 1.0, 1.0)))])
    )
    name = "{http://www.w3.org/2000/svg}"
    line = picture.find(f"{name}g/{name}path")
    assert line is not None
    assert line.get("d") == "M56.0 176.0L530.0 16.0"
    assert "lora" in [text.text for text in picture.iter(f"{name}text")]
    with pytest.raises(ValueError, match="no line"):
        family_figure.draw([])
