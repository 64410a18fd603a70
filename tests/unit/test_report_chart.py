"""Charts as the data that a page's script draws."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from neuromas.report.chart import MAX_POINTS, Mark, Mean, Series, drawn, line_chart, thinned
from neuromas.report.script import script


def document(place: str) -> dict[str, object]:
    found = json.loads(place.partition('type="application/json">')[2].partition("</script>")[0])
    assert isinstance(found, dict)
    return found


def test_chart_without_points_is_nothing() -> None:
    assert line_chart([Series("empty", []), Series("unknown", [(1, math.nan)])], title="x") == ""


def test_chart_holds_each_series_and_mark() -> None:
    reward = Series("a", [(0, 0.0), (1, math.nan), (2, 1 / 3)], mean=Mean("mean", (0, 1)))
    chart = document(line_chart([reward, Series("none", [])], title="reward", marks=[Mark(1, "two")], y_range=(0, 1)))
    assert chart["series"] == [
        {
            "name": "a",
            "style": "line",
            "color": None,
            "points": [[0.0, 0.0], [2.0, 0.33333]],
            "mean": {"name": "mean", "starts": [0, 1], "only": False},
        }
    ]
    assert chart["marks"] == [{"x": 1, "label": "two"}]
    assert chart["yRange"] == [0, 1]


@given(st.text())
def test_no_text_ends_the_place_of_its_data(text: str) -> None:
    place = drawn("chart", {"title": f"{text}</script><!--<script>"})
    assert place.count("<") == place.count("<div") + 2 * place.count("<script") + 1 == 4
    assert document(place) == {"title": f"{text}</script><!--<script>"}


@given(st.integers(1, 5 * MAX_POINTS))
def test_thinning_keeps_few_points_and_their_mean(count: int) -> None:
    kept = thinned([(float(x), 1.0) for x in range(count)])
    assert len(kept) <= MAX_POINTS
    assert {y for _, y in kept} == {1.0}


def test_the_script_needs_no_other_file_and_ends_no_element() -> None:
    code = script()
    assert code.count("const module_dom = ") == 1
    assert (
        code.index("const module_dom = ") < code.index("const module_chart = ") < code.index("const module_report = ")
    )
    assert [line for line in code.splitlines() if line.startswith(("import ", "export "))] == []
    assert "</script" not in code
