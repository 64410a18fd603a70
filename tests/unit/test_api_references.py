"""What "latest" and "best" mean among the checkpoints of a run."""

from __future__ import annotations

from stored import a_checkpoint

from neuromas.services.api.references import aliases, with_aliases
from neuromas.services.records.checkpoint import CheckpointRecord


def checkpoint(id: str, stage: int, step: int, accuracy: float | None = None) -> CheckpointRecord:
    return a_checkpoint(id, stage=stage, step=step, accuracy=accuracy, created=0)


def test_latest_is_the_last_step_of_the_last_stage() -> None:
    found = [checkpoint("a", 0, 80, 0.9), checkpoint("b", 1, 5), checkpoint("c", 0, 100)]
    assert aliases(found)["latest"] == "b"


def test_best_is_the_most_accurate_of_the_last_stage_that_was_measured() -> None:
    found = [
        checkpoint("a", 0, 80, 0.99),
        checkpoint("b", 1, 5, 0.3),
        checkpoint("c", 1, 9, 0.5),
        checkpoint("d", 2, 1),
    ]
    assert aliases(found) == {"latest": "d", "best": "c"}


def test_of_equally_good_ones_the_later_is_best() -> None:
    assert aliases([checkpoint("a", 0, 5, 0.5), checkpoint("b", 0, 9, 0.5)])["best"] == "b"


def test_there_may_be_none() -> None:
    assert aliases([]) == {"latest": None, "best": None}
    assert aliases([checkpoint("a", 0, 1)])["best"] is None


def test_checkpoints_say_what_they_are_called() -> None:
    found = [checkpoint("a", 0, 5, 0.5), checkpoint("b", 0, 9, 0.1)]
    assert [item["aliases"] for item in with_aliases(found, aliases(found))] == [["best"], ["latest"]]
