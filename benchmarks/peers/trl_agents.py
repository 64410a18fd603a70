"""A peer: one GRPOTrainer with a PEFT LoRA for each agent, stepped in turn in one process.

    python -m benchmarks.peers.trl_agents WORK LOG [--checkpointing] [--vllm]

Each trainer has a thread, and only that of whose turn it is runs, so that a step is all that TRL does in its own loop.
"""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.work import StepLog, Work

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GiB, as an engine of ours has


class Turns:
    """Whose turn it is; after the last trainer's a step is noted."""

    def __init__(self, log: StepLog, trainers: int) -> None:
        self.generated = 0
        self._log = log
        self._trainers = trainers
        self._now = 0
        self._changed = threading.Condition()

    def wait(self, trainer: int) -> None:
        """Wait until it is the trainer's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._now == trainer)

    def end(self, trainer: int) -> None:
        """Hand the turn to the next trainer."""
        with self._changed:
            if trainer == self._trainers - 1:
                self._log.add(self.generated)
                self.generated = 0
            self._now = (trainer + 1) % self._trainers
            self._changed.notify_all()


def make_trainer(work: Work, agent: int, turns: Turns, folder: Path, checkpointing: bool, vllm: bool) -> Any:
    """Return the trainer of one agent; its batch is a whole step."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from transformers.trainer_callback import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    class Turn(TrainerCallback):  # type: ignore[misc] # transformers comes without types
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            turns.end(agent)
            if state.global_step < work.steps:
                turns.wait(agent)

    def reward(completions: list[str], completion_ids: list[list[int]], answer: list[str], **_: Any) -> list[float]:
        turns.generated += sum(map(len, completion_ids))
        return [float(wanted in text) for wanted, text in zip(answer, completions, strict=True)]

    rows = work.examples * work.group_size
    arguments = GRPOConfig(
        output_dir=str(folder / f"agent{agent}"),
        per_device_train_batch_size=rows,
        num_generations=work.group_size,
        max_completion_length=work.max_tokens,
        max_steps=work.steps,
        learning_rate=work.learning_rate,
        loss_type="dr_grpo",
        scale_rewards="none",
        gradient_checkpointing=checkpointing,
        shuffle_dataset=False,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **({"use_vllm": True, "vllm_mode": "colocate", "vllm_max_model_length": 128} if vllm else {}),
    )
    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(work.base),
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": work.prompts[agent], "answer": work.answers[agent]}),
        processing_class=AutoTokenizer.from_pretrained(work.base),
        peft_config=LoraConfig(r=work.rank, lora_alpha=work.rank, target_modules=work.targets, task_type="CAUSAL_LM"),
        callbacks=[Turn()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def main(argv: Sequence[str] | None = None) -> int:
    """Train all agents; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--checkpointing", action="store_true", help="as TRL's defaults have it")
    parser.add_argument("--vllm", action="store_true", help="generate by vLLM in the same process")
    options = parser.parse_args(argv)
    work = Work.read(options.work)
    turns = Turns(StepLog(options.log, work), work.nodes)
    trainers = [
        make_trainer(work, agent, turns, options.log.parent, options.checkpointing, options.vllm)
        for agent in range(work.nodes)
    ]

    def run(agent: int) -> None:
        turns.wait(agent)
        try:
            trainers[agent].train()
        except Exception as error:  # noqa: BLE001 - told by the process, as the others would wait for ever
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)

    threads = [threading.Thread(target=run, args=(agent,)) for agent in range(work.nodes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
