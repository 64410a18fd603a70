"""The files of questions that a study's runs read, and the questions that they are measured on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from neuromas.tasks.base import Example
from neuromas.tasks.file import FileSpec
from neuromas.tasks.held_out import held_out


def write_questions(folder: Path, **splits: Iterable[Mapping[str, Any]]) -> None:
    """Write the rows of each split, "train" and "test", into a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def measured(folder: Path, examples: int) -> tuple[Example, ...]:
    """Return the test questions in a folder that runs with ``evaluation.examples`` of as many are measured on."""
    files = FileSpec(type="file", train=str(folder / "train.jsonl"), test=str(folder / "test.jsonl"))
    return held_out(files.make(0), None, examples, "test")
