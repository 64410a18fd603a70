r"""Answer checkers: each reads the answer that a text gives into one canonical string; answers are right when equal.

- exact: the text, without regard to case, spacing and punctuation around it.
- number: a number as an exact fraction; ``1,000`` is 1000, ``0.50`` is ``1/2``, see ``neuromas.tasks.number``.
- choice: a letter; "choice" and "option" name one too.
- label: one of the row's choices, by its text.
- math: an expression in LaTeX; those that are written alike are equal, others are compared by
  ``neuromas.tasks.expression``.

What a text puts into ``\boxed{...}`` is its answer; else what it announces by ``####`` or "the answer is", the last
time; else, for ``exact`` the whole text, for the others the last number, letter, choice, or formula between dollars (or
the last line) in it. Every reader takes
time in proportion to the text: patterns have bounded repeats, or one unbounded repeat at their end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from neuromas.tasks.number import NumberMatch, find_numbers, plain

_SURROUNDING: Final = " \t\n.,;:!?\"'`*"
_BRACES: Final = re.compile(r"(?P<box>\\(?:boxed|fbox)\s?\{)|\\[\s\S]|(?P<open>\{)|(?P<close>\})")
_ANNOUNCED: Final = re.compile(
    r"####|\banswer\b[^.!?\n:=]{0,60}?(?:\bis\b(?!\s{0,3}not\b)|(?P<colon>[:=]))[\s:=]{0,3}", re.IGNORECASE
)
_SENTENCE_END: Final = re.compile(
    r"\n|(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bMt)(?<!\bSt)(?<!\b[A-Z])[.!?](?=[\s*\"')]|$)"
)
_WORD: Final = re.compile(r"[^\W\d_]{2}")
_NAME: Final = re.compile(r"[\s$({*]{0,6}[A-Za-z]\w{0,20}\s{0,3}=\s{0,3}[\s$({]{0,6}")
_UNIT: Final = re.compile(
    r"[\s}]{0,3}(?:\\(?:text|textrm|mathrm|mbox)\s?\{[^{}\\\d]{0,60}\}|[A-Za-z]{2,30}(?:\s[A-Za-z]{1,30}){0,5}"
    r"|\^\s?\{?\\circ\}?|°)(?:\s?\^\s?\{?[23]\}?)?"
)
_AROUND_NUMBER: Final = " \t\n$€£¥₹%*.\"'`{}()\N{THIN SPACE}"
_FORMULA_BEFORE: Final = re.compile(r"\\(?!approx|sim|text|mathrm|mbox)[A-Za-z]|\^|[/*+]\s?$")
_FORMULA_AFTER: Final = re.compile(r"[\s}]{0,3}(?:\\(?!text|mathrm|mbox|approx)[A-Za-z]|\^(?!\s?\{?\\circ))")
_OPERATORS: Final = frozenset({"+", "-", "*", "/", "×", "÷", "x", "^", r"\times", r"\cdot", r"\div"})
_EQUAL: Final = frozenset({"=", "≈", r"\approx", "equals"})

_TOKEN: Final = re.compile(r"\w+")
_LETTER: Final = r"(?:([A-Z])(?![\w'])|([a-z])(?=[).\]}*]|$))"
_LETTER_FIRST: Final = re.compile(
    r"[\s(\[{*\"'$]{0,5}(?:\\(?:text|textbf|mathbf|mathrm)\s?\{[\s(]{0,3})?(?:(?i:option|choice)\s)?[(\[{*\"']{0,3}"
    + _LETTER
)
_NAMED_LETTER: Final = re.compile(r"(?:(?i:choice|option)) (?:(?i:is) )?[:=]? ?[(\[{*\"']{0,3}([A-Z])(?![\w'])")
# "A dog" and "I think" choose nothing; "A is right" does.
_LONE_CAPITAL: Final = re.compile(r"(?<![\w'])([A-Z])(?![\w'])(?!(?<=[AI]) (?!is\b)[a-z])")
_LATEX_TEXT: Final = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf)\s?\{")
_DELIMITER: Final = re.compile(r"\$\$?|\\[()\[\]]")
_CLOSES: Final = {"$": "$", "$$": "$$", r"\(": r"\)", r"\[": r"\]"}
_LAYOUT: Final = re.compile(
    r"(\\\\)|\\(?:left|right|displaystyle)(?![A-Za-z]) ?|(\\[A-Za-z]{1,30}) (?=[A-Za-z])|\\[!,;: ]|[ $]"
)
_LARGE_FRACTION: Final = re.compile(r"\\[dt]frac(?![A-Za-z])")


class AnswerReader(Protocol):
    """Reads the answer that a text gives; ``choices`` are the row's, read by ``label`` only."""

    def __call__(self, text: str, choices: Sequence[str] = (), /) -> str | None:
        """Return the answer in its canonical form; None where the text gives none."""


