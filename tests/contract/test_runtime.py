"""One suite over all runtimes: the same seeds give the same rollouts, weights and answers wherever parts live."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from safetensors.torch import load_file

from neuromas.checkpoints.trained import find_trained
from neuromas.cluster.ray_runtime import RayRuntime
from neuromas.cluster.runtime import RuntimeSetup, open_runtime
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.journal import lines as journal
from neuromas.journal.events import Event, Notice, Phase, StageEnded, StageStarted, StepDone
from neuromas.journal.folder import RunFolder
from neuromas.run.preflight import check_run
from neuromas.run.run import worker_setup
from neuromas.spec.parse import parse_run_spec
from neuromas.studies.analyze import AnalysisStudy
from neuromas.training.evaluate import Evaluation, EvaluationRequest

# Ray Train alone starts half a dozen processes.
pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]
STEPS = 3
RUNTIMES = {
    "local": {"type": "local"},
    "ray": {"type": "ray"},
    "ray with two of each": {"type": "ray", "rollout_workers": 2, "learner_workers": 2, "start_timeout_s": 900},
}
SHARES = "ray with two of each and a base in shares"
RUNTIMES[SHARES] = {**RUNTIMES["ray with two of each"], "shard_base": True}
# Two learners sum gradients in another order, and two workers have other batches to sum over.
TOLERANCE = {"local": 0.0, "ray": 0.0, "ray with two of each": 1e-5, SHARES: 1e-5}


@dataclass
class Observed:
    """What one runtime did with the same plan."""

    name: str
    result: StageOutcome
    greedy: Evaluation
    untrained: Evaluation
    studied: dict[str, Any]
    events: list[Event]
    metrics: list[dict]
    weights: dict[str, torch.Tensor]


def observe(name: str, folder: Path, **training: object) -> Observed:
    spec = parse_run_spec(
        {
            "topology": {"chain": 2},
            "task": {"type": "chain", "hops": 1},
            "training": {"prompts_per_step": 4, "group_size": 4, "warmup_steps": 0, "learning_rate": 1e-3, **training},
            "evaluation": {"examples": 8},
            "engine": {"type": "transformers"},
            "runtime": RUNTIMES[name],
        }
    )
    RunFolder(folder).create(spec.model_dump(mode="json"))
    preflight = check_run(spec, find_trained)
    events: list[Event] = []

    def watch(event: Event) -> None:
        events.append(event)
        if isinstance(event, Phase) and "(time 0 of" in event.name and isinstance(runtime, RayRuntime):
            # Until the study has ended: a watcher who is slow misses nothing.
            ray.get(runtime._learner.__ray_ready__.remote())

    runtime = open_runtime(RuntimeSetup(spec, folder, worker_setup(spec, preflight)), watch)
    try:
        plan = Stage("stage-0", 0, spec.topology, STEPS, decay=False)
        result = runtime.train_stage(plan)
        greedy = runtime.evaluate(EvaluationRequest(result.checkpoint, None, 8, "test"))
        untrained = runtime.evaluate(EvaluationRequest(spec.topology, None, 8, "test"))
        studied = runtime.study(AnalysisStudy(result.checkpoint, 4))
    finally:
        runtime.close()
    assert [thread.name for thread in threading.enumerate() if thread.name == "ray-train"] == []
    assert not ray.is_initialized()
    weights = load_file(result.checkpoint / "adapters.safetensors")
    metrics = list(journal.read(folder / "metrics.jsonl"))
    return Observed(name, result, greedy, untrained, studied, events, metrics, weights)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    return observe("local", tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module", params=[name for name in RUNTIMES if name != SHARES])
def observed(request: pytest.FixtureRequest, local: Observed, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    return local if request.param == "local" else observe(request.param, tmp_path_factory.mktemp("runtime"))


def test_the_stage_trains_to_its_end(observed: Observed) -> None:
    assert (observed.result.steps, observed.result.reason) == (STEPS, "budget")
    assert observed.result.spending.rollouts == STEPS * 16
    assert observed.result.spending.calls == STEPS * 32
    assert any(bool(tensor.abs().max() > 0) for key, tensor in observed.weights.items() if key.endswith("/B"))


def test_weights_are_those_of_one_process(observed: Observed, local: Observed) -> None:
    assert observed.weights.keys() == local.weights.keys()
    for key, tensor in observed.weights.items():
        assert (tensor - local.weights[key]).abs().max().item() <= TOLERANCE[observed.name], key


def test_replays_are_those_of_one_process(tmp_path: Path) -> None:
    one, several = (
        observe(name, tmp_path / name.replace(" ", "-"), credit="counterfactual") for name in ("local", SHARES)
    )
    # Of each of four questions an anchor and three replays of each node; those of the first node ask both.
    assert one.result.spending == several.result.spending
    assert (one.result.spending.rollouts, one.result.spending.calls) == (STEPS * 4 * 7, STEPS * 4 * (2 + 3 * 3))
    for key, tensor in several.weights.items():
        assert (tensor - one.weights[key]).abs().max().item() <= TOLERANCE[several.name], key
    assert max(tensor.abs().max().item() for key, tensor in one.weights.items() if key.endswith("/B")) > 0


def test_groups_without_a_gradient_are_left_out_and_learners_hold_unequal_shares(observed: Observed) -> None:
    kept = [line["train/groups_kept"] for line in observed.metrics]
    assert len(kept) == STEPS
    assert min(kept) < 4


def test_rewards_are_those_of_one_process(observed: Observed, local: Observed) -> None:
    rewards = [line["rollout/reward_mean"] for line in observed.metrics]
    assert rewards == pytest.approx([line["rollout/reward_mean"] for line in local.metrics])


def test_answers_are_those_of_one_process(observed: Observed, local: Observed) -> None:
    assert observed.greedy.accuracy.rewards == local.greedy.accuracy.rewards
    assert observed.greedy.roles == local.greedy.roles
    assert observed.untrained.accuracy.rewards == local.untrained.accuracy.rewards


def test_a_study_is_carried_out_where_the_learner_is_and_tells_how_far_it_is(
    observed: Observed, local: Observed
) -> None:
    found, expected = (dict(one.studied) for one in (observed, local))
    cosines = [[pair["cosine"] for pair in one.pop("similarity")] for one in (found, expected)]
    assert found == expected
    assert cosines[0] == pytest.approx(cosines[1], abs=1e-2)
    phases = [event.name for event in observed.events if isinstance(event, Phase) and "(time 7 of 7" in event.name]
    assert len(phases) == 1


def test_events_arrive_in_order_and_all_before_the_result(observed: Observed) -> None:
    steps = [event.step for event in observed.events if isinstance(event, StepDone)]
    assert steps == list(range(1, STEPS + 1))
    told = [event for event in observed.events if not isinstance(event, Phase)]
    assert [event.source for event in told if isinstance(event, Notice)] == ["threads"]
    assert isinstance(told[0], Notice)  # of the runtime's start
    assert isinstance(told[1], StageStarted)
    assert isinstance(told[-1], StageEnded)
    assert [line["step"] for line in observed.metrics] == steps
