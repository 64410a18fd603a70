"""Trainer and engine on a GPU: do they agree, how fast are rollouts, and what share of a step is publishing?

The engine samples calls of several nodes with random adapters; the trainer scores the same tokens with the same
weights. Reported per number format: the mean and the largest difference in nats per token, tokens per second of the
engine, and the seconds that exporting and publishing all adapters takes beside those of the update.

    python -m benchmarks.gpu.agreement [--shape 0.6B | --base FOLDER] [--nodes 7] [--json FILE] [--dry-run]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks.gpu.joint import Device, forward_backward
from benchmarks.gpu.shapes import SHAPES, TARGETS, make_model
from benchmarks.measure import Cell, report
from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import build_model
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.ref import AdapterRef
from neuromas.engines.transformers import TransformersEngine
from neuromas.rollout.engine import EngineCall, EngineResult, Sampling
from neuromas.spec.machine import EngineSpec
from neuromas.training.packing import pack
from neuromas.training.scoring import add_scoring, score_bucket

Format = Literal["float32", "bfloat16"]
DTYPES: dict[Format, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def perturb(bank: AdapterBank) -> None:
    """Move every adapter away from its start, so that each of them changes what the model says."""
    generator = torch.Generator().manual_seed(1)
    for name in bank.names:
        for tensor in bank.node_parameters(name).values():
            noise = torch.randn(tensor.shape, generator=generator) * 0.02
            tensor.add_(noise.to(tensor.device, tensor.dtype))


def sample(engine: TransformersEngine, calls: list[EngineCall]) -> list[EngineResult]:
    """Return the results in the order of the calls."""
    engine.submit(calls)
    results: dict[str, EngineResult] = {}
    while engine.has_unfinished():
        results |= {result.id: result for result in engine.step()}
    return [results[call.id] for call in calls]


def measure(place: Device, folder: Path, dtype: Format, arguments: argparse.Namespace) -> dict[str, Cell]:
    """Return the line of one number format."""
    place.dtype = DTYPES[dtype]
    spec = EngineSpec(type="transformers", dtype=dtype, max_model_len=arguments.prompt + arguments.completion)
    names = [f"n{k}" for k in range(arguments.nodes)]
    model, bank = build_model(folder, LoraSpec(rank=arguments.rank, targets=TARGETS), names, 0, place.dtype)
    model = model.to(place.device)
    add_scoring(model.get_base_model())
    perturb(bank)
    engine = TransformersEngine(folder, spec, arguments.nodes, arguments.rank)
    refs = [AdapterRef(name, 0, "gpu") for name in names]
    began = place.seconds()
    loras = bank.export_all()
    engine.publish({ref: loras[ref.name] for ref in refs})
    publish_s = place.seconds() - began

    draw = np.random.default_rng(0)
    limit = int(model.get_base_model().config.vocab_size)
    prompts = [tuple(draw.integers(0, limit, arguments.prompt).tolist()) for _ in range(arguments.calls)]
    calls = [
        EngineCall(str(k), prompt, Sampling(arguments.completion, 1.0, 1.0, k), refs[k % len(refs)])
        for k, prompt in enumerate(prompts)
    ]
    sample(engine, calls[: len(refs)])  # warm-up
    began = place.seconds()
    results = sample(engine, calls)
    rollout_s = place.seconds() - began

    buckets = pack([list(p) for p in prompts], [list(r.token_ids) for r in results], np.arange(len(calls)), share=False)
    found = [np.zeros(len(result.token_ids)) for result in results]
    for bucket in buckets:
        bank.set_routes(torch.from_numpy(bucket.groups % len(names)))
        with torch.no_grad():
            scores = score_bucket(model, bucket, torch.ones(len(bucket.groups)), place.device)
        for row, step, value in zip(bucket.call_rows, bucket.steps, scores.logprobs.tolist(), strict=True):
            found[row][step] = value
    apart = np.abs(np.concatenate(found) - np.concatenate([np.array(result.logprobs) for result in results]))
    began = place.seconds()
    for bucket in buckets:
        bank.set_routes(torch.from_numpy(bucket.groups % len(names)))
        forward_backward(place, model, [bucket])
    update_s = place.seconds() - began
    engine.close()
    return {
        "format": dtype,
        "nodes": len(names),
        "mean diff": float(apart.mean()),
        "max diff": float(apart.max()),
        "sampled tokens/s": sum(len(result.token_ids) for result in results) / rollout_s,
        "rollout s": rollout_s,
        "update s": update_s,
        "publish s": publish_s,
        "publish % of step": 100 * publish_s / (publish_s + rollout_s + update_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="0.6B")
    parser.add_argument("--base", type=Path, help="folder of a real model instead of random weights")
    parser.add_argument("--nodes", type=int, default=7)
    parser.add_argument("--calls", type=int, default=112)
    parser.add_argument("--prompt", type=int, default=192)
    parser.add_argument("--completion", type=int, default=32)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="toy sizes on the CPU: checks the script")
    arguments = parser.parse_args()
    if arguments.dry_run:
        vars(arguments).update({"shape": "tiny", "nodes": 2, "calls": 4, "prompt": 16, "completion": 4, "rank": 8})
    place = Device(arguments.dry_run)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.base
        if folder is None:
            folder = Path(temporary)
            make_model(SHAPES[arguments.shape], place.device, place.dtype).save_pretrained(folder)
        lines = [measure(place, folder, dtype, arguments) for dtype in DTYPES]
    what = SHAPES[arguments.shape].name + ", random weights" if arguments.base is None else arguments.base.name
    report(f"trainer and engine on {what}: {arguments.calls} calls", lines, arguments.json)


if __name__ == "__main__":
    main()
