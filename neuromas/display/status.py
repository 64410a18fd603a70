"""The line at the bottom of a terminal that says what goes on; in a log, a line whenever something else begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from neuromas.display.console import Console
from neuromas.journal.events import Event, Phase
from neuromas.report.numbers import clock

_BAR = 24
_MIN_BAR = 6
_ALWAYS = 2
_SPIN = "|/-\\"
_WORTH_A_LINE_S = 1.0


class StatusLine:
    """What goes on: a phase with its seconds, or steps with their figures. Use it as a context manager.

    It is an observer too: it shows the phases of whatever emits events.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self.is_live = console.stderr.is_terminal
        self._live = Live(self, console=console.stderr, refresh_per_second=4, transient=True) if self.is_live else None
        self._began_s = time.monotonic()
        self._phase, self._phase_s = "", 0.0
        self._title, self._done, self._total = "", 0, 0
        self._figures: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_phase()
        self._title = ""
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show the phase that an event begins."""
        if isinstance(event, Phase):
            self.phase(event.name)

    def phase(self, name: str) -> None:
        """Say what is done from now on."""
        if name.partition(" (")[0] != self._phase.partition(" (")[0]:
            self.end_phase()
            self._phase_s = time.monotonic()
        self._phase = name
        if not self.is_live:
            self.say(f"[{clock(time.monotonic() - self._began_s):>5}] {name}")

    def end_phase(self) -> None:
        """Say how long the phase took, where it did."""
        seconds = time.monotonic() - self._phase_s
        if self._phase and self.is_live and seconds >= _WORTH_A_LINE_S:
            self.say(f"  {self._phase.partition(' (')[0]}: {seconds:.1f} s")
        self._phase = ""

    def steps(self, title: str, done: int, total: int, figures: Sequence[str]) -> None:
        """Show steps; of the title and the figures, the most important first, as many are shown as fit."""
        self.end_phase()
        self._title, self._done, self._total, self._figures = title, done, total, tuple(figures)

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self._console.say(text)

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        """Return the line, cut to the width of the terminal."""
        now = time.monotonic()
        spin = _SPIN[int(4 * now) % len(_SPIN)]
        if self._phase:
            time_text = f" {clock(now - self._phase_s)}"
            steps = f" (step {self._done}/{self._total})" if self._title else ""
            name = f"{spin} {self._phase}{steps}"[: options.max_width - len(time_text) - 1]
            yield Text(f"{name}{time_text}", no_wrap=True)
        elif self._title:
            yield Text(step_line(self._title, self._done, self._total, self._figures, options.max_width), no_wrap=True)


def step_line(title: str, done: int, total: int, figures: Sequence[str], width: int) -> str:
    """Return a line of fewer than ``width`` characters: the steps, the first figures, the title, more figures, a bar.

    Args:
        title: what is trained.
        done: steps done.
        total: steps in all.
        figures: the most important first.
        width: of the terminal; what does not fit is left out.
    """
    text = f"step {done}/{total}"
    for figure in figures[:_ALWAYS]:
        text = _joined(text, figure, width)
    if len(text) + len(title) + 3 < width:
        text = f"{title} · {text}"
    for figure in figures[_ALWAYS:]:
        text = _joined(text, figure, width)
    bar = min(_BAR, width - 2 - len(text))
    if bar < _MIN_BAR:
        return text[: width - 1]
    filled = round(bar * done / max(1, total))
    return f"{'━' * filled}{'─' * (bar - filled)} {text}"


def _joined(text: str, figure: str, width: int) -> str:
    return f"{text} · {figure}" if figure and len(text) + len(figure) + 3 < width else text
