"""The processor seconds and the memory of a program with all processes that it starts, by what Linux tells in /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MARK = "NEUROMAS_PEER"
"""Variable by which processes are known as one program's: they inherit it, also where they leave their parent."""
_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessTree:
    """All living processes whose environment bore a mark when they were first seen.

    Attributes:
        peak_bytes: the most memory that ``look`` has seen them hold, a page that n processes share counted 1/n each.
    """

    def __init__(self, mark: str) -> None:
        self._entry = f"{MARK}={mark}".encode()
        self._members: dict[tuple[str, str], bool] = {}
        self.peak_bytes = 0

    def cpu_s(self) -> float:
        """Return the processor seconds of all members, and of those that have ended and were waited for."""
        return sum(cpu_s_of(stat) for _, stat in self._living())

    def look(self) -> None:
        """Note the memory that they hold."""
        held = 0
        for folder, _ in self._living():
            try:
                held += held_bytes_of((folder / "smaps_rollup").read_text())
            except OSError:  # it has just ended
                continue
        self.peak_bytes = max(self.peak_bytes, held)

    def _living(self) -> Iterator[tuple[Path, str]]:
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                try:
                    stat = (folder / "stat").read_text()
                    if self._is_member(folder, stat):
                        yield folder, stat
                except OSError:  # it has just ended, or is another user's
                    continue

    def _is_member(self, folder: Path, stat: str) -> bool:
        # The number may be given to another process later, which begins at another time. Asked once, since some
        # processes write a title over their environment.
        key = (folder.name, stat.rpartition(")")[2].split()[19])
        if key not in self._members:
            self._members[key] = self._entry in (folder / "environ").read_bytes().split(b"\0")
        return self._members[key]


def cpu_s_of(stat: str) -> float:
    """Return user and system seconds by a /proc/PID/stat, those of children that were waited for included."""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return sum(int(field) for field in fields[11:15]) / _TICKS


def cpu_s(pid: int) -> float:
    """Return the processor seconds that a process has taken; see ``cpu_s_of``."""
    return cpu_s_of((Path("/proc") / str(pid) / "stat").read_text())


def held_bytes_of(rollup: str) -> int:
    """Return the proportional set size by a /proc/PID/smaps_rollup: a page that n processes share counts 1/n.

    Raises:
        ProcessLookupError: it is empty, as that of a process which is ending.
    """
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    raise ProcessLookupError
