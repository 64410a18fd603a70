"""The base on machines of a cluster that do not have it: its files travel through Ray into a cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from neuromas.base.data_home import cache_home
from neuromas.base.draft import base_draft
from neuromas.base.fingerprint import fingerprint
from neuromas.cluster.machine import Machine, file_sizes
from neuromas.errors import BaseModelError


@dataclass(frozen=True, slots=True)
class BaseCopy:
    """A base, as any machine of a cluster gets it.

    Attributes:
        folder: on the machine that has it.
        machine: that has it.
        sha256: fingerprint of the base.
    """

    folder: Path
    machine: Machine
    sha256: str

    @classmethod
    def of(cls, folder: Path, machine: Machine) -> Self:
        """Return a base as it is now on a machine, which may be another one.

        Raises:
            OSError: it cannot be read.
            RuntimeStartError: the machine cannot be reached.
        """
        return cls(folder, machine, fingerprint(folder) if machine.is_here else machine.call(fingerprint, folder))

    def local(self) -> Path:
        """Return a folder on this machine with exactly this base; where there is none it is brought, once.

        Raises:
            BaseModelError: what was brought is not what was offered, or there is no room for it.
            RuntimeStartError: the machine that has it cannot be reached.
        """
        if self.machine.is_here:
            return self.folder
        if self.folder.is_dir() and fingerprint(self.folder) == self.sha256:
            return self.folder
        kept = cache_home() / "bases" / self.sha256
        if not kept.is_dir():
            self._bring(kept)
        return kept

    def _bring(self, kept: Path) -> None:
        try:
            kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with base_draft(kept.parent) as draft:
                self._bring_over(draft, kept)
        except OSError as error:
            raise BaseModelError(f"base {self.folder} cannot be brought to {kept.parent}: {error}") from error

    def _bring_over(self, draft: Path, kept: Path) -> None:
        self.machine.bring(self.folder, self.machine.call(file_sizes, self.folder), draft)
        if (found := fingerprint(draft)) != self.sha256:
            raise BaseModelError(
                f"base {self.folder} changed while it was brought here: its content hash is {found[:12]}, it was "
                f"{self.sha256[:12]}"
            )
        try:
            draft.rename(kept)
        except OSError:
            if not kept.is_dir():  # else another process of this machine was faster
                raise
