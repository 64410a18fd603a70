"""Threads by themselves: every processor of the machine in turn, shares of them where processes work side by side."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from neuromas.cluster.threads import (
    ThreadShare,
    container_quota,
    engine_share,
    learner_share,
    processors,
    single_share,
    thread_limit,
    wait_passively,
)
from neuromas.errors import SpecError
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec


def spec(**sections: Any) -> RunSpec:
    """Return a run on a base that is not on this machine, and may be of any size."""
    run = {"topology": {"chain": 2}, "task": {"type": "chain", "hops": 2}, "base": "someone/large"}
    return parse_run_spec({**run, **sections})


@pytest.fixture(autouse=True)
def sixteen_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr("neuromas.cluster.threads.CGROUPS", Path("/nowhere"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize(
    ("sections", "machines", "engine", "learner"),
    [
        ({}, 1, 16, 16),
        ({"training": {"overlap": 1}}, 1, 8, 8),
        ({"runtime": {"rollout_workers": 3}}, 1, 5, 16),
        ({"runtime": {"rollout_workers": 3}, "training": {"overlap": 1}}, 1, 4, 4),
        ({"runtime": {"rollout_workers": 4, "learner_workers": 2}}, 2, 8, 16),
        ({"runtime": {"rollout_workers": 4, "learner_workers": 2}, "training": {"overlap": 1}}, 2, 5, 5),
        ({"runtime": {"rollout_workers": 40}}, 1, 1, 16),
        ({"engine": {"threads": 20}}, 1, 20, 16),
        ({"runtime": {"learner_threads": 2}}, 1, 16, 2),
    ],
)
def test_processes_share_the_processors_of_their_machine(
    sections: dict[str, Any], machines: int, engine: int, learner: int
) -> None:
    run = spec(**sections)
    assert (engine_share(run, machines).count(), learner_share(run, machines).count()) == (engine, learner)


@pytest.mark.parametrize(
    ("engine", "learner", "threads"), [({}, {}, 16), ({"threads": 3}, {}, 3), ({}, {"learner_threads": 5}, 5)]
)
def test_one_process_for_both_has_all_processors_or_what_either_setting_says(
    engine: dict[str, int], learner: dict[str, int], threads: int
) -> None:
    assert single_share(spec(engine=engine, runtime={"type": "local", **learner})).count() == threads


def test_one_process_cannot_have_two_numbers_of_threads() -> None:
    with pytest.raises(SpecError) as caught:
        spec(engine={"threads": 3}, runtime={"type": "local", "learner_threads": 5})
    (fault,) = caught.value.faults
    assert fault.path == "engine.threads"
    assert fault.message == "got 3, and runtime.learner_threads is 5; one process does both: set one of them"


@pytest.mark.parametrize(("text", "limit"), [("4", 4), ("4,2", 4), ("", None), ("many", None), ("0", None)])
def test_openmp_s_own_variable_bounds_the_threads(
    text: str, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert thread_limit() == limit
    assert engine_share(spec()).count() == (16 if limit is None else limit)
    assert engine_share(spec(engine={"threads": 9})).count() == 9


def test_a_process_of_another_machine_counts_there() -> None:
    assert ThreadShare("auto", beside=5, limit=8).count() == 3


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "250000 100000\n"}, 2.5),
        ({"cpu.max": "50000 100000\n"}, 1.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
    ],
)
def test_a_container_s_quota_bounds_its_processors(
    files: dict[str, str], quota: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("neuromas.cluster.threads.CGROUPS", tmp_path)
    assert container_quota() == quota
    assert processors() == min(16, math.floor(min(quota, 99)))


def test_a_small_base_has_one_thread_unless_it_is_told_more() -> None:
    tiny = spec(base="tiny")
    assert (engine_share(tiny).count(), learner_share(tiny).count(), single_share(tiny).count()) == (1, 1, 1)
    assert engine_share(spec(base="tiny", engine={"threads": 3})).count() == 3


def test_threads_that_wait_for_each_other_sleep_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for told in (None, "active"):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if told is not None:
            monkeypatch.setenv("OMP_WAIT_POLICY", told)
        wait_passively()
        assert os.environ["OMP_WAIT_POLICY"] == (told or "passive")
