"""Cost of one joint forward and backward pass with prefix-tree packing, against one stock PEFT LoRA on padded rows.

Rows come in groups of G = 8 per node, as rollouts do: the prompts of a group share a prefix (the question) and differ
in their last tokens (the messages read); completions have unequal lengths. The stock alternative runs one ordinary
adapter over the same rows, padded. A ratio of 0.35 means that N nodes with packing cost a third of ONE adapter without.
"Bare" is the packed step of the base without adapters, which no adapter can be cheaper than.

    python -m benchmarks.packed_step [--nodes 1 16 64] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.joint_step import TARGETS, stock_adapter, without_adapters
from benchmarks.measure import Cell, interleave, ratio, report
from benchmarks.small_model import VOCABULARY, save_model
from neuromas.adapters.build import build_model
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.training.packing import Bucket, pack
from neuromas.training.scoring import add_scoring, score_bucket

GROUP = 8
CPU = torch.device("cpu")


def make_rows(
    nodes: int, shared: int, own: int, completion: int, generator: np.random.Generator
) -> tuple[list[list[int]], list[list[int]], np.ndarray]:
    """Return prompts, completions and groups: one group per node."""
    prompts, completions, groups = [], [], []
    for node in range(nodes):
        question = generator.integers(0, VOCABULARY, shared).tolist()
        for _ in range(GROUP):
            prompts.append(question + generator.integers(0, VOCABULARY, own).tolist())
            length = generator.integers(completion // 2, completion + 1)
            completions.append(generator.integers(0, VOCABULARY, length).tolist())
            groups.append(node)
    return prompts, completions, np.array(groups)


def padded_tensors(prompts: list[list[int]], completions: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Return right-padded tokens and labels (-100 where nothing is scored)."""
    longest = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
    ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    labels = torch.full_like(ids, -100)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        tokens = torch.tensor(prompt + completion)
        ids[row, : len(tokens)] = tokens
        labels[row, len(prompt) : len(tokens)] = tokens[len(prompt) :]
    return ids, labels


def stock_step(model: nn.Module, ids: Tensor, labels: Tensor, last: int) -> None:
    """Forward and backward over padded rows; logits only where completions are."""
    model.zero_grad(set_to_none=True)
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=last).logits[:, :-1]
    logprobs = logits.log_softmax(-1)
    wanted = labels[:, -last + 1 :]
    chosen = logprobs.gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
    (-chosen * (wanted >= 0)).sum().backward()


def packed_step(model: nn.Module, set_routes: Callable[[Tensor], None], buckets: list[Bucket]) -> None:
    """Forward and backward over the packed rows, bucket by bucket as the trainer does it."""
    model.zero_grad(set_to_none=True)
    for bucket in buckets:
        set_routes(torch.from_numpy(bucket.groups))
        scores = score_bucket(model, bucket, torch.ones(len(bucket.groups)), CPU)
        torch.autograd.backward(-scores.logprobs.sum())


def measure(base: Path, arguments: argparse.Namespace) -> list[dict[str, Cell]]:
    spec = LoraSpec(rank=arguments.rank, targets=TARGETS)
    results: list[dict[str, Cell]] = []
    for count in arguments.nodes:
        rows = make_rows(count, arguments.shared, arguments.own, arguments.completion, np.random.default_rng(0))
        ids, labels = padded_tensors(*rows[:2])
        buckets = pack(*rows, attention_scale=4 * 128)
        model, bank = build_model(base, spec, [f"n{k}" for k in range(count)], seed=0)
        add_scoring(model.get_base_model())
        stock = stock_adapter(base, arguments.rank)
        model.train()
        bare = without_adapters(base)
        add_scoring(bare)
        seconds = interleave(
            {
                "stock": partial(stock_step, stock, ids, labels, arguments.completion + arguments.own + 1),
                "packed": partial(packed_step, model, bank.set_routes, buckets),
                "bare": partial(packed_step, bare, lambda _: None, buckets),
                "pack": partial(pack, *rows, attention_scale=4 * 128),
            },
            arguments.repeats,
            warmup=1,
        )
        middle, low, high = ratio(seconds["packed"], seconds["stock"])
        results.append(
            {
                "nodes": count,
                "rows": len(rows[0]),
                "padded tokens": ids.numel(),
                "packed tokens": sum(bucket.num_tokens for bucket in buckets),
                "ratio": middle,
                "low": low,
                "high": high,
                "bare over stock": ratio(seconds["bare"], seconds["stock"])[0],
                "stock s": sorted(seconds["stock"])[arguments.repeats // 2],
                "packing s": sorted(seconds["pack"])[arguments.repeats // 2],
            }
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--shared", type=int, default=32, help="tokens that the prompts of a group share")
    parser.add_argument("--own", type=int, default=4, help="tokens of each prompt's own")
    parser.add_argument("--completion", type=int, default=6, help="longest completion")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), hidden_size=128, head_dim=32)
        rows = measure(Path(folder), arguments)
    title = (
        f"packed joint step, groups of {GROUP}, prompts of {arguments.shared} shared + {arguments.own} own tokens, "
        f"completions up to {arguments.completion}: time over one stock PEFT LoRA on padded rows"
    )
    report(title, rows, arguments.json)


if __name__ == "__main__":
    main()
