"""BIG-bench object counting on a real model, for a comparison of a graph with what costs as much.

A question lists up to five things, "two chairs, a toaster, and a bed"; worked examples say the numbers and their sum,
"2+1+1=4". A message has room for the numbers or for the whole of a short answer, two messages for the whole of any.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from benchmarks.question_files import measured, write_questions

Document = dict[str, Any]
Row = Mapping[str, Any]
"""A question, its answer, and its level: the most things that it lists."""

NAME: Final = "counting"
LEVELS: Final = (3, 5)
_NUMBERS: Final = {
    word: number
    for number, words in enumerate(("a an", "two", "three", "four", "five", "six", "seven", "eight", "nine"), start=1)
    for word in words.split()
}
_WORKED: Final = 2
"""Worked examples of each level."""
_EXAMPLES: Final = 75


def read_rows(file: Path) -> list[Row]:
    """Return the rows of a file of BIG-bench object counting that list no more things than is asked about here."""
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [{key: row[key] for key in ("question", "answer", "level")} for row in rows if row["level"] in LEVELS]


def numbers(question: str) -> list[int]:
    """Return how many there are of each thing, in order; nothing where one does not begin with its number."""
    listed = re.fullmatch(r"I have (.*)\. How many .* do I have\?", question)
    words = [thing.removeprefix("and ").split()[0] for thing in listed[1].split(", ")] if listed else []
    return [_NUMBERS[word] for word in words] if set(words) <= set(_NUMBERS) else []


def worked_apart(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return worked examples, whose answers say the numbers, and the rows left to train on.

    A worked example lists as many things as its level allows, not all of them alone.
    """
    drawn = Random(NAME).sample(list(rows), len(rows))
    used = [row for level in LEVELS for row in [row for row in drawn if _shows(row, level)][:_WORKED]]
    worked: list[Row] = [
        {"question": row["question"], "answer": f"{'+'.join(map(str, numbers(row['question'])))}={row['answer']}"}
        for row in used
    ]
    return worked, [row for row in rows if row not in used]


def _shows(row: Row, level: int) -> bool:
    said = numbers(row["question"])
    return len(said) == row["level"] == level and max(said) > 1 and sum(said) == int(row["answer"])


def write_data(source: Path, out: Path) -> list[Row]:
    """Write the questions of a folder of BIG-bench files into ``<out>/counting``; returns the worked examples.

    Raises:
        OSError: a file cannot be read.
    """
    worked, train = worked_apart(read_rows(source / "object_counting.train.jsonl"))
    write_questions(out / NAME, train=train, test=read_rows(source / "object_counting.test.jsonl"))
    return worked


def most_frequent(out: Path) -> tuple[str, float]:
    """Return the answer that is right most often in training, and how often it is in the test questions of all arms."""
    train = (out / NAME / "train.jsonl").read_text(encoding="utf-8").splitlines()
    answer = Counter(str(json.loads(line)["answer"]) for line in train).most_common(1)[0][0]
    asked = [example.answer for example in measured(out / NAME, _EXAMPLES)]
    return answer, asked.count(answer) / len(asked)


def graph_spec(out: Path, worked: Sequence[Row], nodes: int = 2) -> Document:
    """Return the run spec of the graph that is compared, a chain; its task reads what ``write_data`` wrote."""
    return {
        "name": NAME,
        "base": "smollm2-135m",
        "topology": {"chain": nodes},
        "task": {
            "type": "file",
            "train": str((out / NAME / "train.jsonl").resolve()),
            "test": str((out / NAME / "test.jsonl").resolve()),
            "verifier": "number",
        },
        "prompt": {
            "renderer": "plain",
            "instruction": "",
            "cue": "Answer:",
            "stop": ["\n"],
            "demonstrations": [dict(row) for row in worked],
        },
        "sampling": {"max_tokens": 10},
        "adapter": {"type": "lora", "rank": 8},
        "training": {"steps": 10, "prompts_per_step": 6, "group_size": 8, "warmup_steps": 2},
        "evaluation": {"examples": _EXAMPLES},
        "checkpoint": {"every": 0},
        "tracking": {"rollouts_every": 2, "rollouts_per_sample": 4},
        "engine": {"type": "transformers", "max_model_len": 320},
        "runtime": {"type": "local"},
    }
