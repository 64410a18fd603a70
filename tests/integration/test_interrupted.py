"""Ctrl-C on a terminal, and ``kill``, while a command starts or works: a clean end, and nothing is left behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from terminal import DEADLINE_S, terminal
from waiting import until

from neuromas.run.run import RunResult

pytestmark = [pytest.mark.timeout(900), pytest.mark.ray]
INTERRUPTED = 130


class SilentIndex(ThreadingHTTPServer):
    """A package index that takes questions and answers none while it is open."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Silence)
        self.asked, self.closed = Event(), Event()
        self.url = f"http://127.0.0.1:{self.server_port}/simple"


class _Silence(BaseHTTPRequestHandler):
    server: SilentIndex

    def do_GET(self) -> None:
        self.server.asked.set()
        self.server.closed.wait()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def silent_index() -> Iterator[SilentIndex]:
    with SilentIndex() as index:
        Thread(target=index.serve_forever).start()
        yield index
        index.closed.set()
        index.shutdown()


@pytest.mark.parametrize(
    ("command", "options", "said", "how"),
    [
        ("eval", ("--examples", "4096", "--runtime", "local"), "measuring", "ctrl-c"),
        ("eval", ("--examples", "4096", "--runtime", "local"), "measuring", "kill"),
        ("eval", ("--runtime", "ray"), "starting Ray", "kill"),
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
        until(lambda: not shown.left(), shown.left)


@pytest.mark.parametrize("how", ["ctrl-c", "kill"])
def test_a_download_that_is_interrupted_leaves_nothing(how: str, silent_index: SilentIndex, tmp_path: Path) -> None:
    with terminal(
        ["base", "get", "smollm2-135m"], PIP_INDEX_URL=silent_index.url, XDG_DATA_HOME=str(tmp_path)
    ) as shown:
        shown.wait_for("getting smollm2-135m")
        assert silent_index.asked.wait(DEADLINE_S)
        if how == "kill":
            shown.process.send_signal(signal.SIGTERM)
        else:
            shown.press_ctrl_c()
        assert shown.end() == INTERRUPTED, shown.text
        until(lambda: not shown.left(), shown.left)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
