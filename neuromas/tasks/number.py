r"""Numbers in texts, read exactly: digits with their sign, separators, exponent, divisor and scale.

All scans take linear time: every pattern either has bounded repeats only or ends in its one unbounded repeat, and each
search goes on where the last match ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

_THIN: Final = "\N{THIN SPACE}"
_VULGAR: Final = {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "⅕": "1/5", "⅛": "1/8"}
_WRITTEN_ALIKE: Final = str.maketrans(
    {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full-width forms of ASCII
    | dict.fromkeys("\N{MINUS SIGN}\N{SMALL HYPHEN-MINUS}\N{FIGURE DASH}\N{EN DASH}\N{NON-BREAKING HYPHEN}", "-")
    | dict.fromkeys("\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{FIGURE SPACE}", _THIN)
    | dict.fromkeys("\N{FRACTION SLASH}\N{DIVISION SLASH}", "/")
    | dict.fromkeys("\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}", "'")
)
_LATEX: Final = (
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,;:! ]|~"), _THIN),
    (re.compile(r"\\([$%&#_])"), r"\1"),
    (re.compile(r"\\[()\[\]]|\\(?:left|right|displaystyle)(?![A-Za-z])"), " "),
    (re.compile(r"\\(?:text|textbf|mathbf|mathrm|textrm|bf)\s?\{(?=[\s$]{0,3}[-+]?[\s$]{0,3}[0-9])"), "{"),
)
_LATEX_FRACTION: Final = re.compile(
    r"(?:([0-9])\s?)?\\[cdt]?frac\s?(?:\{\s?(-?[0-9]{1,100})\s?\}|([0-9]))\s?(?:\{\s?([0-9]{1,100})\s?\}|([0-9]))"
)

# Digits with their separators, as much as there is. Not inside a word or an argument of a formula (\sqrt{2}, x^2).
# A sign counts where no operand stands before it ("10-3" holds 10 and 3); set off by a space, at the start or after an
# opening mark only, since elsewhere it is a dash.
_START: Final = re.compile(
    r"""(?:
        (?<![\w)\]}%.^])(?P<glued>[-+])
      | (?:^|(?<=[=:(\[{<>,]))\s{0,3}(?P<apart>-)\s{1,3}
    )?
    (?:[$€£¥₹]\s?(?P<inner>-)?)?
    (?<![\w.^])(?<![\w^}]\{)
    (?P<digits>\.?[0-9][0-9,._'\u2009]*)""",
    re.VERBOSE,
)
_EXPONENT: Final = re.compile(
    r"(?:[eE]([-+]?[0-9]{1,6})|\s{0,3}(?:\\times|\\cdot|×|[x*])\s{0,3}10\s?(?:\^|\*\*)\s?\{?([-+]?[0-9]{1,6})\}?)(?![\w])"
)
_OTHER_EXPONENT: Final = re.compile(r"[eE][-+]?[0-9]")
_DIVISOR: Final = re.compile(r"\s{0,3}/\s{0,3}([0-9]{1,100})(?![\d]|[.,]\d|\s{0,3}/\s{0,3}\d)")
_MIXED: Final = re.compile(r"\s{1,3}([0-9]{1,100})\s?/\s?([0-9]{1,100})(?![\d]|[.,]\d|\s?/\s?\d)")
_DATE: Final = re.compile(r"\s{0,3}/\s{0,3}[0-9]{1,4}\s{0,3}/\s{0,3}[0-9]{1,4}")
_SCALE: Final = re.compile(r"\s{1,3}(hundred|thousand|million|billion|trillion)(?![\w])", re.IGNORECASE)
_SCALES: Final = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_LONGEST: Final = 400  # digits, exponent included, of what is not written as a whole number: reading them is quadratic


@dataclass(frozen=True, slots=True)
class NumberMatch:
    """A number in a text: its canonical form, such as "-3/2" or "1000", and where in the plain text it stands."""

    value: str
    start: int
    end: int


def plain(text: str) -> str:
    r"""Return a text with LaTeX and typographic forms of numbers in their plain ones: ``\frac12`` is ``1/2``."""
    for sign, fraction in _VULGAR.items():
        text = text.replace(sign, f" {fraction}")
    text = text.translate(_WRITTEN_ALIKE)
    for pattern, form in _LATEX:
        text = pattern.sub(form, text)
    return _LATEX_FRACTION.sub(_plain_fraction, text)


def find_numbers(text: str) -> Iterator[NumberMatch]:
    """Yield the numbers of a plain text, in order."""
    position = 0
    while (match := _START.search(text, position)) is not None:
        digits = match["digits"].rstrip(f",._'{_THIN}")
        position = match.start("digits") + len(digits)
        negative = "-" in (match["glued"], match["apart"], match["inner"])
        parts = _split(digits)
        for part in parts[:-1]:
            yield from _found(_whole(part, 0, negative), match.start(), position)
        value, position = _read_last(text, parts[-1], position, negative)
        yield from _found(value, match.start(), position)


def _found(value: str | None, start: int, end: int) -> Iterator[NumberMatch]:
    if value is not None:
        yield NumberMatch(value, start, end)


def _read_last(text: str, digits: str, end: int, negative: bool) -> tuple[str | None, int]:
    """Return the value of digits with what follows them in the text, and where that ends."""
    if date := _DATE.match(text, end):
        return None, date.end()
    if exponent := _EXPONENT.match(text, end):
        return _whole(digits, int(exponent[1] or exponent[2]), negative), exponent.end()
    if _OTHER_EXPONENT.match(text, end):
        return None, end
    if (mixed := _MIXED.match(text, end)) and digits.isdecimal():
        return _ratio(digits, mixed[1], mixed[2], negative), mixed.end()
    if divisor := _DIVISOR.match(text, end):
        return _ratio("0", digits, divisor[1], negative), divisor.end()
    if scale := _SCALE.match(text, end):
        return _whole(digits, _SCALES[scale[1].lower()], negative), scale.end()
    return _whole(digits, 0, negative), end


def _split(digits: str) -> Sequence[str]:
    """Return the numbers that digits with separators hold: one where they group thousands, else those of a list."""
    whole, point, decimals = digits.partition(".")
    separators = set(whole) - set("0123456789")
    if len(separators) == 1 and not set(decimals) - set("0123456789"):
        groups = whole.split(separators.pop())
        thousands = all(len(group) == 3 for group in groups[1:])
        lakhs = len(groups) > 2 and len(groups[-1]) == 3 and all(len(group) == 2 for group in groups[1:-1])
        if 1 <= len(groups[0]) <= 3 and groups[0][0] != "0" and (thousands or lakhs):
            return ["".join(groups) + point + decimals]
    return re.split(f"[,_'{_THIN}]", digits)


def _whole(digits: str, exponent: int, negative: bool) -> str | None:
    """Return the canonical form of a decimal number, None of what is none ("1.2.3") or too long to be read."""
    whole, _, decimals = digits.partition(".")
    decimals = decimals.rstrip("0")
    if not f"{whole}{decimals}".isdecimal():
        return None
    significant = (whole + decimals).lstrip("0")
    if not significant:
        return "0"
    sign, exponent = "-" if negative else "", exponent - len(decimals)
    if exponent == 0:
        return sign + significant
    if len(significant) + abs(exponent) > _LONGEST:
        return None
    return sign + str(Fraction(int(significant)) * Fraction(10) ** exponent)


def _ratio(whole: str, numerator: str, divisor: str, negative: bool) -> str | None:
    parts = (whole, numerator, divisor)
    if max(map(len, parts)) > _LONGEST or numerator.count(".") > 1 or not divisor.strip("0"):
        return None
    value = int(whole) + Fraction(numerator) / int(divisor)
    return str(-value if negative else value)


def _plain_fraction(match: re.Match[str]) -> str:
    before = f"{match[1]} " if match[1] else ""
    return f"{before}{match[2] or match[3]}/{match[4] or match[5]}"
