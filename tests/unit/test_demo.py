"""The demo runs what the examples say."""

from pathlib import Path

import neuromas
from neuromas.spec.load import load_spec
from neuromas.spec.parse import parse_run_spec
from neuromas.studies.demo import GROWTH, QUICKSTART, demo_groups, demo_specs

EXAMPLES = Path(neuromas.__file__).parents[1] / "examples"


def test_demo_equals_the_examples() -> None:
    assert parse_run_spec(QUICKSTART) == load_spec(EXAMPLES / "quickstart.toml")
    assert parse_run_spec(GROWTH) == load_spec(EXAMPLES / "growth.toml")


def test_first_run_of_the_demo_is_the_trained_graph_on_ray() -> None:
    specs = demo_specs(demo_groups())
    assert specs[0].name == "quickstart-graph-s0"
    assert [spec.runtime.type for spec in specs] == ["ray", "local", "local", "local", "local"]
    assert sorted(spec.name for spec in specs[1:]) == [
        "growth-grown-s0",
        "growth-scratch-s0",
        "quickstart-shared-s0",
        "quickstart-single-s0",
    ]


def test_two_places_share_the_calls_of_the_runs() -> None:
    # 300 calls an example for each graph of five nodes, 420 for each of seven: 900 on one side, 840 on the other.
    assert [spec.name for spec in demo_specs(demo_groups(), jobs=2)] == [
        "quickstart-graph-s0",
        "growth-grown-s0",
        "quickstart-single-s0",
        "growth-scratch-s0",
        "quickstart-shared-s0",
    ]
