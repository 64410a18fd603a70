"""Checkpoints: what is written comes back; what is incomplete or altered is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neuromas.checkpoints.checkpoint import Checkpoint, CheckpointWriter, read_checkpoint
from neuromas.checkpoints.location import (
    ADAPTERS,
    FILES,
    MANIFEST,
    STATE,
    list_checkpoints,
    read_topology,
    resolve_checkpoint,
)
from neuromas.errors import CheckpointError
from neuromas.topology.builders import chain
from neuromas.topology.document import topology_from_document
from neuromas.topology.edits import append
from neuromas.topology.graph import Topology
from neuromas.training.start import check_resume

GRAPH = topology_from_document({"chain": 2})


def checkpoint(step: int, accuracy: float | None = None, stage: str = "main", index: int = 0) -> Checkpoint:
    state = {"name": stage, "index": index, "step": step, "cursor": 4 * step, "accuracy": accuracy}
    adapters = {"n1/m/A": torch.full((1, 3), float(step)), "n2/m/A": torch.zeros(1, 3)}
    moments = {"n1/m/A/exp_avg": torch.ones(1, 3) / (step + 1)}
    return Checkpoint(GRAPH, adapters, moments, {"n1": step}, {"seed": 0, "stage": index, "step": step}, state)


def names(root: Path) -> list[str]:
    return [folder.name for folder in list_checkpoints(root)]


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    folder = CheckpointWriter(tmp_path, 2).write(checkpoint(3, 0.5))
    assert folder.name == "main-000003"
    found = read_checkpoint(folder)
    assert found.topology == GRAPH == read_topology(tmp_path)
    assert torch.equal(found.adapters["n1/m/A"], torch.full((1, 3), 3.0))
    assert torch.equal(found.moments["n1/m/A/exp_avg"], torch.full((1, 3), 0.25))
    assert found.counts == {"n1": 3}
    assert found.state["cursor"] == 12


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, keep_last=2)
    for step, accuracy in [(1, 0.2), (2, 0.9), (3, None), (4, 0.3), (5, 0.4)]:
        writer.write(checkpoint(step, accuracy))
    assert names(tmp_path) == ["main-000002", "main-000004", "main-000005"]
    assert resolve_checkpoint(tmp_path).name == "main-000005"
    assert resolve_checkpoint(tmp_path / "best").name == "main-000002"


def test_a_later_stage_replaces_the_best_and_leaves_the_earlier_stage(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, keep_last=1)
    writer.write(checkpoint(1, 1.0, "easy", 0))
    writer.write(checkpoint(1, 0.1, "hard", 1))
    writer.write(checkpoint(2, 0.2, "hard", 1))
    assert names(tmp_path) == ["easy-000001", "hard-000002"]
    assert resolve_checkpoint(tmp_path / "best").name == "hard-000002"


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = CheckpointWriter(tmp_path, 1).write(checkpoint(1))
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", FILES)
def test_an_altered_file_is_named(tmp_path: Path, name: str) -> None:
    folder = CheckpointWriter(tmp_path, 1).write(checkpoint(1))
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} was altered"):
        read_checkpoint(folder)


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    CheckpointWriter(tmp_path, 1).write(checkpoint(1))
    draft = tmp_path / ".draft-main-000002"
    draft.mkdir()
    (draft / ADAPTERS).write_bytes(b"half")
    CheckpointWriter(tmp_path, 1)
    assert not draft.exists()
    assert names(tmp_path) == ["main-000001"]


def test_there_is_no_pickle_in_a_checkpoint(tmp_path: Path) -> None:
    folder = CheckpointWriter(tmp_path, 1).write(checkpoint(1))
    assert {file.name for file in folder.iterdir()} == {*FILES, MANIFEST}
    assert json.loads((folder / STATE).read_text())["step"] == 1


def test_what_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not found"):
        resolve_checkpoint(tmp_path / "nowhere")


def test_a_checkpoint_that_pins_no_views_is_resumed(tmp_path: Path) -> None:
    grown = append(chain(1)).topology
    old = Topology(tuple(replace(node, view=None) for node in grown.nodes), grown.edges, grown.output)
    for topology in (old, grown):
        check_resume(replace(checkpoint(1, 0.5), topology=topology), "main", grown)
    with pytest.raises(CheckpointError, match="holds another graph"):
        check_resume(checkpoint(1, 0.5), "main", grown)
