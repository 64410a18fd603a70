"""The questions that all peers are asked: the chain task's, as the nodes of a chain read them."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.work import Work
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.base.resolve import resolve_base
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.token_text import load_tokenizer
from neuromas.spec.run import RunSpec
from neuromas.tasks.chain import ChainProblem
from neuromas.tasks.facts import Fact, derive
from neuromas.tasks.registry import make_task
from neuromas.topology.graph import Topology

Document = dict[str, Any]


def run_document(nodes: int, steps: int, engine: str) -> Document:
    """Return the spec of our own side: the defaults, but that every step costs the same and nothing is evaluated."""
    return {
        "name": "peers",
        "topology": {"chain": nodes},
        "task": {"type": "chain", "hops": nodes},
        "training": {"steps": steps, "drop_zero_variance": False},
        "engine": {"type": engine},
        "evaluation": {"examples": 1},
        "checkpoint": {"every": 0},
    }


def make_work(nodes: int, steps: int) -> Work:
    """Return the same steps for peers that have no graphs; agent k stands for node k.

    Raises:
        ValueError: the base's tokenizer does not read a prompt's text as its tokens.
    """
    spec = RunSpec.model_validate(run_document(nodes, steps, "transformers"))
    assert isinstance(spec.adapter, LoraSpec)
    base, task, training = resolve_base(spec.base), make_task(spec.task, spec.seed), spec.training
    renderer, tokenizer = make_renderer(spec.prompt, base), load_tokenizer(base)
    work = Work(
        base=str(base),
        nodes=nodes,
        steps=steps,
        examples=training.prompts_per_step,
        group_size=training.group_size,
        max_tokens=spec.sampling.max_tokens,
        rank=spec.adapter.rank,
        targets=list(spec.adapter.targets),
        learning_rate=training.learning_rate,
        prompts=[[] for _ in range(nodes)],
        prompt_tokens=[[] for _ in range(nodes)],
        answers=[[] for _ in range(nodes)],
    )
    topology: Topology = spec.topology
    for index in range(steps * work.examples):
        example = task.example("train", index)
        facts = [str(Fact(name, value)) for name, value in derive(ChainProblem.parse(example.prompt).rules).items()]
        for k, node in enumerate(topology.nodes):
            heard = [(topology.nodes[k - 1].id, facts[k - 1])] if k else []
            token_ids = list(renderer.render(topology, node.id, example, heard))
            text = tokenizer.decode(token_ids, skip_special_tokens=False)
            if tokenizer.encode(text).ids != token_ids:
                raise ValueError(f"{base}: the text {text!r} has other tokens than the prompt")
            work.prompts[k].append(text)
            work.prompt_tokens[k].append(len(token_ids))
            work.answers[k].append(facts[k])
    return work