def read_exact(text: str, _choices: Sequence[str] = ()) -> str | None:
    """Return what the text announces, or all of it, in its normal form; None when nothing is left of it."""
    return _normal(_answer_in(text) or text)


def read_number(text: str, _choices: Sequence[str] = ()) -> str | None:
    """Return the number that a text gives as an exact fraction such as "-3/2" or "1000"; None without one."""
    box = last_box(text)
    if box is not None:
        return _whole_number(box, with_unit=True)
    announced = _last_announcement(text)
    if announced is not None and not announced.may_be_prose:
        return _stated_number(announced.sentence)
    last = None
    for number in find_numbers(plain(text)):
        last = number.value
    return last


def read_choice(text: str, _choices: Sequence[str] = ()) -> str | None:
    """Return the letter, A to Z, of the choice that a text makes; None without one."""
    box = last_box(text)
    if box is not None:
        return _first_letter(box)
    if alone := _lone_letter(text):
        return alone
    announced = _last_announcement(text)
    if announced is not None and (letter := _first_letter(announced.sentence)):
        return letter
    joined = " ".join(text.split())
    named = _NAMED_LETTER.findall(joined) or _LONE_CAPITAL.findall(joined)
    return named[-1] if named else None


def read_label(text: str, choices: Sequence[str] = ()) -> str | None:
    """Return the choice that a text names, in its normal form; of several the last, at one place the longest."""
    names = _names(tuple(choices))
    if names is None:
        return None
    box = last_box(text)
    if box is not None:
        return _last_name(names, box)
    announced = _last_announcement(text)
    if announced is not None and (first := names.search(_folded(announced.sentence))):
        return first[0]
    return _last_name(names, text)


def read_math(text: str, _choices: Sequence[str] = ()) -> str | None:
    """Return the expression that a text gives, without its layout; None when nothing is left of it."""
    box = last_box(text)
    if box is not None:
        return _unlaid(box)
    announced = _last_announcement(text)
    said = text if announced is None else announced.sentence
    if formulas := _formulas(said):
        return _unlaid(formulas[-1] if announced is None else formulas[0])
    lines = said.split("\n") if announced is None else [said]
    return next((found for line in reversed(lines) if (found := _unlaid(line))), None)


def gold_exact(text: str, _choices: Sequence[str] = ()) -> str | None:
    """Return a right answer in its normal form, all of what it announces."""
    return _normal(_all_announced(text))


def gold_number(text: str, _choices: Sequence[str] = ()) -> str | None:
    """Return a right answer that is one number and nothing else (after ``####`` or in a box); else None."""
    return _whole_number(_all_announced(text), with_unit=False)


def gold_choice(text: str, _choices: Sequence[str] = ()) -> str | None:
    """Return a right answer that is one letter and nothing else (after ``####`` or in a box); else None."""
    return _lone_letter(_all_announced(text))


def gold_label(text: str, choices: Sequence[str] = ()) -> str | None:
    """Return a right answer that is one of the row's choices; else None."""
    answer = _normal(_all_announced(text))
    return answer if answer in set(map(_normal, choices)) else None


def gold_math(text: str, _choices: Sequence[str] = ()) -> str | None:
    """Return a right answer without its layout: the box of a worked solution, else all of what it announces."""
    return _unlaid(_all_announced(text))


READERS: Final[Mapping[str, AnswerReader]] = {
    "exact": read_exact,
    "number": read_number,
    "choice": read_choice,
    "label": read_label,
    "math": read_math,
}
"""By the verifier's name: what a text answers."""

GOLD_READERS: Final[Mapping[str, AnswerReader]] = {
    "exact": gold_exact,
    "number": gold_number,
    "choice": gold_choice,
    "label": gold_label,
    "math": gold_math,
}
"""By the verifier's name: a right answer of a data set, read whole or not at all (None)."""


def last_box(text: str) -> str | None:
    r"""Return what stands in the last complete ``\boxed{...}`` of a text, braces inside it included."""
    found, found_at = None, -1
    opened: list[tuple[bool, int]] = []
    for match in _BRACES.finditer(text):
        if match["box"] or match["open"]:
            opened.append((bool(match["box"]), match.end()))
        elif match["close"] and opened:
            is_box, start = opened.pop()
            if is_box and start > found_at:  # of boxes in a box the inner one
                found, found_at = text[start : match.start()], match.end()
    return found


