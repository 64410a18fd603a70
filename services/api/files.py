"""Files of examples that people bring along: checked line by line, and kept in the data folder under their content."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from neuromas.errors import Fault
from neuromas.journal import lines as journal
from neuromas.services.api.problems import ApiError, invalid
from neuromas.services.api.schemas.file import FileRequest
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document

MAX_TOTAL_BYTES: Final = 2**30
"""All files together."""
_ID_LENGTH: Final = 24


def keep_file(wish: FileRequest, settings: Settings) -> Document:
    """Write a file and return what is known of it; the same content under the same name is one file.

    Raises:
        ApiError: a line is no JSON object, or the files together take too much room.
    """
    content = wish.content.encode()
    examples = _count(wish.content)
    folder = settings.uploads_dir / hashlib.sha256(content).hexdigest()[:_ID_LENGTH]
    path = folder / wish.name
    if not path.exists():
        taken = sum(file.stat().st_size for file in settings.uploads_dir.rglob("*") if file.is_file())
        if taken + len(content) > MAX_TOTAL_BYTES:
            message = f"the files take {taken} bytes; allowed are {MAX_TOTAL_BYTES} ({settings.uploads_dir})"
            raise ApiError(413, "too_much_kept", message, param="content")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        journal.write_whole(path, content)
        path.chmod(0o600)
    return {"object": "file", "name": wish.name, "path": str(path), "examples": examples, "bytes": len(content)}


def _count(content: str) -> int:
    """Return the lines that hold something; each must be a JSON object."""
    found = 0
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            is_object = isinstance(json.loads(line), dict)
        except (ValueError, RecursionError):
            is_object = False
        if not is_object:
            message = f"line {number}: got {line[:60]!r}; expected one JSON object a line"
            raise invalid("the file is not valid", [Fault("content", message)])
        found += 1
    return found
