"""One joint step of a whole graph against what TRL offers as it is, and where the time of a step goes.

"stock" is what a user of TRL would do: one GRPOTrainer with one stock LoRA per node, stepped in turn on that node's
calls of the same rollouts (same tokens, same rewards; ``rollout_func`` hands them over, so sampling is not in it).
"joint" is one step of JointTrainer over all nodes. Times are processor seconds of the update of one optimizer step,
from the start of the training step to the end of the optimizer's; alternatives take turns.

    python -m benchmarks.end_to_end [--nodes 7] [--repeats 4] [--json FILE]
    python -m benchmarks.end_to_end --split [--steps 12] [--json FILE]    the parts of a step, with the engine
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoTokenizer, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from benchmarks.measure import Cell, ratio, report
from neuromas.adapters.build import build_model
from neuromas.adapters.frozen_base import load_base
from neuromas.base.resolve import resolve_base
from neuromas.cluster.setup import WorkerSetup
from neuromas.engines.setup import EngineSetup
from neuromas.growth.stage import Stage
from neuromas.journal.events import StepDone
from neuromas.rollout.client import LocalRolloutClient
from neuromas.rollout.record import NodeCall
from neuromas.spec.machine import RuntimeSpec
from neuromas.spec.run import RunSpec
from neuromas.tasks.registry import make_task
from neuromas.training.budget import Budget
from neuromas.training.learner import Learner
from neuromas.training.restraint import Restraint
from neuromas.training.sampler import StepRollouts, StepSampler
from neuromas.training.trainer import JointTrainer
from neuromas.training.workplace import Workplace

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
STEPS = 2  # of each turn; the first is a warm-up


def run_spec(nodes: int, engine: str, **training: Any) -> RunSpec:
    return RunSpec.model_validate(
        {
            "name": "benchmark",
            "topology": {"chain": nodes},
            "task": {"type": "chain", "hops": nodes},
            "sampling": {"max_tokens": 5},
            "training": {"drop_zero_variance": False} | training,
            "engine": {"type": engine},
            "runtime": {"type": "local"},
            "evaluation": {"examples": 1},
            "checkpoint": {"every": 0},
        }
    )


def make_client(spec: RunSpec) -> LocalRolloutClient:
    engine = EngineSetup.of(spec, resolve_base("tiny"))
    return LocalRolloutClient(WorkerSetup(engine, len(spec.topology.nodes), spec.prompt, spec.task).make())


class StepClock(TrainerCallback):  # type: ignore[misc] # transformers comes without types
    """Processor seconds of every step, from its begin to the end of its optimizer step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self._began = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note the seconds since the step began."""
        self.seconds.append(time.process_time() - self._began)


def joint_turn(place: Workplace, rollouts: StepRollouts) -> Callable[[], float]:
    """Return a function that trains a turn jointly and returns the seconds of its last step."""
    spec = place.spec
    base, topology = resolve_base("tiny"), spec.topology
    model, bank = build_model(base, spec.adapter, topology.adapters, seed=0)
    stage = Stage("stage", 0, topology, STEPS)
    tokenizer = AutoTokenizer.from_pretrained(base)
    training = spec.training.model_copy(update={"parity_tolerance": 1e9})  # the same rollouts at every step
    run = spec.model_copy(update={"training": training, "runtime": RuntimeSpec(type="ray")})  # off the GPU
    session: Any = SimpleNamespace(
        sample=lambda _: rollouts,
        restraint=Restraint(bank, stage),
        budget=Budget(bank, stage.steps),
        first_step=0,
        after_step=lambda *_: False,
    )
    trainer = JointTrainer(model, bank, tokenizer, replace(place, spec=run), stage, session)
    clock = StepClock()
    trainer.add_callback(clock)

    def turn() -> float:
        trainer.train()
        return clock.seconds[-1]

    return turn


def stock_turn(
    spec: RunSpec, calls: list[NodeCall], rewards: list[float], folder: Path, checkpointing: bool
) -> Callable[[], float]:
    """Return a function that trains a turn of one node with TRL as it is; checkpointing is on in TRL's defaults."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer  # here, as the trainer's module has to be imported before

    def rollout(*_: Any) -> dict[str, Any]:
        return {
            "prompt_ids": [list(call.prompt_token_ids) for call in calls],
            "completion_ids": [list(call.completion_token_ids) for call in calls],
            "logprobs": [list(call.logprobs) for call in calls],
            "final": rewards,
        }

    def terminal(final: list[float], **_: Any) -> list[float]:
        return final

    training = spec.training
    arguments = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=len(calls),
        num_generations=training.group_size,
        gradient_accumulation_steps=1,
        max_completion_length=spec.sampling.max_tokens,
        max_steps=STEPS,
        learning_rate=training.learning_rate,
        beta=0.0,
        loss_type="dr_grpo",
        scale_rewards="none",
        gradient_checkpointing=checkpointing,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    lora = LoraConfig(r=1, lora_alpha=1, target_modules=list(spec.adapter.targets), task_type="CAUSAL_LM")
    clock = StepClock()
    trainer = GRPOTrainer(
        load_base(resolve_base("tiny")),
        reward_funcs=terminal,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["?"] * training.prompts_per_step * STEPS}),
        processing_class=AutoTokenizer.from_pretrained(resolve_base("tiny")),
        peft_config=lora,
        rollout_func=rollout,
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)

    def turn() -> float:
        trainer.train()
        return clock.seconds[-1]

    return turn


