"""What a training run looks like on a terminal: a live line and a line per stage, or plain lines in a log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from neuromas.display.console import Console
from neuromas.display.status import StatusLine
from neuromas.journal.events import (
    CheckpointWritten,
    Evaluated,
    Event,
    Notice,
    Observer,
    Phase,
    RunStarted,
    StageEnded,
    StageStarted,
    StepDone,
)
from neuromas.report.numbers import clock, percent

_WINDOW = 10
_PLAIN_EVERY_S = 10.0


class TrainingDisplay:
    """Observer that shows a run. Use it as a context manager.

    Attributes:
        status: the line at the bottom.
        run: name of the run that has begun; "" before.
    """

    def __init__(self, console: Console, *, show_nodes: bool = False) -> None:
        """Set up the display.

        Args:
            console: where to write.
            show_nodes: add a line per node to every step that is printed.
        """
        self._console = console
        self._show_nodes = show_nodes
        self.status = StatusLine(console)
        self.run = ""
        self._rewards: deque[float] = deque(maxlen=_WINDOW)
        self._durations: deque[float] = deque(maxlen=_WINDOW)
        self._steps = 0
        self._title = ""
        self._nodes: tuple[str, ...] = ()
        self._printed_s = 0.0

    def __enter__(self) -> Self:
        self.status.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.status.__exit__(kind, error, trace)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Phase():
                self.status(event)
            case StageStarted():
                self._start_stage(event)
            case StepDone():
                self._show_step(event)
            case StageEnded():
                self._say(f"{event.name} ended after {event.steps} steps ({event.reason})")
            case Evaluated(purpose="evaluation"):
                level = "" if event.level is None else f" on level {event.level}"
                self._say(f"  validation accuracy, {event.mode}{level}: {percent(event.correct / event.examples)}")
            case Notice(severity="warning"):
                self._console.warn(event.message)
            case Notice():
                self._say(event.message)
            case RunStarted():
                self._begin(event)
            case CheckpointWritten() if self._console.verbose:
                self._say(f"  checkpoint {event.path}")
            case _:
                pass

    def _begin(self, event: RunStarted) -> None:
        self.run = event.name
        if event.resumed:
            self._say(f"resuming run {event.name}")

    def _start_stage(self, event: StageStarted) -> None:
        self._rewards.clear()
        self._durations.clear()
        nodes = event.topology["nodes"]
        self._nodes = tuple(node["id"] for node in nodes)
        self._steps = event.steps
        level = "" if event.level is None else f", level {event.level}"
        count = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
        self._title = f"{event.name}: {count}{level}"
        self._say(f"{self._title}, {event.trainable_parameters:,} trainable parameters")
        self.status.steps(self._title, event.first_step, event.steps, ["first step: the engine warms up"])

    def _show_step(self, event: StepDone) -> None:
        metrics = event.metrics
        self._rewards.append(metrics.get("rollout/reward_mean", 0.0))
        self._durations.append(metrics.get("time/step_s", 0.0))
        figures = self._figures(event.step, metrics)
        self.status.steps(self._title, event.step, self._steps, figures)
        if not self.status.is_live and self._is_due(event.step):
            self._say(" · ".join([self._title, f"step {event.step}/{self._steps}", *filter(None, figures)]))
        if self._show_nodes:
            self._show_node_lines(metrics)

    def _is_due(self, step: int) -> bool:
        """Whether a log gets a line: the first and last step, and one every few seconds."""
        now = time.time()
        is_due = self._show_nodes or step in (1, self._steps) or now - self._printed_s >= _PLAIN_EVERY_S
        if is_due:
            self._printed_s = now
        return is_due

    def _figures(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        duration = sum(self._durations) / len(self._durations)
        tokens = metrics.get("rollout/tokens", 0.0) + metrics.get("rollout/prompt_tokens", 0.0)
        return [
            f"reward {self._rewards[-1]:.3f}",
            f"{clock((self._steps - step) * duration)} left",
            f"mean of {len(self._rewards)}: {sum(self._rewards) / len(self._rewards):.3f}",
            f"{duration:.2f} s/step",
            f"{tokens / duration:,.0f} tokens/s" if duration else "",
        ]

    def _show_node_lines(self, metrics: Mapping[str, float]) -> None:
        for node in self._nodes:
            figures = [
                f"{label} {metrics[key]:.4g}"
                for label, key in (
                    ("entropy", f"train/entropy/{node}"),
                    ("length", f"rollout/length_mean/{node}"),
                    ("grad", f"train/grad_norm/{node}"),
                    ("clipped", f"train/clip_fraction/{node}"),
                )
                if key in metrics
            ]
            self._say(f"    {node:<12}" + " · ".join(figures))

    def _say(self, text: str) -> None:
        self.status.end_phase()
        self.status.say(text)


@contextmanager
def shown(on_event: Observer | None) -> Iterator[Observer]:
    """Give the observer; None is a display on stderr."""
    if on_event is not None:
        yield on_event
        return
    with TrainingDisplay(Console()) as display:
        yield display
