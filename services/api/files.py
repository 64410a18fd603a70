"""Files of examples that people bring along: checked line by line, and kept in the data folder.

Each lies in a folder of whose it is, under its content: what others bring along, be it the same, is another file.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from neuromas.errors import Fault, writing
from neuromas.journal import lines as journal
from neuromas.services.api.auth import Caller
from neuromas.services.api.problems import invalid
from neuromas.services.api.schemas.file import FileRequest
from neuromas.services.api.uploads import check_room, own_folder
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document

_ID_LENGTH: Final = 24


def keep_file(wish: FileRequest, caller: Caller, settings: Settings) -> Document:
    """Write a file and return what is known of it; the same content under the same name is one file of the caller's.

    To be called in a block of ``changing``.

    Raises:
        ApiError: a line is no JSON object (422), or the caller's files would take more than ``max_upload_bytes`` (413).
        StorageError: the disk has no space for it.
    """
    content = wish.content.encode()
    examples = _count(wish.content)
    folder = own_folder(caller, settings) / hashlib.sha256(content).hexdigest()[:_ID_LENGTH]
    path = folder / wish.name
    if not path.exists():
        check_room(caller, settings, len(content), "content")
        with writing(path):
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
