"""The error tree. Every message says what was got, what is allowed and where to change it.

Each class has a stable ``code`` for programs and also inherits the standard-library class it refines. Errors take
only a message (and, for specs, the list of faults), so they survive the way through a Ray actor unchanged.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a document: the ``path`` to it (``nodes[2].id``) and a ``message`` with the remedy."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def reason(error: Exception) -> str:
    """Return what an error says, without the path that the system's errors repeat behind it."""
    return str(error) if not isinstance(error, OSError) or error.strerror is None else error.strerror


class NeuroMASError(Exception):
    """Root of all errors that NeuroMAS raises on purpose."""

    code = "error"


class SpecError(NeuroMASError, ValueError):
    """A document (run spec, topology, plan) is not valid; ``faults`` lists everything wrong with it at once."""

    code = "invalid_spec"

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        self.faults = tuple(faults)
        lines = [message, *(f"  {fault}" for fault in self.faults)]
        super().__init__("\n".join(lines))
        self.message = message

    def __reduce__(self) -> tuple[type[SpecError], tuple[str, tuple[Fault, ...]]]:
        return type(self), (self.message, self.faults)


class TopologyError(SpecError):
    """A graph is not a valid Topology: cycle, unknown id, duplicate edge, unreachable node, several outputs."""

    code = "invalid_topology"


class TaskError(NeuroMASError, ValueError):
    """A task is unknown, or an example cannot be made at the level asked for."""

    code = "task"


class BaseModelError(NeuroMASError, ValueError):
    """A base model is missing, altered, or has a shape that the engine or the trainer cannot run."""

    code = "base_model"


class AdapterError(NeuroMASError, ValueError):
    """Adapter weights have a wrong shape, rank, name or version."""

    code = "adapter"


class EngineError(NeuroMASError, RuntimeError):
    """The inference engine refused a request or stopped; the run cannot go on with this engine."""

    code = "engine"


class RolloutError(NeuroMASError, RuntimeError):
    """Too many rollouts failed, or a record breaks an invariant."""

    code = "rollout"


class TrainingError(NeuroMASError, RuntimeError):
    """The update cannot be computed: NaN, an empty batch, a shape that does not fit."""

    code = "training"


class ParityError(TrainingError):
    """Trainer and engine disagree about the log-probabilities of the same tokens."""

    code = "parity"


class CheckpointError(NeuroMASError, OSError):
    """A checkpoint is incomplete, altered, or does not fit the run that wants to read it."""

    code = "checkpoint"


class GrowthError(NeuroMASError, ValueError):
    """A growth plan does not fit the topology it is applied to."""

    code = "growth"


class RuntimeStartError(NeuroMASError, RuntimeError):
    """The runtime (Ray, its actors) could not be started or lost too many workers."""

    code = "runtime"


class StorageError(NeuroMASError, RuntimeError):
    """A file could not be written: the disk is full, a limit is reached, or nobody may write there."""

    code = "storage"


_REMEDIES: Final = {
    errno.ENOSPC: "make space on its disk",
    errno.EDQUOT: "make space within the quota of its user",
    errno.EFBIG: "raise the largest size of a file (ulimit -f)",
    errno.ENOTDIR: "name another place: a part of its path is a file",
    errno.EROFS: "name a place on a disk that can be written",
    errno.EACCES: "give it to this user, or name another place",
    errno.EPERM: "give it to this user, or name another place",
    errno.EIO: "see to its disk, which fails",
}
_QUOTED = re.compile(r"(?:\(os error |\[Errno )(\d+)[)\]]")
"""How libraries quote an error of the system: those in Rust (safetensors, tokenizers), and Python's own shutil."""


def refusal(error: BaseException) -> str | None:
    """Return why the system refuses a file and what to do about it; None for an error of another kind."""
    found = _QUOTED.search(str(error))
    number = int(found[1]) if found else None
    return f"{os.strerror(number)}; {_REMEDIES[number]}" if number in _REMEDIES else None


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Tell a failed write by the place that it was meant for, which the system's errors seldom name.

    Raises:
        StorageError: the system refused the write.
    """
    try:
        yield
    except NeuroMASError:
        raise
    except Exception as error:
        if (why := refusal(error)) is None:
            raise
        raise StorageError(f"{place} cannot be written: {why}") from error