def against_stock(nodes: int, repeats: int, prompts: int, folder: Path) -> list[dict[str, Cell]]:
    spec = run_spec(nodes, "transformers", prompts_per_step=prompts)
    client = make_client(spec)
    _, bank = build_model(resolve_base("tiny"), spec.adapter, spec.topology.adapters, seed=0)
    task = make_task(spec.task, 0)
    place, stage = Workplace(spec, folder, client, lambda _: None), Stage("stage", 0, spec.topology, STEPS)
    rollouts = StepSampler(place, stage, task, bank.export_all, 0).sample(0)
    joint = joint_turn(place, rollouts)
    flat = [rollout for group in rollouts.groups for rollout in group.rollouts]
    rewards = [rollout.reward for rollout in flat]
    stock = {
        checkpointing: [
            stock_turn(spec, [rollout.calls[k] for rollout in flat], rewards, folder / f"node{k}", checkpointing)
            for k in range(nodes)
        ]
        for checkpointing in (False, True)
    }
    ours: list[float] = []
    theirs: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(repeats):
        ours.append(joint())
        for checkpointing, turns in stock.items():
            theirs[checkpointing].append(sum(turn() for turn in turns))
    rows: list[dict[str, Cell]] = []
    for checkpointing, seconds in theirs.items():
        middle, low, high = ratio(seconds, ours)
        rows.append(
            {
                "stock": "TRL's defaults (checkpointing)" if checkpointing else "without checkpointing",
                "nodes": nodes,
                "calls": nodes * len(flat),
                "joint cpu s": statistics.median(ours),
                "stock cpu s": statistics.median(seconds),
                "times faster": middle,
                "low": low,
                "high": high,
            }
        )
    return rows


def split(nodes: int, steps: int, engine: str, folder: Path) -> list[dict[str, Cell]]:
    rows: list[dict[str, Cell]] = []
    for overlap in (0, 1):
        spec = run_spec(nodes, engine, steps=steps, overlap=overlap)
        found: list[dict[str, float]] = []

        def note(event: Any, found: list[dict[str, float]] = found) -> None:
            if isinstance(event, StepDone):
                found.append(dict(event.metrics))

        learner = Learner(spec, folder / f"overlap{overlap}", make_client(spec), note)
        learner.train_stage(Stage("main", 0, spec.topology, steps))
        measured = found[min(3, steps - 1) :]
        middle = {
            name: statistics.median(step[f"time/{name}"] for step in measured)
            for name in ("step_s", "rollout_s", "sync_s", "plan_s")
        }
        rest = middle["step_s"] - middle["rollout_s"] - middle["sync_s"]
        mode = "one step ahead" if overlap else "in step"
        rows.append({"mode": mode, "nodes": nodes, **middle, "update_s": rest})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=7)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--split", action="store_true", help="show the parts of a step instead")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.split:
            rows = split(arguments.nodes, arguments.steps, arguments.engine, folder)
            report("median wall seconds of a step, engine in the same process", rows, arguments.json)
        else:
            rows = against_stock(arguments.nodes, arguments.repeats, arguments.prompts, folder)
            report("update of a whole graph: one joint step over one stock GRPOTrainer per node", rows, arguments.json)


if __name__ == "__main__":
    main()
