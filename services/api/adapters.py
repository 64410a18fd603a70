"""Adapters that people bring along: PEFT folders, file by file, kept in the data folder. No torch in this process.

A file goes to the disk as it comes, as a draft with all of its announced size, so that what comes at the same time
finds the room taken. It is looked at there, and moved into its place whole. Nothing is unpickled.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from safetensors import SafetensorError, safe_open

from neuromas.adapters.export import CONFIG, WEIGHTS
from neuromas.errors import Fault, writing
from neuromas.services.api.auth import Caller
from neuromas.services.api.problems import ApiError, invalid
from neuromas.services.api.service import Service
from neuromas.services.api.uploads import changing, check_room, own_folder
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document
from neuromas.services.store.uses import importing

FILES: Final = (CONFIG, WEIGHTS)
MAX_ADAPTERS: Final = 4096
"""Adapters that one owner keeps."""
MAX_CONFIG_BYTES: Final = 2**20
MAX_HEADER_BYTES: Final = 2**22
"""Bytes in which a file of weights says what its tensors are."""
_DRAFTS: Final = ".drafts"
_PICKLES: Final = (b"PK\x03\x04", b"\x80")
"""How PyTorch's own files begin: an archive of pickles, or a pickle."""


async def receive(request: Request, service: Service, caller: Caller, name: str, file: str) -> Document:
    """Keep one file of an adapter as it comes, in place of an earlier one, and return what is known of the adapter.

    Args:
        request: its body is the file.
        service: has the store, and the settings.
        caller: whose adapter it is.
        name: of the adapter; valid.
        file: name of the file.

    Raises:
        ApiError: it is no file of an adapter, or not what its name says (422), its size is not announced (411), too
            large, or more than the caller has room for (413), or a run needs the adapter as it is (409).
        StorageError: the disk has no space for it.
    """
    size = _announced(request, file)
    settings, own = service.settings, adapters_of(caller, service.settings)
    async with changing(caller, service):
        await check_free(service, caller, name)
        draft = await asyncio.to_thread(_reserve, caller, settings, name, size)
    try:
        async for part in request.stream():
            await asyncio.to_thread(draft.add, part)
        await asyncio.to_thread(draft.check, file)
        async with changing(caller, service):
            await check_free(service, caller, name)
            await asyncio.to_thread(draft.move, own / name / file)
    finally:
        draft.close()
    return await asyncio.to_thread(describe, own / name)


def adapters_of(caller: Caller, settings: Settings) -> Path:
    """Return the folder that holds a folder for each adapter of the caller's."""
    return settings.adapters_of(caller.id, caller.project)


def adapter_names(own: Path) -> list[str]:
    """Return the names of the adapters in an owner's folder, in order."""
    with suppress(FileNotFoundError):
        return sorted(folder.name for folder in own.iterdir() if not folder.name.startswith("."))
    return []


def find_adapter(own: Path, name: str) -> Path:
    """Return the folder of one of an owner's adapters.

    Raises:
        ApiError: there is none (404).
    """
    if name not in adapter_names(own):
        raise ApiError(404, "not_found", f"there is no adapter {name!r} of this key or its project", param="name")
    return own / name


async def check_free(service: Service, caller: Caller, name: str) -> None:
    """Refuse to change what an unfinished run imports; to be called in a block of ``changing``.

    Raises:
        ApiError: one does (409).
    """
    if user := (await importing(service.store, caller.id, caller.project)).get(name):
        raise ApiError(409, "in_use", f"adapter {name} is needed by {user}", param="name")


def describe(folder: Path) -> Document:
    """Return what is known of an adapter; one that is being deleted has nothing."""
    sizes = {}
    for file in FILES:
        with suppress(FileNotFoundError):
            sizes[file] = (folder / file).stat().st_size
    found: Document = {"object": "adapter", "name": folder.name, "bytes": sum(sizes.values())}
    with suppress(FileNotFoundError):
        found["method"] = json.loads((folder / CONFIG).read_bytes())["peft_type"]
    with suppress(FileNotFoundError):
        found["tensors"] = _count_tensors(folder / WEIGHTS)
    return found | {"missing": [file for file in FILES if file not in sizes]}


def remove_adapter(folder: Path) -> None:
    """Remove an adapter with its files."""
    shutil.rmtree(folder, ignore_errors=True)


