"""Speed of graph rollouts: the dataflow over a flat batch, many adapters over none, norms by kernels over PyTorch's.

The flat batch has the same calls as the graph; the norms are those of vLLM's model on CPU (engines/vllm_cpu_norms.py).
The base is the shipped one; of the adapters, --base names another. Adapters are random, so that messages end at unequal
lengths. Seconds are CPU seconds of the process, in which the engines run with one thread, all of them side by side.

    python -m benchmarks.rollouts [--examples 24] [--group-size 8] [--repeats 7] [--json FOLDER]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.measure import Cell, interleave, ratio, report
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.base.linears import linear_shapes
from neuromas.base.resolve import resolve_base
from neuromas.engines.transformers import TransformersEngine
from neuromas.engines.vllm import VllmEngine
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.dataflow import Dataflow, call_seed
from neuromas.rollout.engine import EngineCall, Sampling
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import Group, Provenance
from neuromas.rollout.renderer import Renderer
from neuromas.spec.machine import EngineSpec
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.tasks.chain import ChainTask
from neuromas.topology.builders import chain, layered
from neuromas.topology.graph import Topology

BASE = resolve_base("tiny")
TASK = ChainTask(hops=5)
TARGETS = LoraSpec().targets
"""The layers a run adapts by default."""
SAMPLING = SamplingSpec(max_tokens=12)
SPEC = EngineSpec(kv_cache_gib=0.1, max_model_len=192)
Engine = TransformersEngine | VllmEngine


def random_lora(rank: int, seed: int, base: Path = BASE) -> PlainLora:
    """Return an adapter strong enough to change how long messages of the shipped base are."""
    rng = np.random.default_rng(seed)
    modules = {}
    for shape in linear_shapes(base, TARGETS):
        a = rng.normal(0, shape.in_features**-0.5, (rank, shape.in_features)).astype(np.float32)
        b = rng.normal(0, 0.3 / rank**0.5, (shape.out_features, rank)).astype(np.float32)
        modules[shape.path] = (a, b)
    return PlainLora(rank, modules)


def publish(engine: Engine, names: Sequence[str], rank: int, base: Path = BASE) -> dict[str, AdapterRef]:
    refs = {name: AdapterRef(name, 0, f"r{rank}") for name in names}
    engine.publish({ref: random_lora(rank, seed, base) for seed, ref in enumerate(refs.values())})
    return refs


def run_flat(engine: Engine, calls: Sequence[EngineCall]) -> int:
    """Feed all calls at once and return the number of tokens generated."""
    forget_prefixes(engine)
    engine.submit(calls)
    tokens = 0
    while engine.has_unfinished():
        tokens += sum(len(result.token_ids) for result in engine.step())
    return tokens


def forget_prefixes(engine: Engine) -> None:
    """Empty the prefix cache of vLLM, the other engine has none: each turn repeats the prompts of the last one."""
    if isinstance(engine, VllmEngine):
        engine._engine.reset_prefix_cache()


def calls_of(groups: Sequence[Group]) -> list[EngineCall]:
    """Return the calls that a dataflow made, node by node, with their seeds: they sample the same tokens again."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    return [
        EngineCall(
            f"{number}.{call.node}",
            call.prompt_token_ids,
            Sampling(SAMPLING.max_tokens, SAMPLING.temperature, SAMPLING.top_p, call_seed(rollout.seed, call.node)),
            call.adapter,
        )
        for place in range(len(rollouts[0].calls))
        for number, rollout in enumerate(rollouts)
        for call in [rollout.calls[place]]
    ]


def batch_of(topology: Topology, refs: dict[str, AdapterRef], examples: int, group_size: int) -> RolloutBatch:
    questions = tuple(TASK.example("train", index) for index in range(examples))
    return RolloutBatch(topology, questions, group_size, refs, SAMPLING, False, 0, Provenance("bench", 0, 0))


def run_graph(engine: Engine, renderer: Renderer, batch: RolloutBatch) -> list[Group]:
    forget_prefixes(engine)
    return Dataflow(engine, renderer).run(TASK, batch)


def graph_against_flat(
    kind: str, topologies: dict[str, Topology], examples: int, group_size: int, repeats: int
) -> list[dict[str, Cell]]:
    renderer = make_renderer(PromptSpec(), BASE)
    engine: Engine = VllmEngine(BASE, SPEC, 8, 1, TARGETS) if kind == "vllm" else TransformersEngine(BASE, SPEC, 8, 1)
    rows: list[dict[str, Cell]] = []
    for name, topology in topologies.items():
        refs = {node: AdapterRef(node, 0, name) for node in topology.adapters}
        engine.publish({ref: random_lora(1, seed) for seed, ref in enumerate(refs.values())})
        batch = batch_of(topology, refs, examples, group_size)
        groups = run_graph(engine, renderer, batch)
        calls = calls_of(groups)
        lengths = [len(call.completion_token_ids) for group in groups for r in group.rollouts for call in r.calls]
        assert run_flat(engine, calls) == sum(lengths), "the flat batch sampled other tokens"
        seconds = interleave(
            {
                "graph": partial(run_graph, engine, renderer, batch),
                "flat": partial(run_flat, engine, calls),
            },
            repeats,
            clock=time.process_time,
        )
        # Rates: the ratio of the seconds, turned over.
        middle, low, high = ratio(seconds["flat"], seconds["graph"])
        rows.append(
            {
                "engine": kind,
                "graph": name,
                "calls": len(calls),
                "tokens/call": f"{min(lengths)}-{max(lengths)}",
                "generated/s": sum(lengths) / median(seconds["graph"]),
                "rate over flat": middle,
                "low": low,
                "high": high,
            }
        )
        engine.publish({}, retire=list(refs.values()))
    engine.close()
    return rows


