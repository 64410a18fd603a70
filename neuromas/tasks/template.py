"""Templates of questions and answers: text with ``{name}`` for the value of a row, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from string import Formatter, ascii_uppercase
from typing import Any

from neuromas.errors import TaskError
from neuromas.tasks.rows import number_text, shown


def names_in(template: str) -> tuple[str, ...]:
    """Return the names that a template asks for, in order. Doubled braces stand for themselves.

    Raises:
        ValueError: it asks for more than plain values: attributes, indices, formats, conversions.
    """
    names = []
    for _, name, form, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not name.isidentifier() or form or conversion:
            raise ValueError(f"got {{{name}}} in {shown(template)}; allowed are {{name}} and doubled braces")
        names.append(name)
    return tuple(names)


def fill(template: str, row: Mapping[str, Any], place: str) -> str:
    """Return the template with the values of a row; a list is shown as lettered choices, one a line.

    Raises:
        TaskError: the row lacks a value, or has one that is no text; the message names the ``place``.
    """
    parts = []
    for literal, name, _, _ in Formatter().parse(template):
        parts.append(literal)
        if name is not None:
            if name not in row:
                raise TaskError(f"{place}: no key {name!r}, which a template asks for; this line has {', '.join(row)}")
            parts.append(_text(row[name], name, place))
    return "".join(parts)


def lettered(choices: list[str]) -> str:
    """Return choices as "(A) ...", one a line."""
    return "\n".join(f"({letter}) {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False))


def _text(value: Any, name: str, place: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return number_text(value)
    if isinstance(value, list):
        return lettered([_text(item, name, place) for item in value])
    raise TaskError(f"{place}: got {shown(value)} for the key {name!r}, expected text, a number or a list of them")
