"""The records of a comparison and the table that they make."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import Cell, ratio
from benchmarks.peers.contest import OURS
from benchmarks.peers.figures import Figures


@dataclass(frozen=True, slots=True)
class Record:
    """One peer, once.

    Attributes:
        round: in which turn, from 0.
        nodes: of the chain.
        peer: the name in the table.
        figures: of its steps; None = it failed.
        error: why, in a line.
        steps: how many were measured.
        machine: what it ran on, when it ended.
    """

    round: int
    nodes: int
    peer: str
    figures: Figures | None
    error: str = ""
    steps: int = 0
    machine: Mapping[str, Cell] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        """Write it as JSON."""
        file.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Record:
        """Return what ``write`` wrote."""
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        figures = found.pop("figures")
        return cls(figures=None if figures is None else Figures(**figures), **found)


def caption(records: Sequence[Record]) -> str:
    """Return on what they were measured, and how often."""
    measured = [record for record in records if record.figures]
    if not measured:
        return "Nothing measured."
    rounds = len({record.round for record in measured})
    steps = sorted({record.steps for record in measured})
    loads = [float(record.machine["load_1min"]) for record in measured]
    parts = [
        f"{name} {value}" for name, value in measured[-1].machine.items() if name not in ("processor", "load_1min")
    ]
    return (
        f"{rounds} {'round' if rounds == 1 else 'rounds'} of {' or '.join(map(str, steps))} steps, "
        f"{measured[-1].machine['processor']}, load {min(loads):.0f} to {max(loads):.0f}; {', '.join(parts)}."
    )


def markdown(records: Sequence[Record], wall: bool) -> str:
    """Return the table, a line per number of nodes and peer: medians of the rounds; of ratios quartiles, too.

    A ratio is that of two figures of one round, a peer's over our own.

    Args:
        records: of any number of rounds, in the order of the lines.
        wall: show wall seconds too, which mean something on a machine without other work only.
    """
    head = ["nodes", "who", "CPU s a step", "over NeuroMAS", *(["wall s", "over NeuroMAS"] if wall else [])]
    head += ["peak memory, MB", "tokens read, generated"]
    lines = [head, ["---"] * len(head), *_rows(records, wall)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows(records: Sequence[Record], wall: bool) -> Iterator[list[str]]:
    for nodes in dict.fromkeys(record.nodes for record in records):
        here = [record for record in records if record.nodes == nodes]
        ours = {record.round: record.figures for record in here if record.peer == OURS and record.figures}
        for peer in dict.fromkeys(record.peer for record in here):
            theirs = [record for record in here if record.peer == peer]
            if errors := [record.error for record in theirs if record.figures is None]:
                yield [str(nodes), peer, f"failed: {errors[0]}", *[""] * (5 if wall else 3)]
                continue
            figures = [record.figures for record in theirs if record.figures]
            pairs = [
                (record.figures, ours[record.round]) for record in theirs if record.figures and record.round in ours
            ]
            yield [
                str(nodes),
                peer,
                f"{median(found.cpu_s for found in figures):.2f}",
                _ratio([a.cpu_s for a, _ in pairs], [b.cpu_s for _, b in pairs]),
                *(
                    [
                        f"{median(found.wall_s for found in figures):.2f}",
                        _ratio([a.wall_s for a, _ in pairs], [b.wall_s for _, b in pairs]),
                    ]
                    if wall
                    else []
                ),
                f"{median(found.peak_mb for found in figures):,.0f}",
                ", ".join(
                    f"{median(values):,.0f}" for values in zip(*((f.read, f.generated) for f in figures), strict=True)
                ),
            ]


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
    if not theirs:
        return ""
    middle, low, high = ratio(theirs, ours)
    if len(theirs) == 1:
        return f"{middle:.2f}"
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"
