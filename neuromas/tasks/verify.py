r"""Answer checkers: each reads the answer that a text gives into one canonical string; answers are right when equal.

- exact: the whole text, without regard to case, spacing and punctuation around it.
- number: the first number after the last ``####``, else the last number; ``1,000`` is 1000, ``0.50`` is ``1/2``.
- choice: the letter after the last "answer", "choice", "option" or ``\boxed``, else the last capital standing alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Final

_SURROUNDING = " \t\n.,;:!?\"'`*"
# A sign counts only where no word stands before it ("10-3" holds 10 and 3); digits glued to a letter are a name ("x2").
_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>-)?\$?(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:\s*/\s*(?P<divisor>\d+)(?!\d|\.\d))?"
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\{(-?\d+)\}\{(\d+)\}")
_MAX_DIGITS = 100  # Python refuses to read integers of thousands of digits, and no answer has them.
_NAMED_CHOICE = re.compile(
    r"(?:(?i:answer|choice|option)\s*(?i:is\b)?\s*[:=]?\s*[(\[{*\"']{0,3}|\\boxed\{\W?)([A-Z])(?![\w'])"
)
# "A dog" and "I think" choose nothing; "A is right" does.
_LONE_CAPITAL = re.compile(r"(?<![\w'])([A-Z])(?![\w'])(?!(?<=[AI])\s+(?!is\b)[a-z])")
_LONE_LETTER = re.compile(r"\W*([A-Za-z])\W*")


def read_exact(text: str) -> str | None:
    """Return the text in its normal form; None when nothing is left of it."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return plain.strip(_SURROUNDING) or None


def read_number(text: str) -> str | None:
    """Return the number that a text ends on as an exact fraction such as "-3/2" or "1000"; None without one."""
    plain = _LATEX_FRACTION.sub(r"\1/\2", text.replace("\N{MINUS SIGN}", "-"))
    _, marked, tail = plain.rpartition("####")
    found = [number for match in _NUMBER.finditer(tail) if (number := _fraction(match)) is not None]
    if not found:
        return None
    return str(found[0] if marked else found[-1])


def read_choice(text: str) -> str | None:
    """Return the letter, A to Z, of the choice that a text makes; None without one."""
    alone = _LONE_LETTER.fullmatch(text)
    if alone:
        return alone[1].upper()
    named = _NAMED_CHOICE.findall(text) or _LONE_CAPITAL.findall(text)
    return named[-1] if named else None


READERS: Final[Mapping[str, Callable[[str], str | None]]] = {
    "exact": read_exact,
    "number": read_number,
    "choice": read_choice,
}


def _fraction(match: re.Match[str]) -> Fraction | None:
    if len(match[0]) > _MAX_DIGITS:
        return None
    divisor = int(match["divisor"] or 1)
    if divisor == 0:
        return None
    value = Fraction(match["number"].replace(",", "")) / divisor
    return -value if match["sign"] else value
