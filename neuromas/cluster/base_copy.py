"""The base on machines of a cluster that do not have it: its files travel through Ray, part by part, into a cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from neuromas.base.data_home import cache_home
from neuromas.base.fingerprint import fingerprint
from neuromas.errors import BaseModelError

_PART: Final = 32 << 20
"""Bytes that travel at a time: what sender and receiver hold of a base."""


class BaseFiles:
    """Actor on the machine that has a base; hands out its files, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file()}

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file, by name."""
        return self._sizes

    def part(self, name: str, start: int) -> bytes:
        """Return up to 32 MiB of a file from a byte on.

        Raises:
            KeyError: the base has no such file.
        """
        if name not in self._sizes:
            raise KeyError(name)
        with (self._folder / name).open("rb") as file:
            file.seek(start)
            return file.read(_PART)


class BaseOffer:
    """A base of this machine, which others may bring to theirs while this object lives."""

    def __init__(self, folder: Path) -> None:
        machine, name = ray.get_runtime_context().get_node_id(), f"base-{uuid4().hex}"
        here = NodeAffinitySchedulingStrategy(machine, soft=False)
        self._files = ray.remote(num_cpus=0, name=name, scheduling_strategy=here)(BaseFiles).remote(folder)
        self.copy = BaseCopy(folder, machine, fingerprint(folder), name)


@dataclass(frozen=True, slots=True)
class BaseCopy:
    """A base, as any machine of a cluster gets it.

    Attributes:
        folder: on the machine that has it.
        machine: Ray's id of that machine.
        sha256: fingerprint of the base.
        actor: name of its ``BaseFiles``. A handle would lie in Ray's object store, and a worker that is started anew
            may not find it there.
    """

    folder: Path
    machine: str
    sha256: str
    actor: str

    def local(self) -> Path:
        """Return a folder on this machine with exactly this base; where there is none it is brought, once.

        Raises:
            BaseModelError: what was brought is not what was offered, or there is no room for it.
        """
        if self.machine == ray.get_runtime_context().get_node_id():
            return self.folder
        if self.folder.is_dir() and fingerprint(self.folder) == self.sha256:
            return self.folder
        kept = cache_home() / "bases" / self.sha256
        if not kept.is_dir():
            self._bring(kept)
        return kept

    def _bring(self, kept: Path) -> None:
        files = ray.get_actor(self.actor)
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = Path(mkdtemp(prefix=".bringing-", dir=kept.parent))
        try:
            for name, size in ray.get(files.sizes.remote()).items():
                with (draft / Path(name).name).open("wb") as file:
                    file.writelines(_parts(files, name, size))
            if (found := fingerprint(draft)) != self.sha256:
                raise BaseModelError(
                    f"base {self.folder} changed while it was brought here: its content hash is {found[:12]}, it was "
                    f"{self.sha256[:12]}"
                )
            try:
                draft.rename(kept)
            except OSError:
                if not kept.is_dir():  # else another worker of this machine was faster
                    raise
        except OSError as error:
            raise BaseModelError(f"base {self.folder} cannot be brought to {kept.parent}: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _parts(files: Any, name: str, size: int) -> Iterator[bytes]:
    return (ray.get(files.part.remote(name, start)) for start in range(0, size, _PART))
