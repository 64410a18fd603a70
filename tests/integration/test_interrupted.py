"""Ctrl-C on a terminal, and ``kill``, while a command starts or works: a clean end, and nothing is left behind."""

from __future__ import annotations

import signal

import pytest
from terminal import terminal

from neuromas.run.run import RunResult

pytestmark = [pytest.mark.timeout(900), pytest.mark.ray]
INTERRUPTED = 130


@pytest.mark.parametrize(
    ("command", "options", "said", "how"),
    [
        ("eval", ("--examples", "4096", "--runtime", "local"), "measuring", "ctrl-c"),
        ("eval", ("--examples", "4096", "--runtime", "local"), "measuring", "kill"),
        ("eval", ("--runtime", "ray"), "checking the spec", "kill"),
        ("analyze", ("--examples", "4096"), "time 0 of", "ctrl-c"),
        ("serve", ("--port", "0"), "importing and starting the engine", "ctrl-c"),
    ],
)
def test_a_command_that_is_interrupted_ends_with_130_and_leaves_nothing(
    command: str, options: tuple[str, ...], said: str, how: str, trained_run: RunResult
) -> None:
    with terminal([command, str(trained_run.folder), *options]) as shown:
        shown.wait_for(said)
        if how == "kill":
            shown.process.send_signal(signal.SIGTERM)
        else:
            shown.press_ctrl_c()
        assert shown.end() == INTERRUPTED, shown.text
        assert "interrupted" in shown.text
        assert "Traceback" not in shown.text
        assert "Exception ignored" not in shown.text
        assert shown.left() == []
