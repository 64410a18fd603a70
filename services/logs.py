"""Log lines of the service: one JSON object each, or text for people, with the request and the run they belong to."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that is being answered; empty outside of one."""
run_id: ContextVar[str] = ContextVar("run_id", default="")
"""Id of the run that is being worked on; empty outside of one."""

_STANDARD: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime"}
_QUIET: Final = ("httpx", "httpcore", "uvicorn.access", "asyncio")


@contextmanager
def about_run(id: str) -> Iterator[None]:
    """Mark the log lines of a block as belonging to a run."""
    token = run_id.set(id)
    try:
        yield
    finally:
        run_id.reset(token)


def set_up_logging(level: str, style: Literal["json", "text"]) -> None:
    """Send the process's log lines to stderr. Called by entry points only.

    Args:
        level: least severity, e.g. "INFO".
        style: one JSON object per line, or text.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:  # they name addresses and whole URLs; our own lines say what is needed
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, severity, logger, message, ids, and the ``extra`` fields of the call."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= fields_of(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """A line for people: severity, logger, message, and fields as ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the traceback below it."""
        # As JSON: a value that a client sent cannot end the line.
        fields = "".join(f" {key}={json.dumps(value, default=str)}" for key, value in fields_of(record).items())
        line = f"{record.levelname} {record.name}: {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields of a record beside its text: the ids of its context, and the call's ``extra``."""
    ids = {"request_id": request_id.get(), "run_id": run_id.get()}
    own = {key: value for key, value in vars(record).items() if key not in _STANDARD and key != "color_message"}
    return {key: value for key, value in ids.items() if value} | own
