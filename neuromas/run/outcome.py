"""RunResult: a run that went to its end, for programs, terminals and notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuromas.journal.folder import REPORT_FILE
from neuromas.report.data import RunData
from neuromas.report.graph import draw_trained
from neuromas.report.markup import Markup, element
from neuromas.report.numbers import clock, share
from neuromas.report.verdict import gain, verdict

_ACCURACIES: Final = {
    "greedy": "accuracy, greedy",
    "sampled": "accuracy, sampled",
    "untrained": "untrained, greedy",
    "untrained_sampled": "untrained, sampled",
}


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its folder, and the document in ``result.json``. Its text is what ``neuromas train`` prints."""

    folder: Path
    document: dict[str, Any]

    @property
    def accuracy(self) -> dict[str, float]:
        """Mean reward on test questions: ``greedy``, ``sampled``, ``untrained`` and ``untrained_sampled``, 0 to 1."""
        return {mode: float(figure["value"]) for mode, figure in self.document["accuracy"].items()}

    def __str__(self) -> str:
        document = self.document
        follow = f"neuromas serve {self.folder}" if gain(document) == 1 else f"neuromas analyze {self.folder}"
        size = len(document["topology"]["nodes"])
        lines = [verdict(document), "", f"{document['name']}: {size} node{'s' * (size > 1)}, {document['steps']} steps"]
        figures = {**dict(self._figures()), "report": str(self.folder / REPORT_FILE), "next": follow}
        return "\n".join([*lines, *(f"  {name:<22}{value}" for name, value in figures.items())])

    def _repr_html_(self) -> str:
        """Return the verdict, the trained graph and the figures."""
        rows = [element("tr", element("th", name), element("td", value)) for name, value in self._figures()]
        drawing = Markup(draw_trained(RunData.read(self.folder)))
        return element("div", element("p", verdict(self.document)), drawing, element("table", rows))

    def _figures(self) -> list[tuple[str, str]]:
        document, spending, seconds = self.document, self.document["spending"], self.document["seconds"]
        named = {"start": "start_up", "training": "train", "evaluation": "evaluation"}
        parts = ", ".join(f"{clock(seconds[key])} {name}" for name, key in named.items())
        return [
            *((label, share(document["accuracy"][key])) for key, label in _ACCURACIES.items()),
            ("rollouts, calls", f"{spending['rollouts']:,}, {spending['calls']:,}"),
            ("tokens", f"{spending['tokens']:,}"),
            ("trainable parameters", f"{document['trainable_parameters']:,}"),
            ("time", f"{clock(seconds['total'])} ({parts})"),
        ]
