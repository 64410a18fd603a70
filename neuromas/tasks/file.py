"""The file task: questions and answers from JSON-lines files, with a checker for the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import ClassVar, Literal

from neuromas.errors import TaskError
from neuromas.tasks.base import Description, Example, Split
from neuromas.tasks.spec import TaskSpec
from neuromas.tasks.verify import READERS

# Level of all examples of a file without levels.
_NO_LEVEL = 0


class FileSpec(TaskSpec):
    """Questions and answers from JSON-lines files."""

    paths: ClassVar[tuple[str, ...]] = ("train", "test")

    level_hint: ClassVar[str] = "; it has them only with task.level_key"

    type: Literal["file"]
    train: str
    """Path of the training file, absolute or from the working directory: one JSON object a line."""
    test: str
    """Path of the held-out file."""
    question_key: str = "question"
    answer_key: str = "answer"
    verifier: Literal["exact", "number", "choice"] = "exact"
    """How an answer is checked: normalised text, last number in the text, or last letter A-Z named as choice."""
    level_key: str | None = None
    """Key of an integer level in each object; None = the task has no levels."""

    def make(self, seed: int) -> FileTask:
        """Return the task, with both files read; see ``FileTask.load``."""
        return FileTask.load(self, seed)

    def levels(self) -> tuple[int, ...] | None:
        """Return None where the files hold levels: which ones is known once they are read."""
        return () if self.level_key is None else None

    def describe(self) -> str:
        """Return what is trained on."""
        return f"the task in {Path(self.train).name}"


@dataclass(frozen=True, slots=True)
class FileTask:
    """Questions from files. The training split is an endless stream that passes over its file in ever new orders.

    Attributes:
        verifier: name of the reader (see ``neuromas.tasks.verify``) that finds the answer in a text.
        has_levels: whether the examples carry levels.
        examples: split -> level -> the file's examples at that level, in the order of its lines.
        seed: selects the orders in which the training file is passed over.
    """

    verifier: str
    has_levels: bool
    examples: Mapping[Split, Mapping[int, tuple[Example, ...]]]
    seed: int = 0

    @classmethod
    def load(cls, spec: FileSpec, seed: int = 0) -> FileTask:
        """Return the task with both files read and checked.

        Raises:
            TaskError: a file cannot be read, a line does not hold what the spec says, or a level lacks examples.
        """
        examples: dict[Split, Mapping[int, tuple[Example, ...]]] = {
            "train": _read_file(spec, "train", Path(spec.train)),
            "test": _read_file(spec, "test", Path(spec.test)),
        }
        if lacking := sorted(set(examples["train"]) ^ set(examples["test"])):
            raise TaskError(f"{spec.train} and {spec.test}: levels {lacking} have examples in one of the files only")
        return cls(spec.verifier, spec.level_key is not None, examples, seed)

    @property
    def name(self) -> str:
        """Registry name of the family."""
        return "file"

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels in the files, the lowest first; empty when the spec names no level key."""
        return tuple(sorted(self.examples["train"])) if self.has_levels else ()

    @property
    def scoring_timeout_s(self) -> None:
        """Return None: scoring is quick."""
        return None

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        """Return example ``index`` (>= 0) of the split at ``level`` (None = the highest).

        Raises:
            TaskError: the level is not one of ``levels``, or the test file has no such example.
        """
        pool = self._pool(split, level)
        if split == "test":
            if index >= len(pool):
                raise TaskError(f"file task: got test example {index}, the file has {len(pool)} at this level")
            return pool[index]
        turn, place = divmod(index, len(pool))
        chosen = max(self.examples[split]) if level is None else level
        example = pool[_shuffled(len(pool), f"file/{self.seed}/{chosen}/{turn}")[place]]
        # Every pass has ids of its own: ids seed the sampling, and one step may see two passes.
        return Example(f"{example.id}/pass{turn}", example.prompt, example.answer, example.level)

    def size(self, split: Split, level: int | None = None) -> int | None:
        """Return None for the endless training split; else how many test examples the level has (None = the highest).

        Raises:
            TaskError: the level is not one of ``levels``.
        """
        return None if split == "train" else len(self._pool(split, level))

    def _pool(self, split: Split, level: int | None) -> tuple[Example, ...]:
        if level is not None and level not in self.levels:
            raise TaskError(f"file task: got level {level}, allowed are {self.levels or 'none without task.level_key'}")
        return self.examples[split][max(self.examples[split]) if level is None else level]

    def score(self, example: Example, text: str) -> float:
        """Return 1.0 when the text gives the right answer, else 0.0."""
        return float(READERS[self.verifier](text) == example.answer)

    def describe(self, example: Example, text: str) -> Description | None:
        """Return the answer a message gives and whether it is right; None when it gives none."""
        answer = READERS[self.verifier](text)
        return None if answer is None else Description(label=answer, correct=answer == example.answer)


@lru_cache(maxsize=64)
def _shuffled(size: int, seed: str) -> tuple[int, ...]:
    return tuple(Random(seed).sample(range(size), size))


def _read_file(spec: FileSpec, split: Split, path: Path) -> dict[int, tuple[Example, ...]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"task.{split}: {path} cannot be read: {error}") from error
    by_level: dict[int, list[Example]] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            example = _read_line(spec, f"{split}/{number}", line, f"{path}, line {number}")
            by_level.setdefault(_NO_LEVEL if example.level is None else example.level, []).append(example)
    if not by_level:
        raise TaskError(f"task.{split}: {path} holds no example; expected one JSON object a line")
    return {level: tuple(examples) for level, examples in by_level.items()}


def _read_line(spec: FileSpec, example_id: str, line: str, place: str) -> Example:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise TaskError(f"{place}: not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise TaskError(f"{place}: got {line[:40]!r}, expected a JSON object")
    question = _text(fields, spec.question_key, "task.question_key", place)
    raw_answer = _text(fields, spec.answer_key, "task.answer_key", place)
    answer = READERS[spec.verifier](raw_answer)
    if answer is None:
        raise TaskError(f"{place}: the verifier {spec.verifier!r} reads no answer from {raw_answer[-60:]!r}")
    if spec.level_key is None:
        return Example(example_id, question, answer)
    level = fields.get(spec.level_key)
    if not isinstance(level, int) or isinstance(level, bool):
        raise TaskError(f"{place}: got {level!r} for the key {spec.level_key!r} (task.level_key), expected an integer")
    return Example(example_id, question, answer, level)


def _text(fields: Mapping[str, object], key: str, setting: str, place: str) -> str:
    if key not in fields:
        raise TaskError(f"{place}: no key {key!r} ({setting}); this line has {', '.join(fields)}")
    value = fields[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise TaskError(f"{place}: got {value!r} for the key {key!r} ({setting}), expected text or a number")
    return value
