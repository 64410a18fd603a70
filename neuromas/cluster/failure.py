"""What errors of remote calls say once Ray's wrapping is taken off."""

from __future__ import annotations

from typing import Any


def cause_of(error: Any) -> Exception:
    """Return the exception that the actor's own code raised; ``error`` is a RayTaskError."""
    cause = error.cause
    return cause if isinstance(cause, Exception) else error


def first_line(error: Exception) -> str:
    """Return the first line of an error's text; Ray's texts go on with tracebacks and pages of advice."""
    return str(error).strip().partition("\n")[0]
