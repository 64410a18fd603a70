"""Fingerprint: the content hash of a base, which tells one that was changed under the same path. Loads no torch."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from neuromas.base.data_home import cache_home

_PATTERNS = ("config.json", "generation_config.json", "tokenizer*.json", "chat_template.jinja", "*.safetensors")
_MEMORY = "base-hashes.json"
_WORTH_REMEMBERING = 1 << 24
"""Bytes from which on a file's hash is kept between processes."""


def fingerprint(folder: Path) -> str:
    """Return the SHA-256, in hex, of what rollouts and training read of a base: weights, configs, tokenizer, template.

    Hashes of large files are kept in the user's cache folder and used while the file is the same by device, inode,
    size, and times of its last change of content and of status; no program sets the last one.
    """
    files = sorted({file.name: file for pattern in _PATTERNS for file in folder.glob(pattern)}.items())
    remembered = _recall()
    known = dict(remembered)
    digest = hashlib.sha256()
    for name, file in files:
        digest.update(f"{name}\0{_sha256(file, known)}\n".encode())
    if known != remembered:
        _remember(known)
    return digest.hexdigest()


def _sha256(file: Path, known: dict[str, str]) -> str:
    stat = file.stat()
    key = ":".join(map(str, (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)))
    if key in known:
        return known[key]
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if stat.st_size >= _WORTH_REMEMBERING:
        known[key] = found
    return found


def _recall() -> dict[str, str]:
    try:
        document = json.loads((cache_home() / _MEMORY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _remember(known: dict[str, str]) -> None:
    """Write what is known; without a cache folder of one's own it is found anew each time."""
    file = cache_home() / _MEMORY
    draft = file.with_name(f".{_MEMORY}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft.write_text(json.dumps(known), encoding="utf-8")
        draft.replace(file)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
