from pathlib import Path

import pytest

from neuromas.journal.events import Event, RunEnded
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec
from neuromas.studies.side_by_side import SideBySideError, run_side_by_side


def make_spec(name: str, base: Path, nodes: int) -> RunSpec:
    return parse_run_spec(
        {
            "name": name,
            "base": str(base),
            "topology": {"chain": nodes},
            "task": {"type": "chain", "hops": 2},
            "training": {"steps": 1, "prompts_per_step": 2, "group_size": 2, "drop_zero_variance": False},
            "evaluation": {"examples": 4},
            "engine": {"type": "transformers"},
            "runtime": {"type": "local"},
        }
    )


def test_runs_follow_each_other_in_one_process_and_are_not_repeated(small_base: Path, tmp_path: Path) -> None:
    specs = [make_spec("one", small_base, 1), make_spec("two", small_base, 2)]
    told: list[tuple[str, Event]] = []
    results = run_side_by_side(specs, tmp_path, lambda job, event: told.append((job, event)))
    assert [len(results[name]["topology"]["nodes"]) for name in ("one", "two")] == [1, 2]
    assert [job for job, event in told if isinstance(event, RunEnded)] == ["one", "two"]
    told.clear()
    again = run_side_by_side(specs, tmp_path, lambda job, event: told.append((job, event)))
    assert again == results
    assert [(job, type(event)) for job, event in told] == [("one", RunEnded), ("two", RunEnded)]


def test_a_run_that_fails_names_itself_and_its_reason(tmp_path: Path) -> None:
    with pytest.raises(SideBySideError, match=r"run 'lost' failed: (?s:.)*nowhere is not a folder"):
        run_side_by_side([make_spec("lost", tmp_path / "nowhere", 1)], tmp_path, lambda job, event: None)
