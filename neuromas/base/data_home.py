"""Where bases and what is known about them lie outside any project. Source: the XDG base directory specification."""

from __future__ import annotations

import os
from pathlib import Path

_NAME = "neuromas"


def bases_home() -> Path:
    """Return the folder of imported bases, in the user's data folder; it may not exist yet."""
    return _home("XDG_DATA_HOME", ".local/share") / _NAME / "bases"


def cache_home() -> Path:
    """Return the folder of what can be made again, in the user's cache folder; it may not exist yet."""
    return _home("XDG_CACHE_HOME", ".cache") / _NAME


def can_write(folder: Path) -> bool:
    """Return whether this user can write into a folder, which is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False  # in a home that is not there, or is another user's
    return os.access(folder, os.W_OK)


def _home(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    # The specification ignores relative paths.
    return Path(value) if Path(value).is_absolute() else Path.home() / default
