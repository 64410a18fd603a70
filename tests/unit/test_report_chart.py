import json
import re
from html import unescape

from neuromas.report.chart import Mark, Series, line_chart, script

PLAIN = {"color": None, "smooth": False, "group": None}


def data_of(chart: str) -> dict:
    (text,) = re.findall(r'data-chart="([^"]*)"', chart)
    return json.loads(unescape(text))


def test_chart_without_points_is_nothing() -> None:
    assert line_chart([Series("empty", [])], title="x") == ""
    assert line_chart([Series("a", [(0, float("nan"))])], title="x") == ""


def test_a_chart_holds_its_series_marks_and_how_to_draw_them() -> None:
    series = [Series("a", [(1, 0.0), (2, 1.0)], smooth=True), Series("<b>", [(1, 0.5)], "dots", "var(--x)")]
    chart = line_chart(series, title="reward", marks=[Mark(1, "<stage>")], y_range=(0, 1), unit="percent")
    assert data_of(chart) == {
        "options": {
            "title": "reward",
            "note": "",
            "xLabel": "step",
            "yRange": [0, 1],
            "height": 220,
            "legend": True,
            "format": "percent",
        },
        "series": [
            {"name": "a", "points": [[1, 0.0], [2, 1.0]], "style": "line"} | PLAIN | {"smooth": True},
            {"name": "<b>", "points": [[1, 0.5]], "style": "dots"} | PLAIN | {"color": "var(--x)"},
        ],
        "marks": [{"x": 1, "label": "<stage>"}],
    }
    assert "<b>" not in chart
    assert "<stage>" not in chart


def test_not_a_number_is_left_out() -> None:
    chart = line_chart([Series("a", [(0, 0.0), (1, float("nan")), (2, float("inf")), (3, 1.0)])], title="x")
    assert data_of(chart)["series"][0]["points"] == [[0, 0.0], [3, 1.0]]


def test_the_script_is_one_module_that_takes_nothing_from_elsewhere() -> None:
    text = script()
    assert text.startswith('<script type="module">')
    assert text.count("</script>") == 1
    assert not re.search(r"^(import|export) ", text, re.MULTILINE)
    assert "class Chart" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
