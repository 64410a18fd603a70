"""Adapter versions on disk, for engines in other processes. Loads no torch."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from neuromas.adapters.export import read_peft_folder, write_peft_folder
from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.errors import AdapterError
from neuromas.topology.graph import NAME

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"v(\d+)")


class AdapterStore:
    """Immutable versions under one folder: ``<root>/<namespace>/<name>/v<version>``, each a stock PEFT folder.

    A version appears whole (written beside, then renamed) and is never written again, so readers need no lock.
    """

    def __init__(self, root: Path, base_name: str) -> None:
        """Open a store; the folder is made if missing.

        Args:
            root: folder of the store.
            base_name: base model that the versions belong to, recorded in each.
        """
        self.root = root
        self.base_name = base_name
        root.mkdir(parents=True, exist_ok=True)

    def path(self, ref: AdapterRef) -> Path:
        """Return the folder of a version, written or not.

        Raises:
            AdapterError: name, namespace or version cannot be a folder's name.
        """
        parts = [part for part in ref.namespace.split("/") if part]
        valid = all(_PART.fullmatch(part) for part in parts) and NAME.fullmatch(ref.name) and ref.version >= 0
        if not valid:
            raise AdapterError(
                f"adapter version {ref}: names and namespaces are made of letters, digits, '.', '_' and '-', "
                "versions count from 0"
            )
        return self.root.joinpath(*parts, ref.name, f"v{ref.version}")

    def put(self, ref: AdapterRef, lora: PlainLora) -> Path:
        """Write a version and return its folder.

        Raises:
            AdapterError: the version is there already, or the adapter cannot be served.
        """
        target = self.path(ref)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
        try:
            write_peft_folder(lora, self.base_name, draft)
            # Renaming onto a folder that is not empty fails, also when another process wrote it just now.
            os.rename(draft, target)  # noqa: PTH104 - Path.rename has the same effect but hides that it must not replace
        except OSError as error:
            raise AdapterError(f"adapter version {ref} is in {self.root} already; publish a new version") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return target

    def get(self, ref: AdapterRef) -> PlainLora:
        """Return a version.

        Raises:
            AdapterError: it is not there.
        """
        folder = self.path(ref)
        if not folder.is_dir():
            raise AdapterError(
                f"adapter version {ref} is not in {self.root}; it holds {self.versions(ref)} of this name"
            )
        return read_peft_folder(folder)

    def versions(self, ref: AdapterRef) -> tuple[int, ...]:
        """Return the versions held of the adapter that ``ref`` names, ascending."""
        folder = self.path(ref).parent
        found = [_VERSION.fullmatch(entry.name) for entry in folder.iterdir()] if folder.is_dir() else []
        return tuple(sorted(int(match[1]) for match in found if match))

    def remove(self, ref: AdapterRef) -> None:
        """Delete a version that no engine reads any more; nothing happens if it is not there."""
        shutil.rmtree(self.path(ref), ignore_errors=True)