def _announced(request: Request, file: str) -> int:
    """Return the size that a file is said to have."""
    if file not in FILES:
        message = f"got {file[:80]!r}; allowed are {' and '.join(FILES)}: weights are read from safetensors alone"
        raise invalid("this is no file of an adapter", [Fault("file", message)])
    told = request.headers.get("content-length", "")
    if not re.fullmatch(r"[0-9]{1,18}", told):
        raise ApiError(411, "length_required", "say how large the file is (Content-Length)", param="Content-Length")
    if file == CONFIG and int(told) > MAX_CONFIG_BYTES:
        raise ApiError(413, "too_large", f"{file} has {told} bytes; allowed are {MAX_CONFIG_BYTES}", param="file")
    return int(told)


def _reserve(caller: Caller, settings: Settings, name: str, size: int) -> Draft:
    """Return a draft that takes the room of a file from now on."""
    own = adapters_of(caller, settings)
    for left in (own / _DRAFTS).glob("*"):
        _sweep(left)
    names = adapter_names(own)
    if name not in names and len(names) >= MAX_ADAPTERS:
        message = f"there are {len(names)} adapters; allowed are {MAX_ADAPTERS}: delete some"
        raise ApiError(413, "too_many_kept", message, param="name")
    check_room(caller, settings, size, "file")
    return Draft(own_folder(caller, settings), own / _DRAFTS / secrets.token_hex(8), size)


def _sweep(draft: Path) -> None:
    """Remove a draft whose process was killed: the lock on it went with the process."""
    with suppress(FileNotFoundError), draft.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        draft.unlink()


class Draft:
    """A file under way, locked while this process lives."""

    def __init__(self, root: Path, path: Path, size: int) -> None:
        """Make the file, with all of its size.

        Raises:
            StorageError: the disk does not take it.
        """
        self._path, self._size, self._written = path, size, 0
        with writing(path):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX)
                os.truncate(self._file.fileno(), size)
            except BaseException:
                self.close()
                raise

    def add(self, part: bytes) -> None:
        """Write what has come next.

        Raises:
            ApiError: it is more than was announced (400).
            StorageError: the disk does not take it.
        """
        if self._written + len(part) > self._size:
            raise _wrong_length(self._written + len(part), self._size)
        view = memoryview(part)
        with writing(self._path):
            while view:
                view = view[self._file.write(view) :]
        self._written += len(part)

    def check(self, file: str) -> None:
        """Look at the whole file, before anybody else does.

        Raises:
            ApiError: it is less than was announced (400), or not what its name says (422).
            StorageError: the disk did not take it.
        """
        if self._written != self._size:
            raise _wrong_length(self._written, self._size)
        with writing(self._path):
            os.fsync(self._file.fileno())
        fault = _config_fault(self._path) if file == CONFIG else _weights_fault(self._path)
        if fault is not None:
            raise invalid(f"{file} is not valid", [Fault("file", fault)])

    def move(self, target: Path) -> None:
        """Put the file in its place.

        Raises:
            StorageError: the disk does not take it.
        """
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.replace(target)

    def close(self) -> None:
        """Remove what was not moved. Safe to call twice."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def _wrong_length(got: int, announced: int) -> ApiError:
    message = f"got {got} bytes of a file that was announced with {announced}"
    return ApiError(400, "wrong_length", message, param="Content-Length")


def _config_fault(path: Path) -> str | None:
    try:
        config: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        return f"it is no JSON ({str(error)[:200]})"
    method = config.get("peft_type") if isinstance(config, dict) else None
    if not isinstance(method, str) or not method:
        return f"got peft_type {method!r:.80}; expected a configuration as PEFT saves it"
    return None


def _weights_fault(path: Path) -> str | None:
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(8)
    if begin.startswith(_PICKLES):
        return "got a pickle, which could run code when read; save the adapter as safetensors, as PEFT does by itself"
    header = int.from_bytes(begin, "little")
    if len(begin) < 8 or header > size - 8:
        return f"got {size} bytes that are no safetensors, or cut off: the header alone would take {header}"
    if header > MAX_HEADER_BYTES:
        return f"got a header of {header} bytes; allowed are {MAX_HEADER_BYTES}"
    try:
        return None if _count_tensors(path) else "it holds no tensors"
    except SafetensorError as error:
        return f"got no whole safetensors file: {str(error)[:200]}"


def _count_tensors(path: Path) -> int:
    """Return how many tensors a file holds; its header is checked against its size on the way."""
    with safe_open(path, framework="np") as file:
        return len(file.keys())
