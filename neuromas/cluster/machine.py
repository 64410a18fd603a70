"""A machine of a cluster: calls that only it can answer, and its files on their way to another one, through Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, ParamSpec, Self, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from neuromas.cluster.failure import cause_of, first_line
from neuromas.errors import RuntimeStartError

_PART: Final = 32 << 20
"""Bytes that travel at a time: what sender and receiver hold of a file."""
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of the cluster that this process is connected to.

    Attributes:
        id: Ray's, which lasts as long as the machine is in the cluster.
    """

    id: str

    @classmethod
    def here(cls) -> Self:
        """Return the machine of this process."""
        return cls(ray.get_runtime_context().get_node_id())

    @property
    def is_here(self) -> bool:
        """Whether it is the machine of this process."""
        return self == Machine.here()

    def call(self, function: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
        """Return what a function of a module returns in a process of that machine.

        It is a task and no actor: it is there for whoever asks, as long as the machine is, and costs nothing before.

        Raises:
            RuntimeStartError: the machine cannot be reached.
            Exception: what the function raised.
        """
        there = NodeAffinitySchedulingStrategy(self.id, soft=False)
        try:
            found: T = ray.get(_task(function).options(scheduling_strategy=there).remote(*arguments, **more))
        except RayTaskError as error:
            raise cause_of(error) from error
        except RayError as error:
            raise RuntimeStartError(f"machine {self.id[:12]} cannot be reached: {first_line(error)}") from error
        return found

    def bring(self, folder: Path, sizes: Mapping[str, int], target: Path) -> None:
        """Copy files of a folder there into a folder here.

        Args:
            folder: on that machine.
            sizes: bytes of each file, by name; see ``file_sizes``.
            target: on this one; is there.

        Raises:
            OSError: a file cannot be read there or written here.
            RuntimeStartError: the machine cannot be reached.
        """
        for name, size in sizes.items():
            with (target / Path(name).name).open("wb") as file:
                file.writelines(self._parts(folder / name, size))

    def _parts(self, file: Path, size: int) -> Iterator[bytes]:
        return (self.call(read_part, file, start) for start in range(0, size, _PART))


def file_sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file that lies in a folder, by name."""
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file()}


def read_part(file: Path, start: int) -> bytes:
    """Return up to 32 MiB of a file from a byte on."""
    with file.open("rb") as stream:
        stream.seek(start)
        return stream.read(_PART)


@cache
def _task(function: Callable[..., Any]) -> Any:
    """Return a function as a task; one made anew for each call would be sent to the cluster each time."""
    return ray.remote(num_cpus=0)(function)
