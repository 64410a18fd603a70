"""compare(): a spec beside its baselines, on the same base and the same questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console as RichConsole

from neuromas.base.suited import suit_spec
from neuromas.display.runs import RunsDisplay
from neuromas.journal.folder import REPORT_FILE
from neuromas.report.markup import element
from neuromas.spec.run import RunSpec
from neuromas.studies import compare as study
from neuromas.studies.side_by_side import RunsObserver
from neuromas.studies.table import comparison_text


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finished comparison: its folder, and the document in ``comparison.json``. Its text is the table."""

    folder: Path
    document: dict[str, Any]

    def __str__(self) -> str:
        return f"{comparison_text(self.document)}\n{self.folder / REPORT_FILE}"

    def _repr_html_(self) -> str:
        """Return the table as a notebook shows it."""
        return element("pre", str(self))


def compare(
    spec: RunSpec,
    arms: Sequence[str] = (),
    out: Path | str = "comparison",
    *,
    seeds: Sequence[int] = (),
    jobs: int = 1,
    on_event: RunsObserver | None = None,
) -> Comparison:
    """Train a spec and its baselines, each in a process of its own; finished runs in ``out`` are used as they are.

    Args:
        spec: what is compared.
        arms: names of arms (``neuromas compare --help`` lists them); empty = those that fit the spec.
        out: folder of the comparison and its runs.
        seeds: one run of each arm per seed; empty = the spec's own.
        jobs: runs at a time. More than one run on the "local" runtime, one core each.
        on_event: told the events of all runs with the run's name; None = a display on stderr.

    Raises:
        SpecError: an arm is unknown or cannot be made from the spec.
        SideBySideError: a run failed.
    """
    spec, out = suit_spec(spec).spec, Path(out)
    group = study.make_group(spec, arms, seeds)
    with _shown(on_event, group) as tell:
        return Comparison(out, study.compare(group, out, tell, jobs=jobs))


@contextmanager
def _shown(on_event: RunsObserver | None, group: study.ArmGroup) -> Iterator[RunsObserver]:
    if on_event is not None:
        yield on_event
        return
    with RunsDisplay(RichConsole(stderr=True, highlight=False, soft_wrap=True), study.run_titles([group])) as display:
        yield display
