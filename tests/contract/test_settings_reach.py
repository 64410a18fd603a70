"""Every setting does something: change a field and the engine or the learner gets something else, or it is refused.

The fields are those of the spec's sections, so a new one fails here until it is listed, and until it acts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_families import SPECS
from resumed_stage import make_client, stage_spec, train
from safetensors.numpy import load_file

from neuromas.adapters.build import build_model
from neuromas.adapters.export import engine_rank
from neuromas.adapters.initial import stream
from neuromas.base.resolve import read_base
from neuromas.checkpoints.location import ADAPTERS
from neuromas.checkpoints.trained import TrainedCheckpoint, find_trained
from neuromas.cluster.actors import RolloutActor
from neuromas.cluster.setup import WorkerSetup
from neuromas.cluster.threads import engine_share
from neuromas.errors import NeuroMASError
from neuromas.growth.stage import Stage
from neuromas.journal.events import Event, StepDone
from neuromas.rollout.client import LocalRolloutClient
from neuromas.run.preflight import check_run
from neuromas.run.run import worker_setup
from neuromas.serving.endpoint import engine_setup
from neuromas.spec.machine import EngineSpec
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.parts import SamplingSpec
from neuromas.spec.run import RunSpec
from neuromas.spec.training import EntropySpec, TrainingSpec
from neuromas.training.trl_arguments import trl_arguments

Table = dict[str, Any]


def merged(*documents: Table) -> Table:
    """Return a document with the sections of all; later ones win key by key."""
    result: Table = {}
    for document in documents:
        for key, value in document.items():
            old = result.get(key)
            result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


# -- the engine

GPU = {"engine": {"dtype": "bfloat16"}, "runtime": {"gpus_per_rollout_worker": 1.0}}
ENGINE: dict[str, tuple[Any, Table]] = {
    "type": ("vllm", {}),
    "dtype": ("bfloat16", {}),
    "max_model_len": (96, {}),
    "max_num_seqs": (64, {}),
    "max_num_batched_tokens": (4096, {}),
    "block_size": (64, {}),
    "kv_cache_gib": (0.5, {}),
    "gpu_memory_utilization": (0.4, GPU),
    "lora_kernel": ("stock", {}),
    "threads": (3, {}),
}
"""Field -> another value, and the settings that it needs."""


def received(spec: RunSpec, setup: WorkerSetup, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Return what the process of a rollout worker gets: its threads, and the arguments of its engine."""
    from neuromas.engines.vllm_start import vllm_arguments

    with monkeypatch.context() as patched:
        environment: dict[str, str] = {}
        patched.setattr("os.environ", environment)
        RolloutActor(setup, engine_share(spec))
    engine = setup.engine
    arguments = vllm_arguments(
        read_base(engine.base_folder),
        engine.engine,
        setup.slots,
        engine_rank(engine.rank),
        engine.targets,
        on_cpu=not engine.gpus,
    )
    return {"type": engine.engine.type, "threads": environment["OMP_NUM_THREADS"], **arguments}


def run_document(*changes: Table) -> Table:
    return merged({"topology": {"chain": 2}, "task": {"type": "chain", "hops": 2}}, *changes)


@pytest.mark.parametrize("name", EngineSpec.model_fields)
def test_a_setting_of_the_engine_reaches_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, needs = ENGINE[name]
    found = []
    for changes in (needs, merged(needs, {"engine": {name: value}})):
        spec = parse_run_spec(run_document(changes))
        found.append(received(spec, worker_setup(spec, check_run(spec, find_trained)), monkeypatch))
    assert found[0] != found[1]


@pytest.mark.parametrize("name", EngineSpec.model_fields)
def test_training_and_serving_start_the_same_engine(name: str) -> None:
    value, needs = ENGINE[name]
    spec = parse_run_spec(run_document(needs, {"engine": {name: value}, "adapter": {"rank": 3, "targets": ["v_proj"]}}))
    trained = worker_setup(spec, check_run(spec, find_trained)).engine
    served = engine_setup(TrainedCheckpoint(Path("unread"), spec.topology, spec))
    left_to_us = {"type": served.engine.type} if spec.engine.type == "auto" else {}
    assert served == replace(trained, engine=trained.engine.model_copy(update=left_to_us))
    assert (trained.rank, trained.targets) == (3, ("v_proj",))
    assert getattr(trained.engine, name) == value


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"engine": {"type": "transformers", "max_num_batched_tokens": 64}}, "engine"),
        ({"engine": {"gpu_memory_utilization": 0.5}}, "engine.gpu_memory_utilization"),
        (merged(GPU, {"engine": {"kv_cache_gib": 2.0}}), "engine.kv_cache_gib"),
        (merged(GPU, {"engine": {"lora_kernel": "stock"}}), "engine.lora_kernel"),
    ],
)
def test_a_setting_that_its_engine_does_not_read_is_refused(changes: Table, path: str) -> None:
    with pytest.raises(NeuroMASError) as caught:
        parse_run_spec(run_document(changes))
    assert path in [fault.path for fault in getattr(caught.value, "faults", ())]


