"""Files of examples that people bring along: checked line by line, and kept in the data folder.

Each lies in a folder of whose it is, under its content: what others bring along, be it the same, is another file.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from neuromas.errors import Fault, writing
from neuromas.journal import lines as journal
from neuromas.services.api.auth import Caller
from neuromas.services.api.problems import ApiError, invalid
from neuromas.services.api.schemas.file import FileRequest
from neuromas.services.records.key import Scope
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document

_ID_LENGTH: Final = 24


def own_folder(caller: Caller, settings: Settings) -> Path:
    """Return the folder of the files that are the caller's: those of its project, or of the one key."""
    kind, name = ("key", caller.id) if caller.project is None else ("project", caller.project)
    return settings.uploads_dir / kind / name


def usable_folder(caller: Caller, settings: Settings) -> Path:
    """Return the folder whose files the caller may name in specs: an admin all, others their own."""
    return settings.uploads_dir if Scope.ADMIN in caller.scopes else own_folder(caller, settings)


def keep_file(wish: FileRequest, caller: Caller, settings: Settings) -> Document:
    """Write a file and return what is known of it; the same content under the same name is one file of the caller's.

    Nothing else may add to the caller's files meanwhile.

    Raises:
        ApiError: a line is no JSON object (422), or the caller's files would take more than ``max_upload_bytes`` (413).
        StorageError: the disk has no space for it.
    """
    content = wish.content.encode()
    examples = _count(wish.content)
    own = own_folder(caller, settings)
    folder = own / hashlib.sha256(content).hexdigest()[:_ID_LENGTH]
    path = folder / wish.name
    if not path.exists():
        taken, allowed = (
            sum(file.stat().st_size for file in own.rglob("*") if file.is_file()),
            settings.max_upload_bytes,
        )
        if taken + len(content) > allowed:
            whose = "this key" if caller.project is None else f"the project {caller.project}"
            message = (
                f"the files of {whose} take {taken} bytes and this one {len(content)}; allowed are {allowed} together "
                "(max_upload_bytes in the settings)"
            )
            raise ApiError(413, "too_much_kept", message, param="content")
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
