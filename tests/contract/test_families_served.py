"""One graph with a node of every family: trained in one joint step on vLLM's samples, exported, and served by vLLM."""

from pathlib import Path

import pytest
import torch
from adapter_families import GROUPS, MIXED, NODES, USUAL

from neuromas.adapters.build import build_model
from neuromas.adapters.export import read_peft_folder
from neuromas.adapters.ref import AdapterRef
from neuromas.base.resolve import resolve_base
from neuromas.checkpoints.checkpoint import read_checkpoint
from neuromas.checkpoints.servable import plain_loras
from neuromas.checkpoints.trained import TrainedCheckpoint
from neuromas.cli.export import write_export
from neuromas.cluster.setup import WorkerSetup
from neuromas.engines.setup import EngineSetup
from neuromas.growth.stage import Stage
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import LocalRolloutClient
from neuromas.rollout.record import Provenance
from neuromas.spec.run import RunSpec
from neuromas.tasks.registry import make_task
from neuromas.training.learner import Learner

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    training = {"steps": 3, "prompts_per_step": 8, "group_size": 4, "estimator": "reinforce", "learning_rate": 0.1}
    return RunSpec.model_validate(
        {
            **MIXED,
            "task": {"type": "chain", "hops": 2},
            "sampling": {"max_tokens": 4},
            "training": training,
            "engine": {"type": "vllm", "kv_cache_gib": 0.1},
            "runtime": {"type": "local"},
            "evaluation": {"examples": 8},
        }
    )


def batch(spec: RunSpec, adapters: dict[str, AdapterRef]) -> RolloutBatch:
    task = make_task(spec.task, spec.seed)
    return RolloutBatch(
        topology=spec.topology,
        examples=tuple(task.example("test", index) for index in range(2)),
        group_size=2,
        adapters=adapters,
        sampling=spec.sampling,
        greedy=False,
        seed=0,
        provenance=Provenance(spec.name, 0, 0),
        task=task,
    )


def test_every_family_is_trained_exported_and_served_in_one_graph(spec: RunSpec, tmp_path: Path):
    base = resolve_base(spec.base)
    engine = EngineSetup.of(spec, base)
    worker = WorkerSetup(engine, 2 * len(spec.topology.adapters), spec.prompt, spec.task).make()
    try:
        learner = Learner(spec, tmp_path, LocalRolloutClient(worker), lambda event: None)
        result = learner.train_stage(Stage("main", 0, spec.topology, spec.training.steps))
        trained = TrainedCheckpoint(result.checkpoint, spec.topology, spec)
        loras = plain_loras(result.checkpoint, base, spec.adapters, spec.seed)
        write_export(trained, loras, tmp_path / "export")
        folders = tmp_path / "export" / "adapters"
        served = {AdapterRef(name, 0, "served"): read_peft_folder(folders / name) for name in loras}
        worker.publish(served)
        answered = worker.rollout(batch(spec, {ref.name: ref for ref in served}))
    finally:
        worker.close()
    model, bank = build_model(base, spec.adapters, spec.topology, spec.seed)
    bank.load_all(read_checkpoint(result.checkpoint).adapters)
    gaps, effects = dict.fromkeys(loras, 0.0), dict.fromkeys(loras, 0.0)
    for call in (call for group in answered for rollout in group.rollouts for call in rollout.calls):
        name = spec.topology.adapter_of(call.node)
        ids = torch.tensor([[*call.prompt_token_ids, *call.completion_token_ids]])
        places = torch.arange(len(call.prompt_token_ids) - 1, ids.shape[1] - 1)
        tokens = torch.tensor(call.completion_token_ids)
        with torch.no_grad():
            bank.set_routes([bank.index(name)])
            own = model.eval()(input_ids=ids).logits[0].log_softmax(1)[places]
            with model.disable_adapter():
                bare = model(input_ids=ids).logits[0].log_softmax(1)[places]
        gap = own[range(len(tokens)), tokens] - torch.tensor(call.logprobs)
        gaps[name] = max(gaps[name], gap.abs().max().item())
        effects[name] = max(effects[name], (own - bare).abs().max().item())
    group_of = {nodes[0]: group for group, nodes in NODES.items()}
    assert {group_of.get(name, USUAL) for name in gaps} == {USUAL, *GROUPS}
    assert max(gaps.values()) < 1e-4, gaps
    assert min(effects.values()) > 1e-3, effects