def test_an_engine_has_a_slot_for_each_adapter_of_the_largest_graph() -> None:
    plan = {"edits": [{"edit": "append", "layers": [1, 1]}], "inherit": {"new": "fresh"}}
    growth = {"levels": [2, 3], "plans": [plan], "trigger": {"type": "threshold"}, "max_steps_per_level": 5}
    document = run_document({"task": {"hops": 3}, "growth": growth})
    spec = parse_run_spec(document)
    assert worker_setup(spec, check_run(spec, find_trained)).slots == 4


# -- the adapters

ADAPTER: dict[str, dict[str, Any]] = {
    "lora": {"rank": 3, "alpha": 1.5, "targets": ("q_proj",)},
    "loft-principal": {"rank": 3, "support": "random", "targets": ("q_proj",)},
    "ssf-output": {"channels": 2, "side": "input", "start": "random", "targets": ("q_proj",)},
    "adamss": {"basis": 3, "segments": 2, "rank": 1, "targets": ("q_proj",)},
    "hyper": {"rank": 1, "dimension": 10, "hidden": 5, "embedding": 3, "residual": True, "targets": ("q_proj",)},
    "unilora": {"rank": 1, "alpha": 1.5, "dimension": 10, "targets": ("q_proj",)},
}
"""Family -> each of its fields -> another value."""
LOOKS = {"lora": {"start", "rho", "tau", "batches"}, "loft-principal": {"tau", "batches"}, "ssf-output": {"batches"}}
"""Fields that act in a look at rollouts before the first step."""
IN_TRAINING = {"adamss": {"budget"}}
"""Fields that say what trains: test_budget."""


def exported(base: Path, adapter: Any) -> dict[str, bytes]:
    """Return the LoRA that an engine gets of an adapter that has moved from its start."""
    topology = parse_run_spec(run_document()).topology
    _, bank = build_model(base, adapter, topology, seed=0)
    for owned in bank.trained():
        owned.tensor.data += torch.from_numpy(stream("moved").standard_normal(owned.tensor.shape)).float()
    lora = bank.export_all()[bank.names[0]]
    return {f"{path}{half}": part.tobytes() for path, pair in lora.modules.items() for half, part in enumerate(pair)}


@pytest.mark.parametrize(("family", "name"), [(family, name) for family, values in ADAPTER.items() for name in values])
def test_a_setting_of_the_adapter_changes_what_is_served(small_base: Path, family: str, name: str) -> None:
    spec = SPECS[family]
    changed = type(spec).model_validate({**spec.model_dump(), name: ADAPTER[family][name]})
    assert exported(small_base, changed) != exported(small_base, spec)


def test_every_setting_is_listed() -> None:
    assert set(ENGINE) == set(EngineSpec.model_fields)
    assert set(SAMPLING) == set(SamplingSpec.model_fields)
    # "in_turn" orders the stages of a run, and no stage sees it: tests/integration/test_compare.py.
    elsewhere = {"entropy", "in_turn"}
    assert set(TRAINING) == set(TrainingSpec.model_fields) - elsewhere | {"entropy.start", "entropy.until"}
    assert set(EntropySpec.model_fields) == {"start", "until"}
    families = {
        type(SPECS[family]): {"type", *values, *LOOKS.get(family, ()), *IN_TRAINING.get(family, ())}
        for family, values in ADAPTER.items()
    }
    assert {type(spec) for spec in SPECS.values()} == set(families)
    assert all(set(family.model_fields) == names for family, names in families.items())


# -- the learner


@dataclass(frozen=True)
class Change:
    """Another value of a setting, and the settings that it needs to act."""

    value: Any
    needs: Table = field(default_factory=dict)


