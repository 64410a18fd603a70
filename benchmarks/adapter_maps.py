"""Cost of one joint forward and backward pass with each family of adapters, against LoRA of the same served rank.

Shapes: Qwen3 with hidden size 256 and 4 layers, all 7 linear layers of a block, 64 rows of 128 tokens, N nodes in
random order. A ratio of 1 means that the family costs what LoRA costs. Set-up is what making the adapters takes beyond
loading the base; bytes are those of one node in a checkpoint, moments included, and of what all nodes share.

    python -m benchmarks.adapter_maps [--nodes 16] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.joint_step import TARGETS, forward_backward
from benchmarks.measure import Cell, interleave, ratio, report
from benchmarks.small_model import VOCABULARY, save_model
from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import attach
from neuromas.adapters.families.contract import SHARED
from neuromas.adapters.families.registry import adapter_spec
from neuromas.adapters.frozen_base import load_base

RANK = 8
FAMILIES: dict[str, dict[str, object]] = {
    "lora": {"rank": RANK},
    "unilora": {"rank": RANK, "dimension": 4096},
    "loft": {"rank": RANK},
    "ssf": {"channels": RANK},
    "adamss": {"segments": RANK, "basis": 32},
    "hyper": {"rank": RANK, "dimension": 4096},
}


def stored_bytes(bank: AdapterBank) -> tuple[int, int]:
    """Return the bytes in a checkpoint of one node, and of what all share."""
    own = shared = 0
    for key, tensor in bank.state(bank.names[:1]).items():
        copies = 3 if any(key.endswith(f"/{owned.key}") for owned in bank.trained()) else 1
        size = copies * tensor.numel() * tensor.element_size()
        own, shared = (own, shared + size) if key.startswith(f"{SHARED}/") else (own + size, shared)
    return own, shared


def measure(base: Path, nodes: int, rows: int, tokens: int, repeats: int) -> list[dict[str, Cell]]:
    ids = torch.randint(0, VOCABULARY, (rows, tokens))
    routes = torch.randperm(rows) % nodes
    alternatives: dict[str, Callable[[], None]] = {}
    results: dict[str, dict[str, Cell]] = {}
    for name, sizes in FAMILIES.items():
        spec, model = adapter_spec({"type": name, "targets": TARGETS, **sizes}), load_base(base)
        began = time.perf_counter()
        adapted, bank = attach(model, spec, [f"n{k}" for k in range(nodes)], seed=0)
        seconds = time.perf_counter() - began
        bank.set_routes(routes)
        adapted.train()
        alternatives[name] = partial(forward_backward, adapted, ids)
        own, shared = stored_bytes(bank)
        results[name] = {
            "family": spec.title,
            "trained_per_node": bank.num_trainable("n0"),
            "stored_bytes_per_node": own,
            "stored_bytes_shared": shared,
            "setup_s": seconds,
        }
    seconds_of = interleave(alternatives, repeats, warmup=1)
    for name, row in results.items():
        middle, low, high = ratio(seconds_of[name], seconds_of["lora"])
        row |= {"ratio": middle, "low": low, "high": high}
    return list(results.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), hidden_size=256, head_dim=64)
        rows = measure(Path(folder), arguments.nodes, arguments.rows, arguments.tokens, arguments.repeats)
    report(f"joint step of {arguments.nodes} nodes, served rank {RANK}, time over LoRA's", rows, arguments.json)


if __name__ == "__main__":
    main()
