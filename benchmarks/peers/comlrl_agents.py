"""A peer: CoMLRL's MAGRPOTrainer with a PEFT LoRA for each agent.

    python -m benchmarks.peers.comlrl_agents WORK LOG

It samples one question at a time, its group in a batch; a step's samples fill its buffer before the update.
A step is noted when the first group of the next one is scored, as nothing tells of an update; the last one is not.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.work import StepLog, Work


def main(argv: Sequence[str] | None = None) -> int:
    """Train all agents; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("log", type=Path)
    options = parser.parse_args(argv)
    work = Work.read(options.work)
    train(work, StepLog(options.log, work))
    return 0


def train(work: Work, log: StepLog) -> None:
    from comlrl.trainers.reinforce import MAGRPOConfig, MAGRPOTrainer
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work.base)
    texts: list[str] = []

    def reward(*completions: list[str], batch_items: Any) -> list[float]:
        if len(texts) == work.nodes * work.examples * work.group_size:
            log.add(sum(min(len(ids) + 1, work.max_tokens) for ids in tokenizer(texts)["input_ids"]))
            texts.clear()
        said = [text for (text,) in completions]
        texts.extend(said)
        return [float(batch_items[0]["answer"] in said[-1])]

    def prompt_of(agent: int) -> Any:
        return lambda item, **_: item[f"prompt{agent}"]

    def make_agent() -> Any:
        lora = LoraConfig(r=work.rank, lora_alpha=work.rank, target_modules=work.targets, task_type="CAUSAL_LM")
        return get_peft_model(AutoModelForCausalLM.from_pretrained(work.base), lora)

    columns = {f"prompt{agent}": prompts for agent, prompts in enumerate(work.prompts)}
    trainer = MAGRPOTrainer(
        agents=[make_agent() for _ in range(work.nodes)],
        num_agents=work.nodes,
        tokenizer=tokenizer,
        reward_func=reward,
        formatters=[prompt_of(agent) for agent in range(work.nodes)],
        train_dataset=Dataset.from_dict(columns | {"answer": work.answers[-1]}),
        args=MAGRPOConfig(
            num_train_epochs=1,
            agent_learning_rate=work.learning_rate,
            num_agents=work.nodes,
            num_generations=work.group_size,
            max_new_tokens=work.max_tokens,
            temperature=1.0,
            top_p=1.0,
            top_k=None,
            num_turns=1,
            eval_interval=0,
            rollout_buffer_size=work.examples,
            agent_devices="cpu",
        ),
    )
    trainer.verbose = False
    trainer.train()


if __name__ == "__main__":
    raise SystemExit(main())
