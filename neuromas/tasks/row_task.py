"""Tasks whose questions are rows: a stream over the training rows in ever new orders, and a list of held-out ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from random import Random
from typing import Any, Self

from neuromas.errors import TaskError
from neuromas.tasks.base import Example, Split, Task

NO_LEVEL = 0
"""Level of all examples of rows without levels."""
Pools = Mapping[int, tuple[Example, ...]]
"""Level -> the examples at that level, in the order of their rows."""


@dataclass(frozen=True)
class RowTask(Task):
    """Questions from rows. Each split is read when its first example is asked for; scoring reads none.

    Attributes:
        spec: which rows, and what is where in them.
        seed: selects the orders in which the training split is passed over.
    """

    spec: Any
    seed: int = 0

    def __reduce__(self) -> tuple[type[Self], tuple[Any, int]]:
        # Without the examples: tasks travel with every batch, and whoever scores it needs none of them.
        return type(self), (self.spec, self.seed)

    @abstractmethod
    def read(self, split: Split) -> Iterable[Example]:
        """Yield the examples of a split, in the order of its rows.

        Raises:
            TaskError: the source cannot be read, or a row does not hold what it must.
        """

    def passing(self, level: int, turn: int) -> tuple[str, str]:
        """Return the seed of the order of a pass over the training rows, and what its examples' ids end in."""
        return f"file/{self.seed}/{level}/{turn}", f"pass{turn}"

    @property
    def name(self) -> str:
        """Registry name of the family."""
        return str(self.spec.type)

    @property
    def levels(self) -> tuple[int, ...]:
        """No levels, unless the rows have them."""
        return ()

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        """Return example ``index`` (>= 0) of the split at ``level`` (None = the highest).

        Raises:
            TaskError: a source cannot be read, a row does not hold what the spec says, the level is not one of
                ``levels``, or the test split has no such example.
        """
        pool = self._pool(split, level)
        if split == "test":
            if index >= len(pool):
                raise TaskError(f"{self.name} task: got test example {index}, the split has {len(pool)} at this level")
            return pool[index]
        turn, place = divmod(index, len(pool))
        seed, ending = self.passing(max(self._train) if level is None else level, turn)
        example = pool[_shuffled(len(pool), seed)[place]]
        # Every pass has ids of its own: ids seed the sampling, and one step may see two passes.
        return Example(f"{example.id}/{ending}", example.prompt, example.answer, example.level, example.info)

    def size(self, split: Split, level: int | None = None) -> int | None:
        """Return None for the endless training split; else how many test examples the level has (None = the highest).

        Raises:
            TaskError: the level is not one of ``levels``.
        """
        return None if split == "train" else len(self._pool(split, level))

    def sample(self, split: Split, level: int | None, most: int) -> tuple[Example, ...]:
        """Return all rows of a split at a level (None = the highest), each once, in their order."""
        return self._pool(split, level)

    def _pool(self, split: Split, level: int | None) -> tuple[Example, ...]:
        if level is not None and level not in self.levels:
            allowed = self.levels or f"none{self.spec.level_hint}"
            raise TaskError(f"{self.name} task: got level {level}, allowed are {allowed}")
        pools = self._train if split == "train" else self._test
        return pools[max(pools) if level is None else level]

    @cached_property
    def _train(self) -> Pools:
        pools = self._read_pools("train")
        if lacking := sorted(set(pools) ^ set(self._test)):
            raise TaskError(
                f"{self.spec.train} and {self.spec.test}: levels {lacking} have examples in one of the two only"
            )
        return pools

    @cached_property
    def _test(self) -> Pools:
        return self._read_pools("test")

    def _read_pools(self, split: Split) -> Pools:
        by_level: dict[int, list[Example]] = {}
        try:
            for example in self.read(split):
                by_level.setdefault(NO_LEVEL if example.level is None else example.level, []).append(example)
        except TaskError as error:
            raise TaskError(f"task.{split}: {error}") from error
        if not by_level:
            raise TaskError(
                f"task.{split}: {self.spec.place(split)} holds no example; expected one row for each question"
            )
        return {level: tuple(examples) for level, examples in by_level.items()}


@lru_cache(maxsize=64)
def _shuffled(size: int, seed: str) -> tuple[int, ...]:
    """Return the numbers below ``size`` in the order that a seed draws."""
    return tuple(Random(seed).sample(range(size), size))
