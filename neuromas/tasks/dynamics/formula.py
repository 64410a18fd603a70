"""Formulas: read by a grammar of our own, evaluated on arrays; no text is ever run as code.

    sum = product (("+" | "-") product)*        product = sign (("*" | "/") sign)*
    sign = ("+" | "-") sign | power             power = atom (("^" | "**") sign)?
    atom = number | name | function "(" sum ")" | "(" sum ")"

Nothing in it is piecewise, so that a formula cannot be a table of looked-up values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FUNCTIONS: Final = ("sin", "cos", "exp", "log", "sqrt", "tanh")
MAX_CHARACTERS: Final = 400
MAX_PARTS: Final = 48
"""Numbers, names, operators and functions of one formula."""
MAX_DEPTH: Final = 24
"""Brackets, signs and exponents around one value."""
MAX_NUMBERS: Final = 6
"""Numbers and constants of one formula, each as often as it stands there."""
_TOKEN: Final = re.compile(
    r"\s*(?:((?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(?:[eE][+-]?\d{1,3})?)|([A-Za-z]\w*)|(\*\*|\S))", re.ASCII
)
_CONSTANT: Final = re.compile(r"c\d+")


class FormulaError(ValueError):
    """A text is no formula of the grammar, or too large a one."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula as its parts in the order in which a stack computes them.

    Attributes:
        parts: a number; a name of a variable or a constant; an operator; or a function. "neg" is a minus sign.
    """

    parts: tuple[float | str, ...]

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the free constants, c0, c1 ..., each once."""
        named = {part for part in self.parts if isinstance(part, str) and _CONSTANT.fullmatch(part)}
        return tuple(sorted(named, key=lambda name: int(name[1:])))

    @property
    def complexity(self) -> int:
        """Number of parts but for minus signs, which a constant takes up."""
        return sum(part != "neg" for part in self.parts)

    def bound(self, values: Mapping[str, float]) -> Formula:
        """Return the formula with numbers in the place of names."""
        return Formula(tuple(values.get(part, part) if isinstance(part, str) else part for part in self.parts))

    def __call__(self, values: Mapping[str, Array | np.float64]) -> Array | np.float64:
        """Return the value for values of all names: numpy's, of one shape. What is undefined is not finite."""
        import numpy as np

        stack: list[Array | np.float64] = []
        with np.errstate(all="ignore"):
            for part in self.parts:
                if isinstance(part, float):
                    stack.append(np.float64(part))  # a Python float would raise where numpy returns inf
                elif part in _BINARY:
                    right, left = stack.pop(), stack.pop()
                    stack.append(_BINARY[part](left, right))
                elif part == "neg":
                    stack.append(-stack.pop())
                elif part in FUNCTIONS:
                    stack.append(getattr(np, part)(stack.pop()))
                else:
                    stack.append(values[part])
        return stack.pop()


_BINARY: Final[Mapping[str, Callable[[Array | np.float64, Array | np.float64], Array | np.float64]]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "^": lambda left, right: left**right,
}


def parse_formula(text: str, names: Collection[str]) -> Formula:
    """Return the formula that a text is.

    Args:
        text: all of it must be one formula.
        names: of the variables and constants that it may use.

    Raises:
        FormulaError: it is none, or has too many characters, parts or numbers; the message says what was met.
    """
    if len(text) > MAX_CHARACTERS:
        raise FormulaError(f"got {len(text)} characters; allowed are {MAX_CHARACTERS}")
    parser = _Parser([match.groups() for match in _TOKEN.finditer(text)], frozenset(names))
    parser.sum()
    if (token := parser.token()) is not None:
        raise FormulaError(f"got {token!r} after the end of a formula")
    if len(parser.parts) > MAX_PARTS:
        raise FormulaError(f"got {len(parser.parts)} parts; allowed are {MAX_PARTS}")
    numbers = [part for part in parser.parts if isinstance(part, float) or _CONSTANT.fullmatch(part)]
    if len(numbers) > MAX_NUMBERS:
        raise FormulaError(f"got {len(numbers)} numbers and constants; allowed are {MAX_NUMBERS}")
    return Formula(tuple(parser.parts))


class _Parser:
    """Descends the grammar, down to ``MAX_DEPTH``."""

    def __init__(self, tokens: list[tuple[str | None, ...]], names: frozenset[str]) -> None:
        self.parts: list[float | str] = []
        self._tokens = tokens
        self._names = names
        self._at = 0
        self._depth = 0

    def token(self) -> str | None:
        """Return the next token's text; None at the end."""
        return next(filter(None, self._tokens[self._at])) if self._at < len(self._tokens) else None

    def sum(self) -> None:
        self._chain(("+", "-"), self._product)

    def _product(self) -> None:
        self._chain(("*", "/"), self._sign)

    def _chain(self, operators: tuple[str, ...], operand: Callable[[], None]) -> None:
        operand()
        while (operator := self.token()) in operators:
            self._at += 1
            operand()
            self.parts.append(str(operator))

    def _sign(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise FormulaError(f"got more than {MAX_DEPTH} brackets, signs and exponents in each other")
        sign = self._take("+", "-")
        if sign is None:
            self._power()
        else:
            self._sign()
        self._depth -= 1
        if sign == "-":
            last = self.parts[-1]
            self.parts[-1:] = [-last] if isinstance(last, float) else [last, "neg"]

    def _power(self) -> None:
        self._atom()
        if self._take("^", "**"):
            self._sign()
            self.parts.append("^")

    def _atom(self) -> None:
        token = self.token()
        if token is None:
            raise FormulaError("the formula ends where a value is expected")
        number, name, _ = self._tokens[self._at]
        self._at += 1
        if number is not None:
            self.parts.append(float(number))
        elif name in FUNCTIONS:
            self._expect("(")
            self._in_brackets()
            self.parts.append(str(name))
        elif name in self._names:
            self.parts.append(str(name))
        elif token == "(":
            self._in_brackets()
        else:
            allowed = ", ".join((*sorted(self._names), *FUNCTIONS))
            raise FormulaError(f"got {token[:20]!r}; allowed are {allowed}")

    def _in_brackets(self) -> None:
        self.sum()
        self._expect(")")

    def _expect(self, symbol: str) -> None:
        if self._take(symbol) is None:
            raise FormulaError(f"got {self.token()!r}; expected {symbol!r}")

    def _take(self, *symbols: str) -> str | None:
        token = self.token()
        if token not in symbols:
            return None
        self._at += 1
        return token
