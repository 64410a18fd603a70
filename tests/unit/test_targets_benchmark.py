"""The ablation of layers chosen by the score kernel: what is trained, and what is told."""

import json

from benchmarks.targets import all_layers, choices, spec, table
from neuromas.spec.parse import parse_run_spec


def test_as_many_layers_are_drawn_as_the_kernel_chose() -> None:
    chosen = list(all_layers()[:3])
    first, again, other = (choices(seed, chosen) for seed in (0, 0, 1))
    assert first["kernel"] == chosen
    assert first["all"] == list(all_layers())
    assert len(set(first["random"])) == 3
    assert set(first["random"]) <= set(all_layers())
    assert first["random"] == again["random"] != other["random"]


def test_a_choice_is_what_the_run_trains() -> None:
    layers = list(all_layers()[:2])
    parsed = parse_run_spec(json.loads(json.dumps(spec("kernel-s0", 0, layers, 8))))
    assert (list(parsed.adapter.targets), parsed.training.steps) == (layers, 8)


def test_the_table_has_means_with_the_lowest_and_highest() -> None:
    def result(targets: list[str], sampled: float) -> dict[str, object]:
        accuracy = {"sampled": {"value": sampled}, "greedy": {"value": 1.0}}
        return {"targets": targets, "trainable_parameters": 1200, "accuracy": accuracy}

    first, *others = all_layers()
    found = {
        "all": [result([first, *others], 0.5), result([first, *others], 0.75)],
        "kernel": [result(others, 0.25), result([first, *others[1:]], 0.25)],
        "random": [],
    }
    assert table(found).splitlines()[2:] == [
        "| all | none | 1,200 | 62.5 (50.0 to 75.0) | 100.0 (100.0 to 100.0) |",
        f"| kernel | {first}; {others[0]} | 1,200 | 25.0 (25.0 to 25.0) | 100.0 (100.0 to 100.0) |",
    ]
