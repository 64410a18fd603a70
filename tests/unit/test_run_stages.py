"""The stages of a run: what is written down of them, and that none is trained twice."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from neuromas.growth.ledger import Spending
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.growth.triggers import Check
from neuromas.journal.folder import RunFolder
from neuromas.run.stages import RuntimeStages, StageBook, StageInterruptedError, planned_stages
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec

LINE = (
    '{"name": "stage-0", "stage": 0, "nodes": 2, "level": 1, "steps": 3, "reason": "threshold", "accuracy": 1.0, '
    '"sampled_accuracy": 0.75, "examples": 16, "checkpoint": "stage-0-000003", "spending": {"steps": 3, '
    '"rollouts": 48, "calls": 96, "prompt_tokens": 2705, "generated_tokens": 329, "check_calls": 32}, '
    '"checks": [{"step": 2, "accuracy": 0.5, "sampled_accuracy": null}, '
    '{"step": 3, "accuracy": 1.0, "sampled_accuracy": 0.875}]}\n'
)
"""A line of stages.jsonl as runs have it that are to be resumed: its form does not change."""


def outcome(stage: Stage, checkpoints: Path, **changes: Any) -> StageOutcome:
    settings: dict[str, Any] = {
        "name": stage.name,
        "stage": stage.index,
        "nodes": len(stage.topology.nodes),
        "level": stage.level,
        "steps": stage.steps,
        "reason": "budget",
        "accuracy": 0.5,
        "sampled_accuracy": 0.25,
        "examples": 16,
        "checkpoint": checkpoints / f"{stage.name}-end",
        "spending": Spending(steps=stage.steps, calls=10),
    }
    return StageOutcome(**settings | changes)


@dataclass
class ScriptedRuntime:
    """A runtime whose stages end at once, at their full length or where they are asked to."""

    checkpoints: Path
    changes: dict[str, Any] = field(default_factory=dict)
    trained: list[tuple[Stage, Path | None]] = field(default_factory=list)

    def train_stage(self, stage: Stage, resume: Path | None = None) -> StageOutcome:
        self.trained.append((stage, resume))
        return outcome(stage, self.checkpoints, **self.changes)

    def evaluate(self, request: Any) -> Any:
        raise NotImplementedError

    def study(self, study: Any) -> Any:
        raise NotImplementedError

    def request_stop(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def spec(**changes: Any) -> RunSpec:
    document = {"name": "run", "topology": {"chain": 3}, "task": {"type": "chain", "hops": 3}}
    return parse_run_spec(document | {"training": {"steps": 10, **changes}})


def test_a_line_of_stages_jsonl_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "stages.jsonl").write_text(LINE)
    (found,) = StageBook(folder).outcomes
    assert found == StageOutcome(
        name="stage-0",
        stage=0,
        nodes=2,
        level=1,
        steps=3,
        reason="threshold",
        accuracy=1.0,
        sampled_accuracy=0.75,
        examples=16,
        checkpoint=folder.checkpoints / "stage-0-000003",
        spending=Spending(3, 48, 96, 2705, 329, 32),
        checks=(Check(2, 0.5), Check(3, 1.0, 0.875)),
    )
    (tmp_path / "stages.jsonl").unlink()
    StageBook(folder).add(found)
    assert (tmp_path / "stages.jsonl").read_text() == LINE


def test_a_stage_in_the_book_is_not_trained_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "stages.jsonl").write_text(LINE)
    runtime = ScriptedRuntime(folder.checkpoints)
    (stage,) = planned_stages(spec(), None)
    assert RuntimeStages(runtime, StageBook(folder)).train(stage).steps == 3
    assert not runtime.trained


def test_an_interrupted_stage_is_not_written_down(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    nothing = {"reason": "interrupted", "accuracy": float("nan"), "sampled_accuracy": float("nan"), "steps": 4}
    runtime = ScriptedRuntime(folder.checkpoints, nothing)
    with pytest.raises(StageInterruptedError, match="stopped after step 4 of stage-0"):
        RuntimeStages(runtime, StageBook(folder)).train_in_order(planned_stages(spec(), None))
    assert StageBook(folder).outcomes == []


def test_in_turn_each_adapter_trains_its_share_from_the_checkpoint_of_the_one_before(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    runtime = ScriptedRuntime(folder.checkpoints)
    result = RuntimeStages(runtime, StageBook(folder)).train_in_order(planned_stages(spec(in_turn=True), None))
    first, second = folder.checkpoints / "turn-0-end", folder.checkpoints / "turn-1-end"
    assert [(stage.name, stage.index, stage.steps, stage.start, stage.frozen) for stage, _ in runtime.trained] == [
        ("turn-0", 0, 3, None, ("n2", "n3")),
        ("turn-1", 1, 3, first, ("n1", "n3")),
        ("turn-2", 2, 4, second, ("n1", "n2")),
    ]
    assert [(entry.parent, entry.parent_stage) for entry in result.lineage.entries] == [
        (None, None),
        (str(first), "turn-0"),
        (str(second), "turn-1"),
    ]
    assert result.lineage.ledger.total().steps == 10
    assert [json.loads(line)["checkpoint"] for line in (tmp_path / "stages.jsonl").read_text().splitlines()] == [
        "turn-0-end",
        "turn-1-end",
        "turn-2-end",
    ]
