"""From a row of a data file to an example: question, right answers, choices and level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from string import ascii_uppercase
from typing import Any, Final

from neuromas.errors import TaskError
from neuromas.tasks.base import Example
from neuromas.tasks.rows import Row, number_text, shown, to_json
from neuromas.tasks.template import fill
from neuromas.tasks.verify import GOLD_READERS, READERS

_SPEAKERS: Final = {"system": "", "user": "User: ", "assistant": "Assistant: "}


@dataclass(frozen=True, slots=True)
class RowKeys:
    """What is where in a row; names of its values, but for templates and the verifier."""

    question: str
    question_template: str | None
    answer: str
    answer_template: str | None
    choices: str | None
    level: str | None
    verifier: str


def read_example(keys: RowKeys, example_id: str, row: Row, place: str) -> Example:
    """Return the example in a row; ``place`` names the row in errors.

    Raises:
        TaskError: the row lacks something, or the verifier does not read its answer.
    """
    info: dict[str, Any] = {} if keys.verifier in READERS else to_json(row)
    labels: list[str] = []
    if keys.choices is not None:
        choices, labels = _choices(_value(row, keys.choices, "task.choices_key", place), place)
        info["choices"] = choices
        row = {**row, keys.choices: choices}
    if keys.question_template is None:
        question = _question(_value(row, keys.question, "task.question_key", place), keys.question, place)
    else:
        question = fill(keys.question_template, row, place)
    given = [fill(keys.answer_template, row, place)] if keys.answer_template is not None else _answers(keys, row, place)
    answers = [_canonical(keys, answer, info.get("choices", []), labels, place) for answer in given]
    if len(answers) > 1:
        info["answers"] = answers
    return Example(example_id, question, answers[0], _level(keys.level, row, place), info)


def _answers(keys: RowKeys, row: Row, place: str) -> list[Any]:
    value = _value(row, keys.answer, "task.answer_key", place)
    if isinstance(value, list) and value:
        return value
    return [value]


def _canonical(keys: RowKeys, value: Any, choices: list[str], labels: list[str], place: str) -> str:
    """Return a right answer as the verifier reads it."""
    text = _text(value, keys.answer, "task.answer_key", place)
    if keys.verifier not in READERS:
        return text
    if keys.verifier == "choice" and choices:
        text = _letter(value, text, choices, labels)
    answer = GOLD_READERS[keys.verifier](text, choices)
    if keys.verifier == "choice" and choices and (answer is None or answer not in ascii_uppercase[: len(choices)]):
        raise TaskError(f"{place}: got the answer {shown(text)}; the row has {len(choices)} choices")
    if answer is None:
        raise TaskError(f"{place}: the verifier {keys.verifier!r} cannot read all of the answer {text[-60:]!r}")
    return answer


def _letter(value: Any, text: str, choices: list[str], labels: list[str]) -> str:
    """Return the letter of a choice that is named by its number (from 0), its own label or its text."""
    if isinstance(value, int) and 0 <= value < len(choices):
        return ascii_uppercase[value]
    for names in (labels, choices):
        if text in names:
            return ascii_uppercase[names.index(text)]
    return text


def _choices(value: Any, place: str) -> tuple[list[str], list[str]]:
    """Return the texts of choices and their labels: from a list, or from a table of both."""
    labels = value.get("label", []) if isinstance(value, Mapping) else []
    texts = value.get("text") if isinstance(value, Mapping) else value
    if not isinstance(texts, list) or not 0 < len(texts) <= len(ascii_uppercase) or not isinstance(labels, list):
        raise TaskError(f"{place}: got choices {shown(value)} (task.choices_key); expected a list of 1 to 26")
    return [_text(text, "choices", "task.choices_key", place) for text in texts], list(map(str, labels))


def _question(value: Any, key: str, place: str) -> str:
    if not isinstance(value, list):
        return _text(value, key, "task.question_key", place)
    turns = []
    for turn in value:
        if (
            not isinstance(turn, Mapping)
            or turn.get("role") not in _SPEAKERS
            or not isinstance(turn.get("content"), str)
        ):
            raise TaskError(
                f"{place}: got {shown(value)} for the key {key!r} (task.question_key), expected text or chat messages "
                f"with role ({', '.join(_SPEAKERS)}) and content"
            )
        turns.append((turn["role"], turn["content"]))
    if not turns or turns[-1][0] != "user":
        raise TaskError(f"{place}: the messages under {key!r} (task.question_key) must end with one of the user's")
    # A single question is asked as it stands; of a conversation the node reads who said what.
    speaks = sum(role != "system" for role, _ in turns) > 1
    return "\n\n".join((_SPEAKERS[role] if speaks else "") + content for role, content in turns)


def _level(key: str | None, row: Row, place: str) -> int | None:
    if key is None:
        return None
    level = row.get(key)
    if isinstance(level, str) and level.isdecimal():  # columns of text files are text
        level = int(level)
    if not isinstance(level, int) or isinstance(level, bool):
        raise TaskError(f"{place}: got {shown(level)} for the key {key!r} (task.level_key), expected an integer")
    return level


def _value(row: Row, key: str, setting: str, place: str) -> Any:
    if key not in row:
        raise TaskError(f"{place}: no key {key!r} ({setting}); this line has {', '.join(row)}")
    return row[key]


def _text(value: Any, key: str, setting: str, place: str) -> str:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return number_text(value)
    if not isinstance(value, str):
        raise TaskError(f"{place}: got {shown(value)} for the key {key!r} ({setting}), expected text or a number")
    return value
