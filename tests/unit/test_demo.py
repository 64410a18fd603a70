"""The demo: which runs it makes of the shipped examples, and in which order."""

from neuromas.studies.demo import demo_groups, demo_specs


def test_first_run_of_the_demo_is_the_trained_graph_on_ray() -> None:
    specs = demo_specs(demo_groups())
    assert [spec.runtime.type for spec in specs] == ["ray", "local", "local", "local", "local"]


def test_two_processes_share_the_calls_of_the_runs() -> None:
    # 300 calls an example for each graph of five nodes, 420 for each of seven: 900 on one side, 840 on the other.
    assert [spec.name for spec in demo_specs(demo_groups())] == [
        "quickstart-graph-s0",
        "growth-grown-s0",
        "quickstart-single-s0",
        "growth-scratch-s0",
        "quickstart-shared-s0",
    ]
