"""What a run has spent: optimizer steps, rollouts, node calls and tokens, per arm and stage. Pure counting.

An *arm* is one line of training whose cost is compared with others: the grown graph, its parent in a trial, a control
trained from scratch. Everything an arm samples for training counts, trials that were rolled back included; held-out
checks are counted apart, since they teach nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True)
class Spending:
    """Totals of some training.

    Attributes:
        steps: optimizer steps.
        rollouts: passes of a graph on an example.
        calls: completions of single Nodes.
        prompt_tokens: tokens that Nodes read.
        generated_tokens: tokens that Nodes wrote, end-of-sequence tokens included.
        check_calls: calls of held-out checks, not contained in ``calls``.
    """

    steps: int = 0
    rollouts: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    check_calls: int = 0

    def __add__(self, other: Spending) -> Spending:
        return Spending(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.generated_tokens


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """Spending of one stage of one arm; ``nodes`` is the size of the graph it trained."""

    arm: str
    stage: str
    nodes: int
    spending: Spending


@dataclass(frozen=True, slots=True)
class Ledger:
    """All entries of a run, in order. Immutable: ``add`` returns a new one."""

    entries: tuple[LedgerEntry, ...] = ()

    def add(self, arm: str, stage: str, nodes: int, spending: Spending) -> Ledger:
        """Return the ledger with one more entry."""
        return Ledger((*self.entries, LedgerEntry(arm, stage, nodes, spending)))

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms in order of their first entry."""
        return tuple(dict.fromkeys(entry.arm for entry in self.entries))

    def total(self, arm: str | None = None) -> Spending:
        """Return what one arm has spent; None = all arms together."""
        return _sum(entry.spending for entry in self.entries if arm in (None, entry.arm))

    def to_document(self) -> list[dict[str, object]]:
        """Return the entries as plain data for JSON."""
        return [
            {"arm": entry.arm, "stage": entry.stage, "nodes": entry.nodes, **asdict(entry.spending)}
            for entry in self.entries
        ]


def _sum(spendings: Iterable[Spending]) -> Spending:
    return sum(spendings, Spending())
