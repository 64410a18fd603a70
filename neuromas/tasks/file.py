"""The file task: questions and answers from files of rows, with a checker for the answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from neuromas.schema.bounds import MAX_KEY, MAX_TEXT, Key, Reference
from neuromas.tasks.base import Description, Example, Score, Split
from neuromas.tasks.code import CODE, load_code
from neuromas.tasks.expression import are_equal, require
from neuromas.tasks.row import RowKeys, read_example
from neuromas.tasks.row_task import RowTask
from neuromas.tasks.rows import Rows, read_rows
from neuromas.tasks.spec import TaskSpec
from neuromas.tasks.template import names_in
from neuromas.tasks.verify import READERS

_COMPARING_S = 600.0  # a comparison keeps its own time; an answer may have many right ones


def _template(text: str) -> str:
    names_in(text)
    return text


def _verifier(name: str) -> str:
    if name not in READERS and not re.fullmatch(CODE, name):
        raise ValueError(f"got {name[:80]!r}; allowed are {', '.join(READERS)}, or code as package.module:function")
    return name


Template = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_template)]
_VERIFIERS = {"anyOf": [{"type": "string", "enum": list(READERS)}, {"type": "string", "maxLength": MAX_KEY}]}


class FileSpec(TaskSpec):
    """Questions and answers from files: JSON lines, .csv, .tsv or .parquet."""

    paths: ClassVar[tuple[str, ...]] = ("train", "test")
    level_hint: ClassVar[str] = "; it has them only with task.level_key"

    type: Literal["file"]
    train: Reference
    """Path of the training file, absolute or from the folder of the spec's file: one row for each question."""
    test: Reference
    """Path of the held-out file. A quarter of its questions is for decisions, the result is of the others."""
    question_key: Key = "question"
    """Name of the question: text, or a list of chat messages with role and content."""
    question_template: Template | None = None
    """Text of the question with {name} for the row's values, such as "{question}\\n{choices}"; replaces the key."""
    answer_key: Key = "answer"
    """Name of the right answer: text or a number; a list of them, each of which is right; or with choices their
    number, from 0."""
    answer_template: Template | None = None
    """Text of the right answer with {name} for the row's values; replaces the key."""
    choices_key: Key | None = None
    """Name of the list of choices, for templates and for the verifiers "label" and "choice", whose answer may be a
    choice's text."""
    verifier: Annotated[str, Field(max_length=MAX_KEY), AfterValidator(_verifier), WithJsonSchema(_VERIFIERS)] = "exact"
    """How an answer is checked: "exact" the normalised text, "number" a number, "choice" a letter, "label" one of the
    row's choices by its text, "math" an expression in LaTeX (needs neuromas[math]). What is boxed or announced ("the
    answer is") comes first, else the last one in the text; a right answer must be readable as a whole. Or a function of
    yours as "package.module:function", see docs/extending.md."""
    verifier_timeout_s: float = Field(default=10.0, ge=0, le=3600)
    """Seconds that a function of yours may take for one answer, in a process of its own; 0 = no limit, and in the
    engine's process: for functions that are quick and cannot crash."""
    level_key: Key | None = None
    """Name of an integer level in each row; None = the task has no levels."""

    @model_validator(mode="after")
    def _every_setting_counts(self) -> FileSpec:
        if not self.code() and not self.is_default("verifier_timeout_s"):
            raise ValueError("verifier_timeout_s needs a verifier of yours, named as package.module:function")
        if self.verifier == "label" and self.choices_key is None:
            raise ValueError("the verifier 'label' needs choices_key: the name of the choices it tells apart")
        for key in ("question", "answer"):
            if getattr(self, f"{key}_template") is not None and not self.is_default(f"{key}_key"):
                raise ValueError(f"{key}_key does nothing beside {key}_template; name it in the template")
        return self

    def make(self, seed: int) -> FileTask:
        """Return the task; its files are read when they are needed.

        Raises:
            TaskError: the verifier needs a package that is missing.
        """
        if self.verifier == "math":
            require()
        return FileTask(self, seed)

    def levels(self) -> tuple[int, ...] | None:
        """Return None where the files hold levels: which ones is known once they are read."""
        return () if self.level_key is None else None

    def describe(self) -> str:
        """Return what is trained on."""
        return f"the task in {Path(self.train).name}"

    def code(self) -> Mapping[str, str]:
        """Return the verifier where it is a function of the user's."""
        return {} if self.verifier in READERS else {"verifier": self.verifier}

    def place(self, split: Split) -> str:
        """Return the name of a split's source for messages."""
        return self.train if split == "train" else self.test

    def rows(self, split: Split) -> Rows:
        """Yield the rows of a split, each after its place.

        Raises:
            TaskError: the source cannot be read.
        """
        return read_rows(Path(self.place(split)))

    @property
    def row_keys(self) -> RowKeys:
        """Where in a row question, answer, choices and level are."""
        return RowKeys(
            question=self.question_key,
            question_template=self.question_template,
            answer=self.answer_key,
            answer_template=self.answer_template,
            choices=self.choices_key,
            level=self.level_key,
            verifier=self.verifier,
        )


