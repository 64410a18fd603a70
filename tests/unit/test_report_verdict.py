"""The sentence that says what came out of a run."""

from __future__ import annotations

from typing import Any

import pytest

from neuromas.report.numbers import clock, share
from neuromas.report.verdict import gain, verdict
from neuromas.training.statistics import wilson_interval


def figure(correct: int, examples: int = 512) -> dict[str, Any]:
    found = wilson_interval(correct, examples)
    return {"correct": correct, "examples": examples, "value": found.value, "low": found.low, "high": found.high}


def result(greedy: int, sampled: int, untrained: int, untrained_sampled: int) -> dict[str, Any]:
    named = {"greedy": greedy, "sampled": sampled, "untrained": untrained, "untrained_sampled": untrained_sampled}
    return {"accuracy": {name: figure(count) for name, count in named.items()}}


def test_the_sentence_of_a_run_that_has_learned() -> None:
    assert verdict(result(512, 276, 0, 3)) == (
        "The graph has learned: 100.0 % (95 % interval 99.3 % to 100.0 %, 512 questions) right, untrained 0.0 %, "
        "sampled 53.9 %, untrained and sampled 0.6 %."
    )


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((300, 280, 100, 90), 1),
        ((300, 100, 100, 95), 1),  # sampled answers are no worse
        ((105, 95, 100, 90), 0),
        ((300, 20, 100, 90), 0),  # greedy and sampled answers contradict each other
        ((20, 10, 100, 90), -1),
    ],
)
def test_a_gain_is_one_that_no_mode_contradicts(counts: tuple[int, int, int, int], expected: int) -> None:
    assert gain(result(*counts)) == expected


def test_without_an_untrained_graph_nothing_is_claimed() -> None:
    assert verdict({"accuracy": {"greedy": figure(256)}}).startswith("It is not certain that the graph has learned")


def test_figures_have_one_form() -> None:
    graded = figure(256) | {"interval": "bootstrap", "unasked": 3}
    assert share(graded).endswith(
        "(95 % bootstrap interval 45.7 % to 54.3 %, 512 questions, 3 more could not be asked)"
    )
    assert share(figure(256)) == "50.0 % (95 % interval 45.7 % to 54.3 %, 512 questions)"
    assert [clock(seconds) for seconds in (0, 59.6, 89, 3600, 36_061)] == [
        "0:00",
        "1:00",
        "1:29",
        "1:00:00",
        "10:01:01",
    ]