@dataclass(frozen=True, slots=True)
class _Announcement:
    """What follows ``####`` or "the answer is".

    Attributes:
        rest: all of it.
        sentence: up to the end of the first sentence.
        may_be_prose: whether a chain of thought may begin here ("Answer: first we add ...").
    """

    rest: str
    sentence: str
    may_be_prose: bool


def _last_announcement(text: str) -> _Announcement | None:
    last = None
    for last in _ANNOUNCED.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    if last is None:
        return None
    rest = text[last.end() :].lstrip(" \t\n*\"'`")
    end = _SENTENCE_END.search(rest)
    sentence = rest if end is None else rest[: end.start()]
    loose = last["colon"] is not None or last[0] == "####"
    return _Announcement(rest, sentence, loose and _WORD.match(sentence) is not None)


def _answer_in(text: str) -> str | None:
    """Return what a text boxes or announces."""
    box = last_box(text)
    if box is not None:
        return box
    announced = _last_announcement(text)
    return None if announced is None else announced.sentence


def _all_announced(text: str) -> str:
    box = last_box(text)
    if box is not None:
        return box
    announced = _last_announcement(text)
    return text if announced is None else announced.rest


def _folded(text: str) -> str:
    shown = _LATEX_TEXT.sub("{", text).translate({ord("{"): " ", ord("}"): " "}) if "\\" in text else text
    return " ".join(unicodedata.normalize("NFKC", shown).casefold().split())


def _normal(text: str) -> str | None:
    return _folded(text).strip(_SURROUNDING) or None


def _formulas(text: str) -> list[str]:
    """Return what stands between dollars or their like."""
    found, opened = [], None
    for mark in _DELIMITER.finditer(text):
        if opened is None:
            opened = mark if mark[0] in _CLOSES else None
        elif mark[0] == _CLOSES[opened[0]]:
            found.append(text[opened.end() : mark.start()])
            opened = None
    return found


def _unlaid(text: str) -> str | None:
    """Return an expression without spaces, sizes of brackets and fractions, and what surrounds it in a sentence."""
    plainer = _LARGE_FRACTION.sub(r"\\frac", _LATEX_TEXT.sub(r"\\text{", text))
    laid = _LAYOUT.sub(lambda found: found[1] or (f"{found[2]} " if found[2] else ""), " ".join(plainer.split()))
    return laid.strip("\t\n.,;:!?\"'`*") or None


def _whole_number(text: str, *, with_unit: bool) -> str | None:
    """Return the value of a text that is a number with at most a name, a currency, a per cent or a unit around it."""
    shown = plain(text).lstrip(" \t\n$*")
    found = find_numbers(shown)
    number, second = next(found, None), next(found, None)
    if number is None or (second is not None and second.start == number.start):  # "3,5" is two
        return None
    before, after = shown[: number.start], shown[number.end :]
    if before.strip(_AROUND_NUMBER) and not _NAME.fullmatch(before):
        return None
    if with_unit and (unit := _UNIT.match(after)):
        after = after[unit.end() :]
    return None if after.strip(_AROUND_NUMBER) else number.value


def _stated_number(sentence: str) -> str | None:
    """Return the first number of a sentence, of an equation the last side that is one number; None of a formula."""
    shown = plain(sentence)
    sides: list[list[NumberMatch]] = []
    for number in find_numbers(shown):
        if not sides:
            sides = [[number]]
            continue
        before = sides[-1][-1].end
        between = shown[before : number.start].strip() if number.start - before < 16 else "far"
        if between in _EQUAL:
            sides.append([number])
        elif between in _OPERATORS or (not between and shown[number.start] in "+-"):
            sides[-1].append(number)
        else:
            break
    lone = [side[0] for side in sides if len(side) == 1]
    if not lone or _FORMULA_BEFORE.search(shown[: sides[0][0].start]) or _FORMULA_AFTER.match(shown, lone[-1].end):
        return None
    return lone[-1].value


def _lone_letter(text: str) -> str | None:
    words = _TOKEN.findall(text)
    alone = words[0] if len(words) == 1 else ""
    return alone.upper() if len(alone) == 1 and alone.isascii() and alone.isalpha() else None


def _first_letter(text: str) -> str | None:
    match = _LETTER_FIRST.match(text)
    return (match[1] or match[2]).upper() if match else None


@lru_cache(maxsize=4096)
def _names(choices: tuple[str, ...]) -> re.Pattern[str] | None:
    names = sorted({name for choice in choices if (name := _normal(choice))}, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)") if names else None


def _last_name(names: re.Pattern[str], text: str) -> str | None:
    last = None
    for match in names.finditer(_folded(text)):
        last = match[0]
    return last
