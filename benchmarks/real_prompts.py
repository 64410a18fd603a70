"""What an untrained real model makes of each way to show it a message: minutes, before any training.

    python -m benchmarks.real_prompts [--publish]

Mean probability of the right message, written as in the worked examples, over held-out questions: of a first node on
its own level, of the same node once the question has grown, and of the output that is given the right message.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM

from benchmarks.pages import replace_table
from benchmarks.real_arms import STUDIES, Terms, arm_spec
from benchmarks.real_evidence import PAGE
from neuromas.base.resolve import resolve_base
from neuromas.growth.plan import apply_plan
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.token_text import load_tokenizer
from neuromas.spec.parse import parse_run_spec
from neuromas.tasks.base import Example
from neuromas.topology.graph import Topology

FORMS: Final = {
    ("two", "grown"): "message where the answer goes on, each node its level's worked examples",
    ("two", "grown-one-prompt"): "the same, the last level's worked examples for all",
    ("two", "grown-letters"): "message with its sender before the answer, each node its level's worked examples",
    ("two", "grown-totals"): "the same, worked examples with the last sum alone",
    ("same", "grown"): "as the first row, questions that stay",
}
Call = tuple[tuple[int, ...], str]
"""Token ids of a prompt, and the right message."""


def main() -> None:
    """Print the table, and put it into the page where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publish", action="store_true", help="write the table into docs/evidence/real.md")
    options = parser.parse_args()
    folder = resolve_base("smollm2-135m")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    lines = [
        "| prompt | first node | first node, a number more | output, given the right message |",
        "|---|---|---|---|",
    ]
    for (study, arm), title in FORMS.items():
        shares = [_right(model, folder, calls) for calls in _calls(study, arm, folder)]
        lines.append(f"| {title} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |")
    table = "\n".join(lines)
    print(table)
    if options.publish:
        replace_table(PAGE, "real-prompts", table)


def _calls(study: str, arm: str, folder: Path) -> tuple[list[Call], ...]:
    """Return the calls of the three columns."""
    about, spec = STUDIES[study], parse_run_spec(arm_spec(study, arm, 0))
    assert spec.growth is not None
    small, renderer = spec.topology, make_renderer(spec.prompt, folder)
    kept = about.levels[0] if about.levels[0] in spec.prompt.worked_levels else None
    grown = apply_plan(small, spec.growth.plans[0], examples_of=kept).topology

    def says(terms: Terms, level: int) -> str:
        return str(sum(terms[:level])) if arm == "grown-totals" else about.answer(terms, level)

    def call(graph: Topology, node: str, level: int, terms: Terms) -> Call:
        first, whole = says(terms, about.levels[0]), says(terms, level)
        signals = [(sender, first) for sender in graph.predecessors(node)]
        prompt = renderer.render(graph, node, Example("probe", about.question(terms, level), whole, level), signals, 10)
        goes_on = renderer.spell(prompt).endswith(first)
        return prompt, first if node == "n1" else whole.removeprefix(first) if goes_on else whole

    return tuple(
        [call(graph, node, level, terms) for terms in about.drawn(level)[2]]
        for graph, node, level in ((small, "n1", 2), (grown, "n1", 3), (grown, "n2", 3))
    )


@torch.no_grad()
def _right(model: Any, folder: Path, calls: Sequence[Call]) -> float:
    """Return the mean probability of the right messages, each with the line's end; what prompts share is read once."""
    tokenizer = load_tokenizer(folder)
    rows = []
    for prompt, message in calls:
        text = tokenizer.decode(list(prompt), skip_special_tokens=False)
        space = "" if text.endswith(" ") or message.startswith(" ") else " "
        rows.append((len(prompt), tokenizer.encode(f"{text}{space}{message}\n", add_special_tokens=False).ids))
        assert tuple(rows[-1][1][: len(prompt)]) == prompt
    shared = sum(
        1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*(ids for _, ids in rows), strict=False))
    )
    cache = model(torch.tensor([rows[0][1][:shared]]), use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(rows))
    tokens = torch.zeros(len(rows), max(len(ids) for _, ids in rows) - shared, dtype=torch.long)
    for row, (_, ids) in enumerate(rows):
        tokens[row, : len(ids) - shared] = torch.tensor(ids[shared:])
    logprobs = model(tokens, past_key_values=cache).logits.log_softmax(-1)
    found = 0.0
    for row, (start, ids) in enumerate(rows):
        places = range(start, len(ids))
        found += math.exp(sum(float(logprobs[row, place - shared - 1, ids[place]]) for place in places))
    return found / len(rows)


if __name__ == "__main__":
    main()
