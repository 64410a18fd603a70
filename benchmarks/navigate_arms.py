"""The arms of BIG-bench navigate on a real model: graphs of 1, 3, 5 and 7 calls, and 3 -> 5 -> 7 grown.

The graphs are those of the NeuroMAS paper. A question is a list of steps and turns; whether one returns to the start is
answered by Yes or No. All nodes are shown the same worked examples, so that an untrained node's message is an answer of
its own to the question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, Final

from benchmarks.question_files import measured, write_questions

Document = dict[str, Any]
Row = Mapping[str, str]
"""A question, and its answer: Yes or No."""

STUDY: Final = "navigate"
_SAID: Final = {"True": "Yes", "False": "No"}
_BEFORE: Final = "If you follow these instructions, do you return to the starting point?\n"
_AFTER: Final = "\nAnswer True or False."
_ASKED: Final = "\nDo you return to the starting point?"
_STAGES: Final = (8, 8, 8)
_RANK: Final = 8
_EXAMPLES: Final = 100


def read_rows(file: Path) -> list[Row]:
    """Return the rows of a file of BIG-bench navigate, asked in fewer words.

    Raises:
        ValueError: a row is not of that task.
    """
    rows: list[Row] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        question = row["question"]
        if not (question.startswith(_BEFORE) and question.endswith(_AFTER) and row["answer"] in _SAID):
            raise ValueError(f"{file}: got {question[:80]!r}; expected a question of BIG-bench navigate")
        steps = question.removeprefix(_BEFORE).removesuffix(_AFTER)
        rows.append({"question": steps + _ASKED, "answer": _SAID[row["answer"]]})
    return rows


def worked_apart(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the worked examples, Yes and No for questions with turns and without, and the rows left to train on."""
    drawn = Random(STUDY).sample(list(rows), len(rows))
    kinds = product((True, False), _SAID.values())
    worked = [
        next(row for row in drawn if (row["answer"], "Turn" in row["question"]) == (said, turns))
        for turns, said in kinds
    ]
    return worked, [row for row in rows if row not in worked]


def best_word(rows: Sequence[Row]) -> str:
    """Return the word by which most questions are answered right where it means Yes and its absence No."""
    words = sorted({word for row in rows for word in _words(row["question"])})
    return max(words, key=lambda word: share_right(rows, word))


def share_right(rows: Sequence[Row], word: str) -> float:
    """Return the share of rows whose answer is Yes if the word occurs, and else No; "" occurs nowhere."""
    return sum((word in _words(row["question"])) == (row["answer"] == "Yes") for row in rows) / len(rows)


def _words(question: str) -> frozenset[str]:
    return frozenset(re.findall(r"[A-Za-z]+", question))


def write_data(source: Path, out: Path) -> list[Row]:
    """Write the questions of a folder of BIG-bench files into ``<out>/navigate``; returns the worked examples.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is not of that task.
    """
    worked, train = worked_apart(read_rows(source / "navigate.train.jsonl"))
    write_questions(out / STUDY, train=train, test=read_rows(source / "navigate.test.jsonl"))
    return worked


def rules(source: Path, out: Path) -> dict[str, float]:
    """Return by title what share of the test questions that arms are measured on is right without navigating."""
    word = best_word(read_rows(source / "navigate.train.jsonl"))
    rows = measured_rows(out)
    return {
        "always No": share_right(rows, ""),
        f'Yes where it says "{word}", the word that is best on the training questions': share_right(rows, word),
    }


def measured_rows(out: Path) -> list[Row]:
    """Return the test questions that arms are measured on, in the order of their rewards."""
    asked = measured(out / STUDY, _EXAMPLES)
    return [{"question": example.prompt, "answer": example.answer.capitalize()} for example in asked]


def arm_spec(arm: str, seed: int, worked: Sequence[Row]) -> Document:
    """Return the run spec of one arm; its task reads what ``write_data`` wrote beside it.

    Raises:
        KeyError: there is no such arm.
    """
    spec: Document = {
        "name": f"{STUDY}-{arm}-s{seed}",
        "seed": seed,
        "base": "smollm2-135m",
        "task": {
            "type": "file",
            "train": f"{STUDY}/train.jsonl",
            "test": f"{STUDY}/test.jsonl",
            "verifier": "exact",
        },
        "prompt": {
            "renderer": "plain",
            "instruction": "",
            "cue": "Answer:",
            "stop": ["\n"],
            "demonstrations": [dict(row) for row in worked],
        },
        "sampling": {"max_tokens": 4},
        "adapter": {"type": "lora", "rank": _RANK},
        "training": {"steps": sum(_STAGES), "prompts_per_step": 6, "group_size": 8, "warmup_steps": 2},
        "evaluation": {"examples": _EXAMPLES},
        "checkpoint": {"every": 6},
        "tracking": {"rollouts_every": 4, "rollouts_per_sample": 4},
        "engine": {"type": "transformers", "max_model_len": 384},
        "runtime": {"type": "local"},
    }
    return spec | ARMS[arm]


def _grown() -> Document:
    wider = {"edits": [{"edit": "widen", "layer": 1}, {"edit": "widen", "layer": 2}]}
    deeper = {"edits": [{"edit": "before_output", "width": 2}]}
    growth = {
        "without_levels": "grow",
        "plans": [wider, deeper],
        "trigger": {"type": "steps"},
        "steps_per_level": list(_STAGES),
    }
    return {"topology": {"layers": [1, 1]}, "growth": growth}


ARMS: Final[Mapping[str, Document]] = {
    "single": {"topology": {"chain": 1}, "adapter": {"type": "lora", "rank": 3 * _RANK}},
    "scratch-3": {"topology": {"layers": [1, 1]}},
    "scratch-5": {"topology": {"layers": [2, 2]}},
    "scratch-7": {"topology": {"layers": [2, 2, 2]}},
    "grown": _grown(),
}
"""What is compared at equal rollouts; the single node has as many trained numbers as the graph of three."""

TITLES: Final[Mapping[str, str]] = {
    "single": "one node",
    "scratch-3": "1-1-output from scratch",
    "scratch-5": "2-2-output from scratch",
    "scratch-7": "2-2-2-output from scratch",
    "grown": "grown 3 -> 5 -> 7",
}
