"""What rollouts on a real language model cost over the bare matrix products of their tokens, by engine.

The calls are those of a chain of three nodes: the first node's prompts are equal within a group, those of the others
end differently. The products are those of all linear layers and the head over the same tokens, those that the prompts
of a group begin with once, sampled ones in batches of all rollouts. A rate of 0.8 means that a fifth of the time is
attention, adapters, sampling, Python, and batches that are not full. Seconds are CPU seconds of one thread.

    python -m benchmarks.decode [--base smollm2-135m] [--examples 8] [--group-size 8] [--repeats 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import Cell, interleave, ratio, report
from benchmarks.rollouts import forget_prefixes
from neuromas.adapters.frozen_base import load_base
from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.base.linears import linear_shapes
from neuromas.base.resolve import read_base, resolve_base
from neuromas.engines.transformers import TransformersEngine
from neuromas.engines.vllm import VllmEngine
from neuromas.rollout.engine import EngineCall, Sampling
from neuromas.spec.machine import EngineSpec

NODES, RANK, QUESTION, MESSAGE, LONGEST = 3, 8, 96, 12, 10
"""Of the graph; tokens of the prompt that a group shares, of a message, of a completion at most."""
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    options = _parser().parse_args(argv)
    torch.set_num_threads(1)
    folder, rollouts = resolve_base(options.base), options.examples * options.group_size
    length = QUESTION + MESSAGE + LONGEST
    vllm = VllmEngine(folder, EngineSpec(max_model_len=length, kv_cache_gib=1.0), NODES, RANK, TARGETS)
    plain = TransformersEngine(folder, EngineSpec(type="transformers", max_model_len=length), NODES, RANK)
    refs = [AdapterRef(f"n{node}", 0, "decode") for node in range(NODES)]
    for engine in (vllm, plain):
        engine.publish({ref: random_lora(folder, seed) for seed, ref in enumerate(refs)})
    layers = chain_calls(folder, refs, options.examples, options.group_size)
    bare = [[replace(call, adapter=None) for call in layer] for layer in layers]
    sampled = sum(call.sampling.max_tokens for layer in layers for call in layer)
    shared = options.examples * (QUESTION - 1) * NODES + rollouts * MESSAGE * (NODES - 1)
    seconds = interleave(
        {
            "vllm": partial(run_chain, vllm, layers),
            "transformers": partial(run_chain, plain, layers),
            "vllm, no adapters": partial(run_chain, vllm, bare),
            "transformers, no adapters": partial(run_chain, plain, bare),
            "products": partial(run_products, matrices(load_base(folder)), shared, sampled, rollouts),
        },
        options.repeats,
        clock=time.process_time,
    )
    pairs = [(name, "products") for name in seconds if name != "products"]
    pairs += [("transformers", "vllm"), *((name, f"{name}, no adapters") for name in ("vllm", "transformers"))]
    rows: list[dict[str, Cell]] = []
    for name, over in pairs:
        middle, low, high = ratio(seconds[over], seconds[name])
        rows.append({"what": name, "over": over, "rate": middle, "low": low, "high": high, "s": median(seconds[name])})
    title = f"{rollouts} rollouts of a chain of {NODES} on {options.base}, at most {sampled} tokens sampled"
    report(title, rows, options.json)
    return 0


def chain_calls(folder: Path, refs: Sequence[AdapterRef], examples: int, group_size: int) -> list[list[EngineCall]]:
    """Return the calls of each node, in the order of the rollouts."""
    draw, limit = np.random.default_rng(0), min(read_base(folder).vocab_size, 4096)

    def tokens(length: int) -> tuple[int, ...]:
        return tuple(draw.integers(64, limit, length).tolist())

    layers: list[list[EngineCall]] = []
    numbers = count()
    for ref in refs:
        questions = [tokens(QUESTION) for _ in range(examples)]
        prompts = [question + (tokens(MESSAGE) if layers else ()) for question in questions for _ in range(group_size)]
        lengths = draw.integers(3, LONGEST + 1, len(prompts)).tolist()
        layers.append(
            [
                EngineCall(str(number), prompt, Sampling(length, seed=number), ref)
                for prompt, length, number in zip(prompts, lengths, numbers, strict=False)
            ]
        )
    return layers


def run_chain(engine: TransformersEngine | VllmEngine, layers: Sequence[Sequence[EngineCall]]) -> None:
    """Ask each node's call when that of the node before has ended."""
    forget_prefixes(engine)
    following = {call.id: after for pair in pairwise(layers) for call, after in zip(*pair, strict=True)}
    engine.submit(layers[0])
    while engine.has_unfinished():
        engine.submit([following[result.id] for result in engine.step() if result.id in following])


def matrices(model: nn.Module) -> list[Tensor]:
    """Return the weights of all linear layers, the head last."""
    return [module.weight for module in model.modules() if isinstance(module, nn.Linear)]


def run_products(weights: Sequence[Tensor], read: int, sampled: int, rows: int) -> None:
    """Make the products of ``read`` tokens without the head, and of ``sampled`` ones in batches of ``rows``."""
    batches = [(512, weights[:-1])] * round(read / 512) + [(rows, weights)] * round(sampled / rows)
    with torch.inference_mode():
        for size, through in batches:
            inputs = {weight.shape[1]: torch.ones(size, weight.shape[1]) for weight in through}
            for weight in through:
                nn.functional.linear(inputs[weight.shape[1]], weight)


def random_lora(folder: Path, seed: int) -> PlainLora:
    """Return an adapter of all layers."""
    draw = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return draw.normal(0, 0.02, shape).astype(np.float32)

    shapes = linear_shapes(folder, TARGETS)
    return PlainLora(RANK, {s.path: (normal(RANK, s.in_features), normal(s.out_features, RANK)) for s in shapes})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
