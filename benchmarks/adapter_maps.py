"""Cost of one joint forward and backward pass with each family of adapters, against LoRA of the same served rank.

Shapes: Qwen3 with hidden size 256 and 4 layers, all 7 linear layers of a block, 64 rows of 128 tokens, N nodes in
random order. A ratio of 1 means that the family costs what LoRA costs. Times are of the processor. Set-up is what
making the adapters takes beyond loading the base. Memory is what training needs beside the base: the adapters with
Adam's moments, and the most that stood at once in forward and backward, gradients included. Bytes are those of one
node in a checkpoint, moments included, of the plain LoRA that an engine gets of it, and of what all nodes share.

    python -m benchmarks.adapter_maps [--nodes 16 64] [--repeats 5] [--json FILE] [--publish]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.allocated import allocated_peak
from benchmarks.joint_step import TARGETS, forward_backward
from benchmarks.measure import Cell, interleave, ratio, report
from benchmarks.pages import replace_table
from benchmarks.small_model import VOCABULARY, save_model
from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import attach
from neuromas.adapters.families.contract import SHARED
from neuromas.adapters.families.registry import adapter_spec
from neuromas.adapters.frozen_base import load_base

PAGE = Path("docs/benchmarks.md")
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
        began = time.process_time()
        adapted, bank = attach(model, spec, [f"n{k}" for k in range(nodes)], seed=0)
        seconds = time.process_time() - began
        bank.set_routes(routes)
        adapted.train()
        step = alternatives[name] = partial(forward_backward, adapted, ids)
        own, shared = stored_bytes(bank)
        results[name] = {
            "family": name,
            "nodes": nodes,
            "trained_per_node": bank.num_trainable("n0"),
            "stored_bytes_per_node": own,
            "stored_bytes_shared": shared,
            "sent_bytes_per_node": bank.export_all()["n0"].num_bytes,
            "memory_bytes": nodes * own + shared + allocated_peak(step),
            "setup_s": seconds,
        }
    seconds_of = interleave(alternatives, repeats, warmup=0, clock=time.process_time)
    for name, row in results.items():
        middle, low, high = ratio(seconds_of[name], seconds_of["lora"])
        row |= {"ratio": middle, "low": low, "high": high}
    return list(results.values())


def table(rows: Sequence[Mapping[str, Cell]]) -> str:
    """Return the rows of ``measure`` as a Markdown table: a family a row, its time and memory by number of nodes."""
    counts = list(dict.fromkeys(row["nodes"] for row in rows))
    titles = ["family", *(f"time, {count} nodes" for count in counts), *(f"memory, {count} nodes" for count in counts)]
    titles += ["trained numbers a node", "bytes a node: checkpoint", "to the engine", "bytes shared"]
    titles += [f"set-up, {count} nodes" for count in counts]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    lora = {row["nodes"]: float(row["memory_bytes"]) for row in rows if row["family"] == "lora"}
    for family in dict.fromkeys(row["family"] for row in rows):
        own = [row for row in rows if row["family"] == family]
        cells = [f"`{family}`"]
        cells += [
            "1" if family == "lora" else f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})" for row in own
        ]
        cells += [
            f"{float(row['memory_bytes']) / lora[row['nodes']]:.2f} ({float(row['memory_bytes']) / 1e6:,.0f} MB)"
            for row in own
        ]
        same = ("trained_per_node", "stored_bytes_per_node", "sent_bytes_per_node", "stored_bytes_shared")
        cells += [f"{own[0][key]:,}" for key in same]
        cells += [f"{row['setup_s']:.2f} s" for row in own]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--publish", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rows: list[dict[str, Cell]] = []
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), hidden_size=256, head_dim=64)
        for nodes in arguments.nodes:
            rows += measure(Path(folder), nodes, arguments.rows, arguments.tokens, arguments.repeats)
    report(f"joint step, served rank {RANK}, CPU time over LoRA's", rows, arguments.json)
    if arguments.publish:
        replace_table(PAGE, "adapter-maps", table(rows))


if __name__ == "__main__":
    main()
