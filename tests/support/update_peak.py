"""Run as a program: the most memory that an update of long calls takes, against what was planned for it.

Its arguments are the folder of a base and how many calls share the beginning of their prompts. It writes the planned
and the seen number of bytes, and the forward passes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from neuromas.adapters.build import build_model
from neuromas.base.sizes import read_sizes
from neuromas.spec.parse import parse_run_spec
from neuromas.training.memory import plan_memory
from neuromas.training.packing import pack
from neuromas.training.scoring import add_scoring, score_bucket

SHARED, OWN, COMPLETION = 64, 24, 32


def main(folder: Path, group: int) -> None:
    document = {"base": str(folder), "topology": {"chain": 2}, "task": {"type": "chain", "hops": 2}}
    spec = parse_run_spec(document)
    sizes = read_sizes(folder, spec.adapters.targets)
    assert sizes is not None
    plan = plan_memory(spec, sizes.dimensions)
    groups = plan.tokens_per_forward // (SHARED + group * (OWN + COMPLETION)) * 3 // 2
    model, bank = build_model(folder, spec.adapters, spec.topology, seed=0)
    add_scoring(model.get_base_model())
    numbers = np.random.default_rng(0)

    def drawn(size: int) -> tuple[int, ...]:
        return tuple(numbers.integers(3, 140, size=size).tolist())

    prompts = [shared + drawn(OWN) for shared in (drawn(SHARED) for _ in range(groups)) for _ in range(group)]
    completions = [drawn(COMPLETION) for _ in prompts]
    numbered = np.repeat(np.arange(groups), group)
    buckets = pack(prompts, completions, numbered, tokens_per_forward=plan.tokens_per_forward)
    for bucket in buckets:
        bank.set_routes([0] * len(bucket.groups))
        scores = score_bucket(model, bucket, torch.ones(len(bucket.groups)), torch.device("cpu"))
        (scores.logprobs.sum() + scores.entropies.sum()).backward()
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    sys.stdout.write(f"{plan.peak_bytes} {int(line.split()[1]) << 10} {len(buckets)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
