"""Uploads: where the files lie that an owner brings along, and how many bytes they may take together."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from neuromas.services.api.auth import Caller
from neuromas.services.api.problems import ApiError
from neuromas.services.api.quota import alone
from neuromas.services.api.service import Service
from neuromas.services.records.key import Scope
from neuromas.services.settings import Settings


def own_folder(caller: Caller, settings: Settings) -> Path:
    """Return the folder of the files that are the caller's: those of its project, or of the one key."""
    return settings.uploads_of(caller.id, caller.project)


def usable_folder(caller: Caller, settings: Settings) -> Path:
    """Return the folder whose files the caller may name in specs: an admin all, others their own."""
    return settings.uploads_dir if Scope.ADMIN in caller.scopes else own_folder(caller, settings)


@asynccontextmanager
async def changing(caller: Caller, service: Service) -> AsyncIterator[None]:
    """Change the caller's files inside the block; meanwhile no other request does.

    Raises:
        ApiError: others do for too long (429).
    """
    own = own_folder(caller, service.settings)
    async with alone(service.store, f"upload/{own.parent.name}/{own.name}"):
        yield


def check_room(caller: Caller, settings: Settings, size: int, param: str) -> None:
    """Refuse a file that the caller has no room for; to be called in a block of ``changing``.

    Args:
        caller: whose it would be.
        settings: say how much room there is.
        size: of the file, bytes.
        param: what stands for it in the request.

    Raises:
        ApiError: the caller's files would take more than ``max_upload_bytes`` (413).
    """
    taken, allowed = sum(map(_size, own_folder(caller, settings).rglob("*"))), settings.max_upload_bytes
    if taken + size > allowed:
        whose = "this key" if caller.project is None else f"the project {caller.project}"
        message = (
            f"the files of {whose} take {taken} bytes and this one {size}; allowed are {allowed} together "
            "(max_upload_bytes in the settings)"
        )
        raise ApiError(413, "too_much_kept", message, param=param)


def _size(path: Path) -> int:
    """Return the bytes of a file; 0 of a folder, and of a draft that its request has just given up."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
