"""A small base, a graph, a learnable task and real rollouts, shared by the trainer's tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import AutoTokenizer

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import build_model
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.initial import stream
from neuromas.cluster.setup import WorkerSetup
from neuromas.engines.setup import EngineSetup
from neuromas.growth.stage import Stage
from neuromas.rollout.client import LocalRolloutClient
from neuromas.spec.machine import EngineSpec
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.spec.run import RunSpec
from neuromas.spec.training import TrainingSpec
from neuromas.tasks.base import Description, Example, Split, Task
from neuromas.tasks.chain import ChainSpec, ChainTask
from neuromas.topology.document import topology_from_document
from neuromas.topology.graph import Topology
from neuromas.training.budget import Budget
from neuromas.training.restraint import Restraint
from neuromas.training.sampler import StepRollouts, StepSampler
from neuromas.training.trainer import JointTrainer
from neuromas.training.workplace import Workplace

ADAPTER = LoraSpec(rank=2)


@dataclass(frozen=True)
class DigitTask:
    """Rewards the share of words that begin with a digit: something a random base says now and then."""

    @property
    def name(self) -> str:
        return "digits"

    @property
    def levels(self) -> tuple[int, ...]:
        return ()

    @property
    def scoring_timeout_s(self) -> None:
        return None

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        return ChainTask(hops=3, seed=0).example(split, index, None)

    def size(self, split: Split, level: int | None = None) -> int | None:
        return None

    def score(self, example: Example, text: str) -> float:
        words = text.split()
        return sum(word[0].isdigit() for word in words) / max(1, len(words))

    def describe(self, example: Example, text: str) -> Description | None:
        return None


@dataclass
class World:
    topology: Topology
    bank: AdapterBank
    model: Any
    client: LocalRolloutClient
    tokenizer: Any
    folder: Path
    sampling: SamplingSpec

    def place(self, training: TrainingSpec, seed: int = 0) -> Workplace:
        """A run of this graph; its learner stays off the GPU, as one on Ray that was given none."""
        task = {"type": "chain", "hops": 3}
        spec = RunSpec.model_validate({"name": "test", "topology": self.topology.to_document(), "task": task})
        settings = {"training": training, "sampling": self.sampling, "seed": seed}
        return Workplace(spec.model_copy(update=settings), self.folder, self.client, lambda event: None)

    def sampler(self, prompts: int = 3, group_size: int = 4, task: Task | None = None, **training: Any) -> StepSampler:
        settings = {"prompts_per_step": prompts, "group_size": group_size, "max_failed_fraction": 1.0} | training
        place = self.place(TrainingSpec.model_validate(settings))
        return StepSampler(place, Stage("stage", 0, self.topology, 1), task or DigitTask(), self.bank.export_all, 0)

    def trainer(
        self,
        spec: TrainingSpec,
        sample: Callable[[int], StepRollouts],
        steps: int | None = None,
        seed: int = 0,
        after_step: Callable[[int, Mapping[str, float]], Any] = lambda step, metrics: None,
    ) -> JointTrainer:
        """A trainer whose session samples by ``sample`` and hands metrics to ``after_step``."""
        stage = Stage("stage", 0, self.topology, steps or spec.steps)
        session: Any = SimpleNamespace(
            sample=sample,
            after_step=lambda *step: bool(after_step(*step)),
            restraint=Restraint(self.bank, stage),
            budget=Budget(self.bank, stage.steps),
            first_step=0,
        )
        return JointTrainer(self.model, self.bank, self.tokenizer, self.place(spec, seed), stage, session)


def make_world(
    base: Path,
    folder: Path,
    graph: dict[str, Any] | None = None,
    perturb: float = 0.3,
    sampling: SamplingSpec | None = None,
    adapter: AdapterSpec = ADAPTER,
) -> World:
    """A graph of three Nodes (one of them at its own temperature) whose adapters differ and act."""
    topology = topology_from_document(
        graph
        or {
            "nodes": [{"id": "a"}, {"id": "b", "temperature": 0.7}, {"id": "c"}],
            "edges": [["a", "c"], ["b", "c"]],
            "output": "c",
        }
    )
    model, bank = build_model(base, adapter, topology.adapters, seed=0)
    with torch.no_grad():
        for name in bank.names:
            for key, value in bank.node_parameters(name).items():
                value.add_(perturb * torch.from_numpy(stream("test", name, key).standard_normal(value.shape)).float())
    engine = EngineSetup(base, EngineSpec(type="transformers"), adapter.served_rank, adapter.targets)
    worker = WorkerSetup(engine, 64, PromptSpec(), ChainSpec(type="chain")).make()
    tokenizer = AutoTokenizer.from_pretrained(base)
    return World(
        topology, bank, model, LocalRolloutClient(worker), tokenizer, folder, sampling or SamplingSpec(max_tokens=5)
    )


def gradients(bank: AdapterBank) -> dict[str, torch.Tensor]:
    """Gradient of every adapter's tensors by ``<adapter>/<key>``."""
    return {
        f"{name}/{stack.key}": stack.rows(stack.tensor.grad)[bank.index(name)].clone()
        for stack in bank.stacks()
        for name in bank.names
    }


def one_step_gradients(world: World, spec: TrainingSpec, rollouts: StepRollouts) -> dict[str, torch.Tensor]:
    """Gradients of the trainer's first step, as they are before clipping."""
    found: dict[str, torch.Tensor] = {}

    before = world.bank.state()
    unclipped = spec.model_copy(update={"max_node_grad_norm": None})
    hook = register_optimizer_step_pre_hook(lambda *_: found.update(found or gradients(world.bank)))
    world.trainer(unclipped, lambda step: rollouts).train()
    hook.remove()
    for name in world.bank.names:
        world.bank.load(name, before)
    return found
