"""The programs task: Python functions that must pass unit tests; files as of HumanEval and MBPP."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from neuromas.errors import TaskError
from neuromas.schema.bounds import Reference
from neuromas.tasks.base import Example, Score, Split
from neuromas.tasks.row_task import RowTask
from neuromas.tasks.rows import Row, read_rows
from neuromas.tasks.sandbox.check import ResourceLimits, check, require
from neuromas.tasks.spec import TaskSpec

_FENCED: Final = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_KINDS: Final = (
    ("prompt", "entry_point", "canonical_solution", "test"),
    ("text", "code", "test_list"),
    ("prompt", "code", "test_list"),
)
"""Names in a row of HumanEval, of MBPP, and of MBPP's sanitized part."""
_WAITING_S: Final = 10.0


class ProgramsSpec(TaskSpec):
    """Python functions that must pass unit tests: files as of HumanEval and MBPP."""

    paths: ClassVar[tuple[str, ...]] = ("train", "test")

    type: Literal["programs"]
    allow_execution: bool = False
    """Must be true: what a model writes is run on this machine, locked as docs/threat-model.md says."""
    train: Reference
    """Path of the training file, absolute or from the folder of the spec's file. A row has the names of HumanEval
    (prompt, entry_point, canonical_solution, test) or of MBPP (text or prompt, code, test_list)."""
    test: Reference
    """Path of the held-out file, of either kind. A quarter of its questions is for decisions, the result is of the
    others."""
    timeout_s: int = Field(default=5, ge=1, le=60)
    """Seconds of computing that a program may take for all its tests."""
    memory_mib: int = Field(default=512, ge=128, le=8192)
    """Address space of a program, in MiB."""

    @model_validator(mode="after")
    def _is_asked_for(self) -> ProgramsSpec:
        if not self.allow_execution:
            raise ValueError(
                "runs programs that a model writes, each locked away from files, network and other processes "
                "(docs/threat-model.md); set task.allow_execution = true to agree"
            )
        return self

    def make(self, seed: int) -> ProgramsTask:
        """Return the task.

        Raises:
            TaskError: this machine cannot lock processes.
        """
        require()
        return ProgramsTask(self, seed)

    def levels(self) -> tuple[int, ...]:
        """Return no levels: the files have none."""
        return ()

    def describe(self) -> str:
        """Return what is trained on."""
        return f"the programs in {Path(self.train).name}"

    def place(self, split: Split) -> str:
        """Return the path of a split's file."""
        return self.train if split == "train" else self.test

    def code(self) -> Mapping[str, str]:
        """Return what a service's operator has to allow."""
        return {"allow_execution": "neuromas.tasks.sandbox:check"}


@dataclass(frozen=True)
class ProgramsTask(RowTask):
    """Programs from files."""

    spec: ProgramsSpec

    def read(self, split: Split) -> Iterator[Example]:
        """Yield the examples of a split, in the order of its file.

        Raises:
            TaskError: the file cannot be read, or a row is not of HumanEval's or MBPP's kind.
        """
        path = Path(self.spec.place(split))
        for number, (place, row) in enumerate(read_rows(path), start=1):
            yield _example(row, f"{split}/{number}", f"{path}, {place}")

    def passing(self, level: int, turn: int) -> tuple[str, str]:
        """Return the seed of the order of a pass over the training file, and what its examples' ids end in."""
        return f"programs/{self.seed}/{turn}", str(turn)

    @property
    def scoring_timeout_s(self) -> float:
        """Seconds for one program, from the start of its processes to its last test."""
        return self.spec.timeout_s + _WAITING_S

    def chance(self, level: int | None = None) -> float:
        """Return 0: no guess passes tests."""
        return 0.0

    def score(self, example: Example, text: str) -> Score:
        """Return 1.0 when the program in a text passes all tests, else 0.0; the part ``compiles`` is 1 for any Python.

        A program stands in the last fenced block, else it is the whole text. What does not define the function that is
        asked for continues the question, down to the first line that is not indented.
        """
        info = {key: str(value) for key, value in example.info.items()}
        if info["entry_point"]:
            program = program_in(text, example.prompt, info["entry_point"])
        else:
            program = f"{info['before']}\n{code_in(text)}"
        try:
            compile(program, "program", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return Score(0.0, {"compiles": 0.0})
        names = [info["entry_point"]] if info["entry_point"] else []
        limits = ResourceLimits(self.spec.timeout_s, self.spec.memory_mib)
        result = check(program, info["setup"], info["tests"], names, limits)
        return Score(float(result.passed), {"compiles": 1.0})


def code_in(text: str) -> str:
    """Return the last fenced block of a text, the whole text where it has none."""
    blocks = _FENCED.findall(text)
    return str(blocks[-1]) if blocks else text


def program_in(text: str, question: str, function: str) -> str:
    """Return the program that a text makes of a question that ends in the head of a function.

    Args:
        text: what was answered: the body of the function, or the function.
        question: code up to where the function's body begins.
        function: name of the function.
    """
    code = code_in(text)
    head = re.compile(rf"^(?:async )?def {re.escape(function)}\b", re.MULTILINE)
    if head.search(code):
        before = head.search(question)
        return question[: before.start() if before else 0] + code
    lines = code.strip("\n").split("\n")
    if lines[0][:1].strip():  # messages lose the blanks they begin with
        lines[0] = "    " + lines[0]
    body = []
    for line in lines:
        if line[:1].strip():
            break
        body.append(line)
    return question.rstrip("\n") + "\n" + "\n".join(body) + "\n"


def _example(row: Row, example_id: str, place: str) -> Example:
    kind = next((names for names in _KINDS if set(names) <= set(row)), None)
    if kind is None:
        known = "; ".join(", ".join(names) for names in _KINDS)
        raise TaskError(f"{place}: has {', '.join(row)}; expected the names of a row of HumanEval or MBPP: {known}")
    if "entry_point" in kind:
        prompt, function, right, tests = (_text(row, name, place) for name in kind)
        info = {"entry_point": function, "setup": prompt + right, "tests": f"{tests}\ncheck({function})"}
        return Example(example_id, prompt, right, None, info)
    question, right = (_text(row, name, place) for name in kind[:2])
    asserts = row["test_list"]
    if not isinstance(asserts, list) or not asserts or not all(isinstance(line, str) for line in asserts):
        raise TaskError(f"{place}: got test_list {str(asserts)[:60]!r}; expected a list of assert statements")
    before = row.get("test_setup_code") or "\n".join(row.get("test_imports") or ())
    tests = "\n".join(asserts)
    prompt = f"{question}\nYour code should pass these tests:\n{tests}"
    info = {"entry_point": "", "before": before, "setup": f"{before}\n{right}", "tests": tests}
    return Example(example_id, prompt, right, None, info)


def _text(row: Mapping[str, Any], name: str, place: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise TaskError(f"{place}: got {str(value)[:60]!r} for {name}; expected text")
    return value
