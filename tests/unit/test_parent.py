"""A graph grown from a checkpoint by hand: what its old nodes go on reading."""

import json
from pathlib import Path

import pytest
import torch

from neuromas.checkpoints.checkpoint import Checkpoint, CheckpointWriter
from neuromas.journal.folder import SPEC_FILE, RunFolder
from neuromas.run.parent import Parent
from neuromas.spec.growth import AppendSpec, PlanSpec
from neuromas.spec.run import RunSpec
from neuromas.topology.builders import chain

PLAN = PlanSpec(edits=(AppendSpec(edit="append", layers=(1,)),))
WORKED = [{"question": f"q{level}", "answer": "a", "level": level} for level in (2, 3)]


def trained(folder: Path, level: int | None, demonstrations: list[dict[str, object]]) -> Path:
    """Write a run of two nodes on chains of 3 hops, and return its checkpoint."""
    spec = RunSpec.model_validate(
        {
            "name": "run",
            "topology": {"chain": 2},
            "task": {"type": "chain", "hops": 3},
            "prompt": {"renderer": "plain", "demonstrations": demonstrations},
            "growth": {"levels": [2, 3]},
        }
    )
    run = RunFolder(folder / "run")
    run.checkpoints.mkdir(parents=True)
    (run.path / SPEC_FILE).write_text(json.dumps(spec.model_dump(mode="json")))
    state = {"name": "stage-0", "index": 0, "step": 1, "cursor": 0, "accuracy": None, "level": level}
    weights = {f"{node}/m/A": torch.zeros(1, 3) for node in ("n1", "n2")}
    return CheckpointWriter(run.checkpoints, 1).write(Checkpoint(chain(2), weights, {}, {}, {}, state))


@pytest.mark.parametrize(
    ("level", "demonstrations", "expected"),
    [
        (2, WORKED, [2, 2, None]),
        (None, WORKED, [3, 3, None]),  # the task's target
        (2, WORKED[1:], [None, None, None]),  # its level has no examples of its own
        (2, [{"question": "q", "answer": "a"}], [None, None, None]),  # shown at every level
        (2, [], [None, None, None]),
    ],
)
def test_old_nodes_keep_to_the_worked_examples_of_the_checkpoints_level(
    tmp_path: Path, level: int | None, demonstrations: list[dict[str, object]], expected: list[int | None]
) -> None:
    grown = Parent(trained(tmp_path, level, demonstrations), PLAN).grow().topology
    assert [grown.view(node).level for node in grown.order] == expected
