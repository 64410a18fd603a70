"""What several runs look like on a terminal: a line each, live; or plain lines in a log."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from neuromas.display.console import fitted
from neuromas.journal.events import Evaluated, Event, Notice, Phase, RunEnded, RunStarted, StageStarted, StepDone
from neuromas.report.numbers import clock, percent

_SMOOTHING = 0.8
_PLAIN_EVERY_S = 10.0
_WIDE = 120


@dataclass(slots=True)
class _Line:
    """What is known of one run."""

    title: str
    total: int
    is_started: bool = False
    phase: str = ""
    steps_before: int = 0
    step: int = 0
    reward: float | None = None
    step_s: float = 0.0
    nodes: int = 0
    level: int | None = None
    greedy: float | None = None
    sampled: float | None = None
    is_done: bool = False
    printed_s: float = 0.0

    @property
    def steps(self) -> int:
        """Optimizer steps done, of all stages."""
        return self.steps_before + self.step

    @property
    def graph(self) -> str:
        """Size and level of the graph in training."""
        if not self.nodes:
            return self.phase or ("starting" if self.is_started else "waiting")
        level = "" if self.level is None else f", level {self.level}"
        return f"{self.nodes} node{'s' * (self.nodes != 1)}{level}"

    @property
    def state(self) -> str:
        """What is to come, or what came out."""
        if self.is_done and self.greedy is not None:
            sampled = "" if self.sampled is None else f", sampled {percent(self.sampled)}"
            return f"greedy {percent(self.greedy)}{sampled}"
        if not self.step_s or self.is_done:
            return ""
        return f"{clock(max(self.total - self.steps, 0) * self.step_s)} left"


class RunsDisplay:
    """Observer of several runs. Use it as a context manager."""

    def __init__(self, console: Console, runs: dict[str, tuple[str, int]]) -> None:
        """Set up the display.

        Args:
            console: where to write.
            runs: name of each run -> title, and the number of its optimizer steps.
        """
        self._console = console
        self._lines = {name: _Line(title, steps) for name, (title, steps) in runs.items()}
        self._began_s = time.monotonic()
        self._live = Live(self._draw(), console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.update(self._draw())
            self._live.stop()

    def __call__(self, job: str, event: Event) -> None:
        """Show one event of one run."""
        line = self._lines[job]
        self._update(line, event)
        if self._live is not None:
            self._live.update(self._draw())
        elif isinstance(event, RunStarted | RunEnded) or self._is_due(line, event):
            self._print(line)

    def _update(self, line: _Line, event: Event) -> None:
        match event:
            case Phase():
                line.phase = event.name.partition(" (")[0]
            case RunStarted():
                line.is_started = True
            case StageStarted():
                line.steps_before, line.step = line.steps, event.first_step
                line.nodes, line.level = len(event.topology["nodes"]), event.level
                line.reward = None
            case StepDone():
                self._update_step(line, event)
            case Evaluated(purpose="evaluation", mode="greedy"):
                line.greedy = event.correct / event.examples
            case Evaluated(purpose="evaluation", mode="sampled"):
                line.sampled = event.correct / event.examples
            case Notice(severity="warning"):
                told = fitted(f"{line.title}: {event.message}", self._console)
                self._console.print(told, style="yellow", markup=False)
            case RunEnded():
                line.is_done = True

    def _update_step(self, line: _Line, event: StepDone) -> None:
        metrics = event.metrics
        reward = metrics.get("rollout/reward_mean", 0.0)
        line.step = event.step
        line.reward = reward if line.reward is None else _SMOOTHING * line.reward + (1 - _SMOOTHING) * reward
        seconds = metrics.get("time/step_s", 0.0)
        line.step_s = seconds if not line.step_s else _SMOOTHING * line.step_s + (1 - _SMOOTHING) * seconds

    def _draw(self) -> Table:
        table = Table.grid(padding=(0, 2))
        is_narrow = self._console.width < _WIDE
        for line in self._lines.values():
            bar = ProgressBar(total=max(line.total, 1), completed=line.total if line.is_done else line.steps, width=20)
            mean = "" if line.reward is None else f"reward {line.reward:.2f}"
            cells = (f"{line.steps}/{line.total}", (mean or line.graph) if is_narrow else mean, line.state)
            table.add_row(line.title, *(cells if is_narrow else (line.graph, bar, *cells)))
        table.add_row(clock(time.monotonic() - self._began_s), style="dim")
        return table

    def _is_due(self, line: _Line, event: Event) -> bool:
        return isinstance(event, StepDone) and time.monotonic() - line.printed_s >= _PLAIN_EVERY_S

    def _print(self, line: _Line) -> None:
        line.printed_s = time.monotonic()
        mean = "" if line.reward is None else f", reward {line.reward:.2f}"
        state = f", {line.state}" if line.state else ""
        text = f"{line.title}: {line.graph}, step {line.steps}/{line.total}{mean}{state}"
        self._console.print(f"[{line.printed_s - self._began_s:4.0f} s] {text}", markup=False, highlight=False)
