"""The short table at the end of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from neuromas.report.numbers import chance, change, count, duration, percent

Document = Mapping[str, Any]


def comparison_text(document: Document, width: int = 80) -> str:
    """Return the tables of all groups as plain text of at most ``width`` columns."""
    buffer = StringIO()
    console = Console(file=buffer, width=width)
    for group in document["groups"]:
        console.print(comparison_table(group))
    return buffer.getvalue().rstrip()


def comparison_table(group: Document) -> Table:
    """Return one group of arms as a table; several seeds as mean and range.

    "change" is that of the sampled accuracy against the first arm, in points, with the p-value of the paired test;
    "trained" counts parameters.
    """
    seeds = group["seeds"]
    suffix = f", seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f", seed {seeds[0]}"
    title = f"{group['title']}{suffix}{_asked(group['arms'])}"
    # Narrow, so that eight columns fit a terminal of 80.
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False,
        show_edge=False, collapse_padding=True,
    )  # fmt: skip
    table.add_column("system")
    for name in ("greedy", "sampled", "change, p", "trained", "calls", "tokens", "time"):
        table.add_column(name, justify="right")
    for entry in group["arms"]:
        table.add_row(
            entry["title"],
            spread(entry, "greedy"),
            spread(entry, "sampled"),
            _change(entry),
            *(count(entry[key]) for key in ("trainable_parameters", "calls", "tokens")),
            duration(entry["seconds"] or None),
        )
    return table


def _asked(arms: Sequence[Document]) -> str:
    """Return how many test questions the accuracies are of; nothing where arms differ."""
    asked = {figure["examples"] for arm in arms for run in arm["runs"] for figure in run["accuracy"].values()}
    return f", {asked.pop():,} test questions" if len(asked) == 1 else ""


def _change(entry: Document) -> str:
    found = entry["against"].get("sampled")
    return "-" if found is None else f"{change(found['gain'])}, {chance(found['p_value'])}"


def spread(entry: Document, mode: str) -> str:
    """Return an arm's accuracy: one figure, or the mean and the lowest and highest seed."""
    values = [run["accuracy"][mode]["value"] for run in entry["runs"] if mode in run["accuracy"]]
    if not values:
        return "-"
    mean = percent(sum(values) / len(values))
    return mean if len(values) == 1 else f"{mean} ({100 * min(values):.1f} to {100 * max(values):.1f})"
