"""``neuromas diagnose``: what training can still move in a trained graph: by adapter, and by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from neuromas.checkpoints.trained import find_trained
from neuromas.cli.command import Parser
from neuromas.cli.options import CheckpointOptions, add_checkpoint, add_engine
from neuromas.display.console import Console
from neuromas.display.status import StatusLine
from neuromas.report.numbers import percent
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.record import Provenance
from neuromas.tasks.held_out import held_out
from neuromas.tasks.registry import make_task
from neuromas.workflows.analyze import load_adapters, open_client

EXAMPLES = """diagnose runs/quickstart
diagnose runs/quickstart --questions 32 --calls 64 --json"""


class Arguments(CheckpointOptions):
    """What the command reads."""

    questions: int
    calls: int
    level: int | None
    engine: Literal["vllm", "transformers"] | None


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_checkpoint(parser)
    parser.add_argument("--questions", metavar="N", type=positive, default=16, help="held-out questions (default: 16)")
    parser.add_argument("--calls", metavar="N", type=positive, default=32, help="messages of an adapter (default: 32)")
    parser.add_argument("--level", metavar="L", type=int, help="task level (default: the task's target)")
    add_engine(parser)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    trained = find_trained(arguments.path).on_machine(arguments.engine, "local")
    spec = trained.spec
    with StatusLine(console) as status:
        status.phase("importing torch, loading the adapters")
        from neuromas.base.resolve import resolve_base
        from neuromas.studies.diagnose import diagnose

        status.phase("importing and starting the engine")
        client, refs = open_client(trained, load_adapters(trained))
        try:
            task = make_task(spec.task, spec.seed)
            batch = RolloutBatch(
                topology=trained.topology,
                examples=held_out(task, arguments.level, arguments.questions, "validation"),
                group_size=max(2, spec.training.group_size),
                adapters=refs,
                sampling=spec.sampling,
                greedy=False,
                seed=spec.evaluation.seed,
                provenance=Provenance(spec.name, 0, 0),
                task=task,
            )
            status.phase(f"sampling {len(batch.examples)} x {batch.group_size} rollouts")
            groups = client.collect(client.submit(batch))
        finally:
            client.close()
        found = diagnose(
            trained,
            resolve_base(spec.base),
            groups,
            arguments.calls,
            lambda adapter: status.phase(f"kernel of {adapter}"),
        )
    found = {"checkpoint": str(trained.checkpoint), "level": arguments.level, **found}
    console.show(text(found), found)
    return 0


def text(found: Mapping[str, Any]) -> str:
    """Return the findings for people."""
    lines = [
        (f"{found['questions_with_signal']} of {found['questions']} questions have both better and worse answers: "
        "the others move nothing"),
        "",
        "  adapter        push  alignment  effective rank  condition  from linear",
        *map(_line, found["adapters"]),
        "",
        "push: what a step of rate 1 along the advantages adds to the expected reward, to first order;",
        "alignment: which share of what the adapter can move lies along the advantages;",
        "from linear: how far training went beyond its first order (0: not at all)",
        "",
        "where the push comes from:",
        *map(_places, found["adapters"]),
    ]
    if inert := found["inert"]:
        lines += ["", f"inert: {', '.join(inert)}: training hardly moves what they say: it is settled, or stuck"]
    spans = [
        (one, other, share) for one, row in found["overlap"].items() for other, share in row.items() if one != other
    ]
    if spans:
        lines += ["", "how much of an adapter's update lies in the span of another's:"]
        lines += [f"  {other} in {one}  {percent(share)}" for one, other, share in sorted(spans, key=_least)[:5]]
    return "\n".join(lines)


def positive(word: str) -> int:
    """Return a number of at least 1."""
    number = int(word)
    if number < 1:
        raise ValueError(word)
    return number


def _least(span: tuple[str, str, float]) -> float:
    return -span[2]


def _line(adapter: Mapping[str, Any]) -> str:
    alignment, gap = adapter["alignment"], adapter["linearity_gap"]
    return (
        f"  {adapter['adapter']:<10}{adapter['push']:>9.2g}{'none' if alignment is None else percent(alignment):>11}"
        f"{adapter['effective_rank']:>11.1f} of {adapter['calls']:<3}{adapter['condition']:>8.1e}"
        f"{'unchanged' if gap is None else f'{gap:.2f}':>13}"
    )


def _places(adapter: Mapping[str, Any]) -> str:
    total = adapter["push"]
    shares = [f"{name} {percent(push / total)}" for name, push in adapter["suffixes"].items()] if total else []
    return f"  {adapter['adapter']:<10}{', '.join(shares) or 'no signal'}"