CORRECTED = {"training": {"old_logprobs": "trainer"}}
REINFORCE = {"training": {"estimator": "reinforce"}}
TWICE = {"training": {"num_iterations": 2, "learning_rate": 0.5, "clip_low": 0.05, "clip_high": 0.05}}
SAMPLING = {
    "max_tokens": Change(2),
    "temperature": Change(0.5),
    "top_p": Change(0.5, CORRECTED),
}
TRAINING = {
    "steps": Change(3),
    "prompts_per_step": Change(3),
    "group_size": Change(5),
    "learning_rate": Change(1e-3),
    "warmup_steps": Change(2),
    "decay_fraction": Change(1.0),
    "final_learning_rate_ratio": Change(0.9, {"training": {"decay_fraction": 1.0}}),
    "adam_betas": Change([0.5, 0.5]),
    "weight_decay": Change(0.5),
    "max_node_grad_norm": Change(1e-3),
    "credit": Change("counterfactual"),
    "estimator": Change("grpo"),
    "loss": Change("dr_grpo"),
    "clip_low": Change(0.9, TWICE),
    "clip_high": Change(9.0, TWICE),
    "num_iterations": Change(2),
    "old_logprobs": Change("trainer"),
    "importance_sampling": Change("sequence_mask", CORRECTED),
    "kl_weight": Change(0.5, REINFORCE),
    "entropy.start": Change(0.5),
    "entropy.until": Change(1.0, {"training": {"entropy": {"start": 0.5}}}),
    "drop_zero_variance": Change(False),
    "refill_rounds": Change(2),
    "forward": Change("padded"),
    "tokens_per_forward": Change(48),
    "gradient_checkpointing": Change(True),
    "overlap": Change(1),
    "parity_tolerance": Change(1e-12),
    "max_failed_fraction": Change(1.0, {"engine": {"max_model_len": 32}}),
}
BY_ARGUMENT = ("gradient_checkpointing", "importance_sampling")
"""Act where memory is short, or where trainer and engine are far apart: here TRL's arguments must differ instead."""
SMALL = {
    "training": {"steps": 2, "prompts_per_step": 4, "warmup_steps": 1, "decay_fraction": 0.0},
    "evaluation": {"examples": 2},
    "checkpoint": {"every": 0},
}

attempts = count(1)


class Stages:
    """Small stages, each trained once, and the engines that they share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._clients: dict[int, LocalRolloutClient] = {}
        self._known: dict[str, Any] = {}

    def learned(self, changes: Table) -> Any:
        """Return the metrics and the weights of a stage with these settings, or why it failed."""
        key = json.dumps(changes, sort_keys=True)
        if key not in self._known:
            self._known[key] = self._train(small(changes))
        return self._known[key]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _train(self, spec: RunSpec) -> Any:
        length = spec.engine.max_model_len
        if length not in self._clients:
            self._clients[length] = make_client(spec)
        attempt = next(attempts)
        metrics: list[dict[str, float]] = []

        def tell(event: Event) -> None:
            if isinstance(event, StepDone):
                metrics.append({key: value for key, value in event.metrics.items() if "time" not in key})

        try:
            result = train(spec, self.folder / str(attempt), self._clients[length], on_event=tell, attempt=attempt)
        except NeuroMASError as error:
            return type(error).__name__
        weights = load_file(result.checkpoint / ADAPTERS)
        return metrics, {name: value.tobytes() for name, value in sorted(weights.items())}


def small(changes: Table) -> RunSpec:
    return parse_run_spec(merged(stage_spec().model_dump(mode="json", exclude_unset=True), SMALL, changes))


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    made = Stages(tmp_path_factory.mktemp("stages"))
    yield made
    made.close()


def changed(section: str, name: str, change: Change) -> Table:
    document: Any = change.value
    for key in reversed((section, *name.split("."))):
        document = {key: document}
    return merged(change.needs, document)


def test_a_stage_that_nothing_was_changed_of_learns_the_same_again(stages: Stages, tmp_path: Path) -> None:
    again = Stages(tmp_path)
    assert again.learned({}) == stages.learned({})
    again.close()


@pytest.mark.parametrize(
    ("section", "name", "change"),
    [("sampling", name, change) for name, change in SAMPLING.items()]
    + [("training", name, change) for name, change in TRAINING.items() if name not in BY_ARGUMENT],
)
def test_a_setting_changes_what_is_learned(stages: Stages, section: str, name: str, change: Change) -> None:
    assert stages.learned(changed(section, name, change)) != stages.learned(change.needs)


@pytest.mark.parametrize("name", BY_ARGUMENT)
def test_a_setting_reaches_trl(name: str, tmp_path: Path) -> None:
    change = TRAINING[name]
    before, after = (small(part) for part in (change.needs, changed("training", name, change)))
    stage = Stage("stage", 0, before.topology, 2)
    assert trl_arguments(before, stage, tmp_path, 8) != trl_arguments(after, stage, tmp_path, 8)
