"""How much of what prompts begin with alike is read once: the tokens that an engine computes over those that differ.

The calls are those of one step of a run, made as a run makes them, with random adapters. Of the prompts that one
adapter reads, a token has to be computed where no other one begins with the same tokens up to it, and the last token
of every prompt, which the first sampled one is read off. Nothing is timed: the counts are those of any machine.

    python -m benchmarks.prefixes [--engines vllm transformers] [--json FILE]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.decode import RANK, random_lora
from benchmarks.measure import Cell, report
from benchmarks.rollouts import forget_prefixes
from neuromas.adapters.ref import AdapterRef
from neuromas.base.resolve import resolve_base
from neuromas.base.suited import suit_spec
from neuromas.engines.transformers import TransformersEngine
from neuromas.engines.vllm import VllmEngine
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import Group, Provenance
from neuromas.spec.load import load_spec
from neuromas.spec.run import RunSpec
from neuromas.tasks.registry import make_task

EXAMPLES: Final = Path(__file__).resolve().parent.parent / "examples"
RUNS: Final[Mapping[str, tuple[str, Sequence[str]]]] = {
    "quickstart: chain of 5": ("quickstart.toml", ()),
    "layered: 2, 2 and an output": ("layered.toml", ()),
    "real-sums, chain of 3": ("real-sums.toml", ("topology.chain=3",)),
}
"""Name -> the run spec and what is changed of it."""
ENGINES: Final = {"vllm": VllmEngine, "transformers": TransformersEngine}


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", choices=list(ENGINES), nargs="+", default=list(ENGINES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Cell]] = []
    for name, (file, settings) in RUNS.items():
        spec = suit_spec(load_spec(EXAMPLES / file, settings)).spec
        for engine in options.engines:
            rows += [{"run": name, "engine": engine, **row} for row in counted(spec, engine)]
    report("tokens of prompts computed over those that differ (1 = nothing is read twice)", rows, options.json)


def counted(spec: RunSpec, name: str) -> list[dict[str, Cell]]:
    """Return what an engine computes of a step's prompts: an adapter for each node, one for all, and asked again."""
    folder, nodes = resolve_base(spec.base), list(spec.topology.adapters)
    engine = ENGINES[name](folder, spec.engine.model_copy(update={"type": name}), len(nodes), RANK)
    refs = {node: AdapterRef(node, 0, "prefixes") for node in nodes}
    engine.publish({ref: random_lora(folder, seed) for seed, ref in enumerate(refs.values())})
    one = dict.fromkeys(nodes, refs[nodes[0]])
    rows: list[dict[str, Cell]] = []
    for scope, adapters, is_kept in (
        ("an adapter for each node", refs, False),
        ("the same, asked again", refs, True),
        ("one adapter for all nodes", one, False),
    ):
        if not is_kept:
            forget_prefixes(engine)
        rows.append({"adapters": scope, **row_of(*step_of(spec, engine, folder, adapters), is_kept=is_kept)})
    engine.close()
    return rows


def step_of(
    spec: RunSpec, engine: TransformersEngine | VllmEngine, folder: Path, adapters: Mapping[str, AdapterRef]
) -> tuple[list[Group], int]:
    """Sample one step's rollouts; returns them and how many tokens of their prompts were not computed."""
    task = make_task(spec.task, spec.seed)
    examples = tuple(task.example("train", index) for index in range(spec.training.prompts_per_step))
    provenance = Provenance("prefixes", 0, 0)
    size = spec.training.group_size
    batch = RolloutBatch(spec.topology, examples, size, adapters, spec.sampling, False, spec.seed, provenance)
    dataflow = Dataflow(engine, make_renderer(spec.prompt, folder))
    return dataflow.run(task, batch), dataflow.stats.cached_tokens


def row_of(groups: Sequence[Group], cached: int, *, is_kept: bool) -> dict[str, Cell]:
    """Return the counts of a step; ``is_kept`` where the engine has read all of its prompts before."""
    calls = [call for group in groups for rollout in group.rollouts for call in rollout.calls]
    tokens = sum(len(call.prompt_token_ids) for call in calls)
    by_adapter: dict[AdapterRef | None, list[tuple[int, ...]]] = {}
    for call in calls:
        by_adapter.setdefault(call.adapter, []).append(call.prompt_token_ids[:-1])
    different = 0 if is_kept else sum(map(num_prefixes, by_adapter.values()))
    ideal, computed = different + len(calls), tokens - cached
    return {
        "calls": len(calls),
        "tokens": tokens,
        "differ": ideal,
        "computed": computed,
        "over those that differ": computed / ideal,
        "of all": computed / tokens,
    }


def num_prefixes(prompts: Iterable[tuple[int, ...]]) -> int:
    """Return how many beginnings, the empty one not counted, at least one of the prompts has.

    Sorted, every prompt brings those that are longer than what it shares with the one before it.
    """
    count, last = 0, tuple[int, ...]()
    for prompt in sorted(prompts):
        shared = next((place for place, pair in enumerate(zip(prompt, last, strict=False)) if pair[0] != pair[1]), None)
        count += len(prompt) - (min(len(prompt), len(last)) if shared is None else shared)
        last = prompt
    return count


if __name__ == "__main__":
    main()
