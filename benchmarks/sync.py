"""Cost of making the adapters of N nodes ready for an engine after a step, and what a further node costs in memory.

    python -m benchmarks.sync [--nodes 1 16 64] [--layers 8] [--hidden 1024] [--json FILE]

The default shapes are those of Qwen3-0.6B's q, v, up and down projections (8 layers of them; time and bytes are
proportional to layers). Bytes trained are what a checkpoint stores per node; bytes sent are the plain LoRA an engine
gets.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import statistics
import time
from pathlib import Path

import torch
from peft import get_peft_model
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.measure import Cell, report, resident_bytes
from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import adapter_config
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.families.unilora.spec import UniLoraSpec


def make_base(layers: int, hidden: int) -> nn.Module:
    """A random base; embeddings are kept small, since adapters do not touch them."""
    config = Qwen3Config(
        vocab_size=256,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 128),
        head_dim=128,
        tie_word_embeddings=True,
    )
    model: nn.Module = Qwen3ForCausalLM(config)
    return model.requires_grad_(False)


def measure(spec: AdapterSpec, count: int, layers: int, hidden: int, repeats: int, threads: int) -> dict[str, Cell]:
    """One row of the table; runs in a process of its own, so that memory freed by another row is not counted."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    base = make_base(layers, hidden)
    gc.collect()
    before = resident_bytes()
    bank = AdapterBank(get_peft_model(base, adapter_config(spec, [f"n{k}" for k in range(count)], seed=0)))
    for stack in bank.stacks():
        stack.tensor.data += 0.0  # touch every page
    gc.collect()
    grown = resident_bytes() - before
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        exported = bank.export_all()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[1:])
    return {
        "adapter": spec.title,
        "nodes": count,
        "export_all_s": median,
        "s_per_node": median / count,
        "bytes_trained_per_node": 4 * bank.num_trainable("n0"),
        "bytes_sent_per_node": exported["n0"].num_bytes,
        "resident_growth_per_node": grown // count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--dimension", type=int, default=4096, help="length of the Uni-LoRA vectors")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    specs = (
        LoraSpec(rank=arguments.rank),
        UniLoraSpec(rank=arguments.rank, dimension=arguments.dimension),
    )
    sizes = (arguments.layers, arguments.hidden, arguments.repeats, arguments.threads)
    spawn = multiprocessing.get_context("spawn")
    rows = []
    for spec in specs:
        for count in arguments.nodes:
            with spawn.Pool(1) as pool:
                rows.append(pool.apply(measure, (spec, count, *sizes)))
    title = f"sync, r={arguments.rank}, {arguments.layers} layers, hidden {arguments.hidden}"
    report(title, rows, arguments.json)


if __name__ == "__main__":
    main()