@dataclass(frozen=True)
class FileTask(RowTask):
    """Questions from files, or from a data set in the layout of the hub."""

    spec: FileSpec

    def read(self, split: Split) -> Iterator[Example]:
        """Yield the examples of a split, in the order of its rows.

        Raises:
            TaskError: the source cannot be read, or a row does not hold what the spec says.
        """
        source, keys = self.spec.place(split), self.spec.row_keys
        for number, (place, row) in enumerate(self.spec.rows(split), start=1):
            yield read_example(keys, f"{split}/{number}", row, f"{source}, {place}")

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels in the test file, the lowest first; empty when the spec names no level key.

        Raises:
            TaskError: the file cannot be read.
        """
        return () if self.spec.level_key is None else tuple(sorted(self._test))

    @property
    def scoring_timeout_s(self) -> float | None:
        """Seconds for one answer where the verifier is the user's code or computes, else None: scoring is quick."""
        if self.spec.verifier == "math":
            return _COMPARING_S
        return self.spec.verifier_timeout_s or None if self.spec.code() else None

    def chance(self, level: int | None = None) -> float | None:
        """Return how often a guess among a training question's choices is right, or the commonest answer if oftener.

        None without choices, and where the verifier is the user's code.
        """
        if self.spec.choices_key is None or self.spec.verifier not in ("choice", "label"):
            return None
        pool = self._pool("train", level)
        right = [{example.answer, *_listed(example, "answers")} for example in pool]
        choices = [_listed(example, "choices") for example in pool]
        guess = sum(len(answers) / len(texts) for answers, texts in zip(right, choices, strict=True))
        commonest = max(Counter(answer for answers in right for answer in answers).values())
        return max(guess, commonest) / len(pool)

    def score(self, example: Example, text: str) -> float | Score:
        """Return 1.0 when the text gives a right answer, else 0.0; or what the user's verifier returns."""
        if self.spec.code():
            verify: Callable[[Example, str], Any] = load_code(self.spec.verifier, "task.verifier")
            score: float | Score = verify(example, text)
            return score
        return float(self._is_right(example, self._read(example, text)))

    def answer_in(self, example: Example, text: str) -> str | None:
        """Return the answer as the verifier reads it; for a verifier of the user's, the text without its spacing."""
        return super().answer_in(example, text) if self.spec.code() else self._read(example, text)

    def describe(self, example: Example, text: str) -> Description | None:
        """Return the answer a message gives and whether it is right; None when it gives none."""
        answer = None if self.spec.code() else self._read(example, text)
        return None if answer is None else Description(label=answer, correct=self._is_right(example, answer))

    def _read(self, example: Example, text: str) -> str | None:
        return READERS[self.spec.verifier](text, _listed(example, "choices"))

    def _is_right(self, example: Example, answer: str | None) -> bool:
        right = (example.answer, *_listed(example, "answers"))
        if answer in right or self.spec.verifier != "math":
            return answer in right
        return answer is not None and any(are_equal(one, answer) for one in right)


def _listed(example: Example, key: str) -> tuple[str, ...]:
    """Return the texts under a key of the example's info; none where it is absent."""
    found = example.info.get(key)
    return tuple(map(str, found)) if isinstance(found, list) else ()
