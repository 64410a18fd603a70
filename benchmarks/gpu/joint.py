"""Joint step on a GPU: N nodes at once, against one stock PEFT adapter and against N separate passes; packed, padded.

Random weights at the shapes of Qwen3-0.6B and Qwen3-4B, rank 16 on all linear layers, bf16 base, float32 adapters.
Every alternative scores the same completion tokens through the same head, and all share one copy of the base's weights.
MFU counts only what the model needs (``shapes.step_flops``), so recomputation does not flatter it.

    python -m benchmarks.gpu.joint [--shape 0.6B 4B] [--nodes 1 7 64] [--repeats 5] [--json FILE] [--dry-run]
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from benchmarks.gpu.shapes import SHAPES, TARGETS, Shape, make_model, peak_flops, step_flops, twin
from benchmarks.measure import Cell, interleave, ratio, report
from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import attach
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.training.packing import Bucket, pack
from neuromas.training.scoring import score_bucket

Rows = tuple[list[list[int]], list[list[int]], np.ndarray]
GROUP = 8


def make_rows(shape: Shape, groups: int, prompt: int, completion: int, own: int) -> Rows:
    """Return groups of G call rows: prompts share all but ``own`` tokens, completions have half to full length."""
    draw = np.random.default_rng(0)
    prompts, completions, group = [], [], []
    for number in range(groups):
        shared = draw.integers(0, shape.vocabulary, prompt - own).tolist()
        for _ in range(GROUP):
            prompts.append(shared + draw.integers(0, shape.vocabulary, own).tolist())
            length = draw.integers(completion // 2, completion + 1)
            completions.append(draw.integers(0, shape.vocabulary, length).tolist())
            group.append(number)
    return prompts, completions, np.array(group)


class Device:
    """Where the benchmark runs."""

    def __init__(self, dry_run: bool) -> None:
        self.device = torch.device("cpu" if dry_run else "cuda")
        self.dtype = torch.float32 if dry_run else torch.bfloat16

    def seconds(self) -> float:
        """Return the time once everything that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def peak_gib(self, run: Callable[[], None]) -> float:
        """Return the most memory that tensors took while ``run`` ran, GiB; 0 on a CPU."""
        if self.device.type != "cuda":
            run()
            return 0.0
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() / 2**30


def forward_backward(place: Device, model: nn.Module, buckets: Sequence[Bucket]) -> None:
    """Score the buckets and accumulate gradients."""
    for bucket in buckets:
        ones = torch.ones(len(bucket.groups))
        scores = score_bucket(model, bucket, ones, place.device)
        torch.autograd.backward(-scores.logprobs.sum())


def joint(place: Device, model: nn.Module, route: Callable[[np.ndarray], None], buckets: Sequence[Bucket]) -> None:
    """One pass for all nodes; bucket by bucket, as the trainer does it."""
    model.zero_grad(set_to_none=True)
    for bucket in buckets:
        route(bucket.groups)
        forward_backward(place, model, [bucket])


def stock(place: Device, model: nn.Module, buckets: Sequence[Bucket]) -> None:
    """One pass of one ordinary adapter over the same rows."""
    model.zero_grad(set_to_none=True)
    forward_backward(place, model, buckets)


def separate(place: Device, model: PeftModel, parts: Sequence[Sequence[Bucket]]) -> None:
    """One pass per node, each with an ordinary adapter of its own."""
    model.zero_grad(set_to_none=True)
    for number, buckets in enumerate(parts):
        model.set_adapter(f"n{number}")
        forward_backward(place, model, buckets)


def ordinary(base: nn.Module, rank: int, count: int) -> PeftModel:
    """Return the base with ``count`` ordinary PEFT adapters."""
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    model = get_peft_model(base, config, adapter_name="n0", autocast_adapter_dtype=True)
    for number in range(1, count):
        model.add_adapter(f"n{number}", config)
    return model.train()


def node_of_group(groups: int, nodes: int) -> np.ndarray:
    """Return the node that each group of rows belongs to."""
    return np.arange(groups) % nodes


