import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromas.report.chart import MAX_POINTS, Mark, Series, legend, line_chart, moving_mean, thinned, ticks


def test_chart_without_points_is_nothing() -> None:
    assert line_chart([Series("empty", [])], title="x") == ""


def test_chart_draws_each_series_and_mark() -> None:
    series = [Series("a", [(1, 0.0), (2, 1.0)]), Series("b", [(1, 0.5)], "dots")]
    chart = line_chart(series, title="reward", marks=[Mark(1, "<stage>")], y_range=(0, 1))
    assert chart.count("<polyline") == 1
    assert chart.count("<circle") == 1
    assert "&lt;stage&gt;" in chart


def test_points_lie_inside_the_drawing() -> None:
    chart = line_chart([Series("a", [(0, 0.0), (10, 1.0)])], title="x", y_range=(0, 1), height=260)
    (points,) = re.findall(r'points="([^"]+)"', chart)
    assert points == "52.0,208.0 706.0,14.0"


def test_not_a_number_is_left_out() -> None:
    chart = line_chart([Series("a", [(0, 0.0), (1, float("nan")), (2, 1.0)])], title="x")
    assert "nan" not in chart


def test_legend_leaves_out_unnamed_and_empty_series() -> None:
    drawn = legend([Series("shown", [(0, 0)]), Series("", [(0, 0)]), Series("empty", [])])
    assert drawn.count("<li>") == 1


def test_moving_mean_of_a_constant_is_the_constant() -> None:
    assert moving_mean([0.5, 0.5, 0.5]) == pytest.approx([0.5, 0.5, 0.5])


def test_moving_mean_weighs_the_past() -> None:
    assert moving_mean([0.0, 1.0], weight=0.5) == pytest.approx([0.0, 2 / 3])


@given(st.integers(1, 5 * MAX_POINTS))
def test_thinning_keeps_few_points_and_their_mean(count: int) -> None:
    points = [(float(x), 1.0) for x in range(count)]
    kept = thinned(points)
    assert len(kept) <= MAX_POINTS
    assert {y for _, y in kept} == {1.0}


def test_ticks_are_round() -> None:
    assert ticks(0, 1, 4) == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert ticks(0, 83, 6) == pytest.approx([0, 20, 40, 60, 80])
