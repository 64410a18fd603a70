"""The one place that writes to the terminal: results on stdout, everything about them on stderr."""

from __future__ import annotations

import codecs
import io
import json
import re
import sys
import textwrap
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console as RichConsole

from neuromas.errors import NeuroMASError, SpecError

_PAIRS: Final = '─- ━- │| ┃| ▶> ◀< ·- …. –- −- →> ×x “" ”" ’\' ╸- ╺- ╴- ╶-'
_ASCII: Final = {pair[0]: pair[1] for pair in _PAIRS.split()}
"""Stand-ins of the same width; what is left of the box-drawing characters joins lines: +."""
_ERRORS: Final = "neuromas-ascii"
_LABEL: Final = re.compile(r" *[^ ]+(?: [^ ]+)* {2,}(?=[^ ])")
"""What stands before the second column of a line: a label and at least two spaces."""


class Console:
    """Output of one command.

    Attributes:
        as_json: whether stdout carries one JSON document instead of text for people.
        verbose: whether details are wanted.
        stderr: for progress and messages; shows plain lines where it is no terminal.

    On a terminal lines are broken between words; in a file or a pipe they stay whole.
    """

    def __init__(self, *, as_json: bool = False, verbose: bool = False) -> None:
        for stream in (sys.stdout, sys.stderr):
            write_what_is_possible(stream)
        self.as_json = as_json
        self.verbose = verbose
        self.stderr = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        self._stdout = RichConsole(highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Tell people something; not part of the result."""
        self.stderr.print(fitted(text, self.stderr), markup=False)

    def warn(self, text: str) -> None:
        """Tell people something they should act on."""
        self.stderr.print(fitted(f"warning: {text}", self.stderr), style="yellow", markup=False)

    def confirms(self, question: str) -> bool:
        """Ask whether to go on; only a line that begins with y says so, an input that has ended does not."""
        self.stderr.print(fitted(f"{question} [y/N] ", self.stderr), end="", markup=False)
        return sys.stdin.readline().strip().lower().startswith("y")

    def show(self, text: str, document: Mapping[str, Any]) -> None:
        """Write the result: ``text`` for people, ``document`` with --json."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=not _writes_unicode(), default=str) + "\n")
            sys.stdout.flush()
        else:
            self._stdout.print(fitted(text, self._stdout), markup=False)

    def fail(self, code: str, message: str, faults: tuple[Mapping[str, str], ...] = ()) -> None:
        """Write an error: to stderr, and with --json as the document on stdout too."""
        self.stderr.print(fitted(f"error: {message}", self.stderr), style="red", markup=False)
        if self.as_json:
            self.show("", {"error": {"code": code, "message": message, "faults": list(faults)}})

    def fail_with(self, error: NeuroMASError) -> None:
        """Write one of our own errors, with all its faults."""
        faults: tuple[Mapping[str, str], ...] = ()
        if isinstance(error, SpecError):
            faults = tuple({"path": fault.path, "message": fault.message} for fault in error.faults)
        self.fail(error.code, str(error), faults)


def wrapped(text: str, width: int) -> str:
    """Return a text whose lines have at most ``width`` characters, broken between words; a longer word stays whole.

    What goes on stands below its second column where a line has one, as ``name    meaning`` does, else two further in.
    """
    return "\n".join(_wrapped_line(line, width) if len(line) > width else line for line in text.split("\n"))


def _wrapped_line(line: str, width: int) -> str:
    label = _LABEL.match(line)
    indent = len(line) - len(line.lstrip(" ")) + 2
    if label is not None and label.end() <= width // 2:
        indent = label.end()
    wrapper = textwrap.TextWrapper(
        width, subsequent_indent=" " * indent, expand_tabs=False, replace_whitespace=False, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    return wrapper.fill(line)


def fitted(text: str, console: RichConsole) -> str:
    """Return a text as ``wrapped`` for a terminal, unchanged for a pipe."""
    return wrapped(text, console.width) if console.is_terminal else text


def write_what_is_possible(stream: object) -> None:
    """Have a stream write stand-ins for the characters that its encoding lacks, rather than fail."""
    codecs.register_error(_ERRORS, _stand_in)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_ERRORS)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_ASCII.get(char, "+" if "─" <= char <= "╿" else "?") for char in lost), error.end


def _writes_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16")