def split_by_node(rows: Rows, nodes: int, tokens_per_forward: int) -> list[list[Bucket]]:
    """Return the padded buckets of each node's rows on their own."""
    prompts, completions, groups = rows
    owner = node_of_group(int(groups.max()) + 1, nodes)[groups]
    parts = []
    for node in range(nodes):
        mine = np.flatnonzero(owner == node)
        if mine.size:
            parts.append(
                pack(
                    [prompts[k] for k in mine],
                    [completions[k] for k in mine],
                    np.unique(groups[mine], return_inverse=True)[1],
                    share=False,
                    tokens_per_forward=tokens_per_forward,
                )
            )
    return parts


def measure(place: Device, shape: Shape, arguments: argparse.Namespace) -> list[dict[str, Cell]]:
    """Return one line per alternative."""
    rows = make_rows(shape, arguments.groups, arguments.prompt, arguments.completion, own=16)
    limit = {"tokens_per_forward": arguments.tokens_per_forward}
    padded = pack(*rows, share=False, **limit)
    packed = pack(*rows, share=True, **limit)
    base = make_model(shape, place.device, place.dtype)
    one = ordinary(twin(base), arguments.rank, 1)
    runs: dict[str, Callable[[], None]] = {"stock": partial(stock, place, one, padded)}
    for nodes in arguments.nodes:
        names = [f"n{k}" for k in range(nodes)]
        model, bank = attach(twin(base), LoraSpec(rank=arguments.rank, targets=TARGETS), names, seed=0)
        owner = node_of_group(arguments.groups, nodes)

        def route(groups: np.ndarray, bank: AdapterBank = bank, owner: np.ndarray = owner) -> None:
            bank.set_routes(torch.from_numpy(owner[groups]))

        model.train()
        runs[f"joint, N = {nodes}"] = partial(joint, place, model, route, padded)
        runs[f"joint packed, N = {nodes}"] = partial(joint, place, model, route, packed)
        if nodes > 1:
            many = ordinary(twin(base), arguments.rank, nodes)
            runs[f"separate, N = {nodes}"] = partial(separate, place, many, split_by_node(rows, nodes, **limit))
    memory = {name: place.peak_gib(run) for name, run in runs.items()}
    seconds = interleave(runs, arguments.repeats, warmup=1, clock=place.seconds)
    needed, peak = step_flops(shape, padded), peak_flops(place.device)
    tokens = sum(len(p) + len(c) for p, c in zip(*rows[:2], strict=True))
    lines: list[dict[str, Cell]] = []
    for name in runs:
        middle, low, high = ratio(seconds[name], seconds["stock"])
        mid = median(seconds[name])
        flops = step_flops(shape, packed) if "packed" in name else needed
        lines.append(
            {
                "shape": shape.name,
                "what": name,
                "over stock": middle,
                "low": low,
                "high": high,
                "ms": 1e3 * mid,
                "call tokens/s": tokens / mid,
                "MFU %": 100 * flops / mid / peak if peak else 0.0,
                "peak GiB": memory[name],
            }
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=list(SHAPES), default=["0.6B", "4B"])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 7, 64])
    parser.add_argument("--groups", type=int, default=64, help="groups of 8 rows")
    parser.add_argument("--prompt", type=int, default=192, help="tokens of a prompt")
    parser.add_argument("--completion", type=int, default=64, help="longest completion, tokens")
    parser.add_argument("--tokens-per-forward", type=int, default=8192, help="in one pass, padding included")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="toy sizes on the CPU: checks the script")
    arguments = parser.parse_args()
    if arguments.dry_run:
        small = {"shape": ["tiny"], "nodes": [1, 2], "groups": 2, "prompt": 24, "completion": 4, "rank": 8}
        vars(arguments).update(small, repeats=1, tokens_per_forward=448)
    place = Device(arguments.dry_run)
    torch.manual_seed(0)
    lines: list[dict[str, Cell]] = []
    for name in arguments.shape:
        lines += measure(place, SHAPES[name], arguments)
        gc.collect()
        if place.device.type == "cuda":
            torch.cuda.empty_cache()
    title = (
        f"joint forward and backward, {arguments.groups} groups of {GROUP} calls, prompts of {arguments.prompt}, "
        f"completions up to {arguments.completion}, {arguments.tokens_per_forward} tokens at a time, "
        f"rank {arguments.rank}"
    )
    report(title, lines, arguments.json)


if __name__ == "__main__":
    main()