def mixed_calls(refs: Sequence[AdapterRef], renderer: Renderer, examples: int, num_calls: int) -> list[EngineCall]:
    """Return calls whose adapters alternate, prompts and budgets equal for all adapters but for the first token.

    Adapters share no prompts; nor then does an engine without them that answers the same calls.
    """
    topology = chain(1)
    prompts = [renderer.render(topology, "n1", TASK.example("train", index), []) for index in range(examples)]
    calls = []
    for k in range(num_calls):
        place = k % len(refs)
        calls.append(EngineCall(str(k), (place, *prompts[k % examples]), Sampling(2 + k % 7, seed=k), refs[place]))
    return calls


def adapters_against_none(
    base: Path, counts: Sequence[int], ranks: Sequence[int], num_calls: int, repeats: int
) -> list[dict[str, Cell]]:
    renderer = make_renderer(PromptSpec(), base)
    spec = SPEC if base == BASE else SPEC.model_copy(update={"kv_cache_gib": 1.0})
    plain = VllmEngine(base, spec, 0, 1)
    started = [plain]
    rows: list[dict[str, Cell]] = []
    for rank in ranks:
        for count in counts:
            runs: dict[str, Callable[[], object]] = {}
            engines = {
                kernel: VllmEngine(base, spec.model_copy(update={"lora_kernel": kernel}), count, rank, TARGETS)
                for kernel in ("grouped", "stock")
            }
            started += engines.values()
            for kernel, engine in engines.items():
                refs = list(publish(engine, [f"n{k}" for k in range(count)], rank, base).values())
                calls = mixed_calls(refs, renderer, 24, num_calls)
                runs[kernel] = partial(run_flat, engine, calls)
            runs["none"] = partial(run_flat, plain, [replace(call, adapter=None) for call in calls])
            seconds = interleave(runs, repeats, clock=time.process_time)
            for kernel in engines:
                middle, low, high = ratio(seconds["none"], seconds[kernel])
                rows.append(
                    {
                        "adapters": count,
                        "rank": rank,
                        "kernel": kernel,
                        "calls/s": num_calls / median(seconds[kernel]),
                        "rate over none": middle,
                        "low": low,
                        "high": high,
                    }
                )
    # Closing one engine takes down what all engines of a process share.
    for engine in started:
        engine.close()
    return rows


def norms_against_pytorch(examples: int, group_size: int, repeats: int) -> list[dict[str, Cell]]:
    renderer = make_renderer(PromptSpec(), BASE)
    engine = VllmEngine(BASE, SPEC, 5, 1, TARGETS)
    # Not at the top: starting an engine sets what vLLM reads when it is imported.
    from vllm import ir

    from neuromas.engines.vllm_cpu_norms import norm_priority

    topology = chain(5)
    refs = publish(engine, topology.adapters, 1)
    batch = batch_of(topology, refs, examples, group_size)

    def rollouts(*, by_kernels: bool) -> None:
        with ExitStack() as stack:
            for operator, priority in norm_priority().items():
                chosen = priority if by_kernels else ["native"]
                stack.enter_context(getattr(ir.ops, operator).set_priority(chosen))
            run_graph(engine, renderer, batch)

    seconds = interleave(
        {"kernels": partial(rollouts, by_kernels=True), "pytorch": partial(rollouts, by_kernels=False)},
        repeats,
        clock=time.process_time,
    )
    engine.close()
    middle, low, high = ratio(seconds["pytorch"], seconds["kernels"])
    return [{"graph": "chain 5", "rate over pytorch": middle, "low": low, "high": high}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=24)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--adapters", type=int, nargs="+", default=[5, 16])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--engines", choices=["vllm", "transformers"], nargs="+", default=["vllm"], help="of the graph")
    parser.add_argument("--base", default="tiny", help="of the adapters")
    parser.add_argument("--only", choices=["graph", "adapters", "norms"])
    parser.add_argument("--json", type=Path, help="folder for rollouts_graph.json, _adapters.json and _norms.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.json is not None:
        arguments.json.mkdir(parents=True, exist_ok=True)
    paths = {
        name: arguments.json and arguments.json / f"rollouts_{name}.json" for name in ("graph", "adapters", "norms")
    }
    if arguments.only in (None, "graph"):
        topologies = {"chain 5": chain(5), "layers 2 2 2": layered([2, 2, 2])}
        sizes = (topologies, arguments.examples, arguments.group_size, arguments.repeats)
        rows = [row for kind in arguments.engines for row in graph_against_flat(kind, *sizes)]
        report("graph rollouts, rate over one flat batch of the same calls (1 = the ceiling)", rows, paths["graph"])
    if arguments.only in (None, "adapters"):
        num_calls = arguments.examples * arguments.group_size * 5
        base = resolve_base(arguments.base)
        rows = adapters_against_none(base, arguments.adapters, arguments.ranks, num_calls, arguments.repeats)
        report("adapters mixed in one batch, rate over an engine without LoRA", rows, paths["adapters"])
    if arguments.only in (None, "norms"):
        rows = norms_against_pytorch(arguments.examples, arguments.group_size, arguments.repeats)
        report("norms by vLLM's kernels, rate of graph rollouts over norms by PyTorch", rows, paths["norms"])


if __name__ == "__main__":
    main()
