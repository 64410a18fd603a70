"""A command on a terminal of its own, as people run it: its keys are pressed, and what it leaves behind is found."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
CTRL_C = b"\x03"
DEADLINE_S = 420.0


class Terminal:
    """``neuromas`` with a pseudo-terminal as its controlling one, and a folder for temporary files."""

    def __init__(self, words: Sequence[str], **variables: str) -> None:
        self._mark = uuid.uuid4().hex
        self.temporary = Path(tempfile.mkdtemp(prefix="nm-"))  # sockets of Ray's lie in it: pytest's own is too long
        environment = os.environ | {"TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        environment |= {"MARK": self._mark, "COLUMNS": "100", "TERM": "xterm", **variables}
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LEAD, sys.executable, "-m", "neuromas", *words],
            env=environment,
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""

    def wait_for(self, words: str) -> None:
        """Return when the command has written these words."""
        end = time.monotonic() + DEADLINE_S
        while words not in self.text:
            assert self._read(1.0), f"it ended before it wrote {words!r}:\n{self.text}"
            assert time.monotonic() < end, f"it never wrote {words!r}:\n{self.text}"

    def press_ctrl_c(self) -> None:
        os.write(self._master, CTRL_C)

    def end(self) -> int:
        """Return the exit code once the command has ended."""
        end = time.monotonic() + DEADLINE_S
        while self._read(1.0):
            assert time.monotonic() < end, f"it does not end:\n{self.text}"
        return self.process.wait(60)

    def left(self) -> list[str]:
        """Return the processes and temporary files that it has left behind."""
        alive = [f"{pid} {line}" for pid, line in self._alive()]
        return alive + sorted(path.name for path in self.temporary.iterdir())

    def close(self) -> None:
        for pid, _ in self._alive():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._master)
        shutil.rmtree(self.temporary)

    def _read(self, seconds: float) -> bool:
        """Read what there is; returns whether more may come."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            part = os.read(self._master, 65536)
        except OSError:  # every process has closed the terminal
            return False
        self.text += part.decode(errors="replace").replace("\r\n", "\n")
        return bool(part)

    def _alive(self) -> Iterator[tuple[int, str]]:
        mark = f"MARK={self._mark}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue


# A session's leader takes the terminal on its standard input as the one that sends it Ctrl-C. It heeds that although
# the tests may run in a shell's background, where it is ignored.
_LEAD = (
    "import fcntl, os, signal, sys, termios; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


@contextmanager
def terminal(words: Sequence[str], **variables: str) -> Iterator[Terminal]:
    """Give a command that runs on a terminal; nothing of it outlives this."""
    running = Terminal(words, **variables)
    try:
        yield running
    finally:
        running.close()
