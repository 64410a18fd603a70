"""Specs may name files below the folders of the settings, and nothing else on the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neuromas.services.api.allowed import check_allowed
from neuromas.services.api.auth import Caller
from neuromas.services.api.problems import ApiError
from neuromas.services.records.key import Scope
from neuromas.services.settings import Settings
from neuromas.spec.parse import parse_run_spec

CALLER = Caller("key_1", frozenset({Scope.TRAIN}), {})


def faults(settings: Settings, **changes: Any) -> dict[str, str]:
    spec = parse_run_spec({"topology": {"chain": 2}, "task": {"type": "chain", "hops": 2}} | changes)
    try:
        check_allowed(spec, CALLER, settings)
    except ApiError as error:
        if (error.status, error.code) != (400, "unsupported"):
            raise
        return {fault.path: fault.message for fault in error.faults}
    return {}


@pytest.fixture
def roots(tmp_path: Path) -> Settings:
    for name in ("bases", "tasks", "elsewhere"):
        (tmp_path / name).mkdir()
    return Settings(
        data_dir=tmp_path / "data",
        bases=("tiny", "owner/model"),
        base_roots=(tmp_path / "bases",),
        task_roots=(tmp_path / "tasks",),
    )


def test_listed_bases_and_folders_below_the_roots_are_allowed(roots: Settings, tmp_path: Path) -> None:
    for base in ("tiny", "owner/model", str(tmp_path / "bases" / "mine")):
        assert faults(roots, base=base) == {}


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc", "{root}", "{root}/../elsewhere", "{root}/link", "other/model", "~/x", "{root}/\0", "."],
)
def test_other_bases_are_refused(roots: Settings, tmp_path: Path, name: str) -> None:
    (tmp_path / "bases" / "link").symlink_to(tmp_path / "elsewhere")
    base = name.replace("{root}", str(tmp_path / "bases"))
    allowed = base == str(tmp_path / "bases")
    assert list(faults(roots, base=base)) == ([] if allowed else ["base"])


def test_task_files_are_absolute_paths_below_the_roots(roots: Settings, tmp_path: Path) -> None:
    inside = str(tmp_path / "tasks" / "a.jsonl")
    task = {"type": "file", "train": inside, "test": inside}
    assert faults(roots, task=task) == {}
    outside = ["a.jsonl", "/etc/passwd", f"{tmp_path}/tasks/../elsewhere/a", "a" * 4000, str(tmp_path / "tasksX" / "a")]
    for name in outside:
        assert list(faults(roots, task={**task, "test": name})) == ["task.test"]
    assert list(faults(Settings(data_dir=tmp_path), task=task)) == ["task.train", "task.test"]


def test_code_by_name_is_refused_unless_the_operator_allows_it(roots: Settings, tmp_path: Path) -> None:
    own = {"type": "python", "factory": "sums:make"}
    path = str(tmp_path / "tasks" / "a.jsonl")
    file = {"type": "file", "train": path, "test": path, "verifier": "sums:check"}
    assert "none: this service runs no code by name" in faults(roots, task=own)["task.factory"]
    assert list(faults(roots, task=file)) == ["task.verifier"]
    allowing = roots.model_copy(update={"task_code": ("sums:check",)})
    assert faults(allowing, task=file) == {}
    assert "allowed are sums:check" in faults(allowing, task=own)["task.factory"]


def test_a_link_that_leads_out_of_a_root_is_refused(roots: Settings, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "a.jsonl").write_text("{}")
    (tmp_path / "tasks" / "b.jsonl").symlink_to(tmp_path / "elsewhere" / "a.jsonl")
    inside = str(tmp_path / "tasks" / "b.jsonl")
    assert list(faults(roots, task={"type": "file", "train": inside, "test": inside})) == ["task.train", "task.test"]


def test_the_service_chooses_the_cluster_and_sends_nothing_away(roots: Settings) -> None:
    found = faults(roots, runtime={"address": "ray://10.0.0.1:10001"}, tracking={"report_to": ["tensorboard", "wandb"]})
    assert list(found) == ["runtime.address", "tracking.report_to"]


def test_grafts_name_checkpoints_by_id(roots: Settings) -> None:
    def growth(module: str) -> dict[str, Any]:
        return {"without_levels": "grow", "plans": [{"edits": [{"edit": "graft", "modules": [module]}]}]}

    assert faults(roots, growth=growth("ckpt_0123456789abcdef")) == {}
    assert list(faults(roots, growth=growth("/etc"))) == ["growth.plans[0]"]


def test_amounts_have_bounds_and_all_faults_come_at_once(roots: Settings) -> None:
    found = faults(
        roots,
        base="x",
        training={"steps": 10**9, "prompts_per_step": 10**6, "group_size": 8},
        runtime={"rollout_workers": 1000},
        evaluation={"examples": 10**7},
    )
    assert set(found) == {
        "base", "training.steps", "training.prompts_per_step", "runtime.rollout_workers", "evaluation.examples",
    }  # fmt: skip
