"""Cost of one joint forward and backward pass over N nodes, against one stock PEFT LoRA on the same tokens.

Shapes: Qwen3 with hidden size 256 and 4 layers, rank 8 on all 7 linear layers of a block, 64 rows of 128 tokens,
rows in random order. A ratio of 1 means that N nodes train at the price of one. 0 nodes are the base without adapters,
its gradients those of what its layers read: what no adapter can be cheaper than.

    python -m benchmarks.joint_step [--nodes 1 4 16 64] [--repeats 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from benchmarks.measure import Cell, interleave, ratio, report
from benchmarks.small_model import VOCABULARY, save_model
from neuromas.adapters.build import build_model
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.families.unilora.spec import UniLoraSpec
from neuromas.adapters.frozen_base import load_base

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def forward_backward(model: nn.Module, ids: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()


def stock_adapter(base: Path, rank: int) -> nn.Module:
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    model: nn.Module = get_peft_model(load_base(base), config)
    return model.train()


def without_adapters(base: Path) -> nn.Module:
    frozen = load_base(base)
    frozen.enable_input_require_grads()
    model: nn.Module = frozen.train()
    return model


def measure(
    base: Path, nodes: list[int], spec: AdapterSpec, rows: int, tokens: int, repeats: int
) -> list[dict[str, Cell]]:
    ids = torch.randint(0, VOCABULARY, (rows, tokens))
    stock = stock_adapter(base, spec.served_rank)
    alternatives: dict[str, Callable[[], None]] = {
        "stock": partial(forward_backward, stock, ids),
        "0": partial(forward_backward, without_adapters(base), ids),
    }
    for count in nodes:
        model, bank = build_model(base, spec, [f"n{k}" for k in range(count)], seed=0)
        bank.set_routes(torch.randperm(rows) % count)
        model.train()
        alternatives[f"{count}"] = partial(forward_backward, model, ids)
    seconds = interleave(alternatives, repeats, warmup=1)
    results: list[dict[str, Cell]] = []
    for count in (0, *nodes):
        middle, low, high = ratio(seconds[f"{count}"], seconds["stock"])
        median = sorted(seconds[f"{count}"])[repeats // 2]
        results.append({"nodes": count, "ratio": middle, "low": low, "high": high, "seconds": median})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--unilora", type=int, metavar="D", help="Uni-LoRA vectors of this length instead of LoRA")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    spec: AdapterSpec = LoraSpec(rank=arguments.rank, targets=TARGETS)
    if arguments.unilora:
        spec = UniLoraSpec(rank=arguments.rank, dimension=arguments.unilora, targets=TARGETS)
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), hidden_size=256, head_dim=64)
        rows = measure(Path(folder), arguments.nodes, spec, arguments.rows, arguments.tokens, arguments.repeats)
    title = (
        f"joint step, {spec.title} r={arguments.rank}, {arguments.rows} rows x {arguments.tokens} tokens, time over "
        "one stock PEFT LoRA (1 = the price of one adapter)"
    )
    report(title, rows, arguments.json)


if __name__ == "__main__":
    main()
