"""Rows of data files: JSON lines, CSV, TSV and Parquet, each row a table of names and JSON values."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, NoReturn

from neuromas.errors import TaskError, reason

Row = Mapping[str, Any]
"""Values are JSON's, but for numbers with a point or an exponent, which are decimals: as they were written."""
Rows = Iterator[tuple[str, Row]]
"""Each row after the place it stands at, such as "line 3"."""
_MAX_EXPONENT = 1000


def read_rows(path: Path) -> Rows:
    """Yield the rows of a file by its suffix; whatever is neither CSV, TSV nor Parquet is read as JSON lines.

    Raises:
        TaskError: the file cannot be read, or a line does not hold a row; the message names the line.
    """
    try:
        yield from ROW_READERS.get(path.suffix.lower(), _json_lines)(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TaskError(f"{path} cannot be read: {reason(error)}") from error


def shown(value: object) -> str:
    """Return a value as a message shows it, cut where it is long."""
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def number_text(value: int | Decimal) -> str:
    """Return a number in plain digits: 0.00001, 12000000000000000000."""
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def to_json(value: Any) -> Any:
    """Return a value of a row as JSON has it."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, list) else value


def _json_lines(path: Path) -> Rows:
    # The signature is what some editors put before UTF-8. Only line feeds end a line: JSON may hold other separators.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            yield f"line {number}", _json_row(f"{path}, line {number}", line)


def _json_row(place: str, line: str) -> Row:
    try:
        row = json.loads(line, parse_float=_decimal, parse_constant=_refuse)
        line.encode()
        if "\\ud" in line.lower():  # escapes may hold half of a pair
            json.dumps(row, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise TaskError(f"{place}: holds half of a surrogate pair, which is no character: {shown(line)}") from error
    except (ValueError, RecursionError) as error:
        said = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise TaskError(f"{place}: not valid JSON: {said}") from error
    if not isinstance(row, dict):
        raise TaskError(f"{place}: got {shown(line)}, expected a JSON object")
    return row


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"got the number {shown(text)}") from error
    if number and abs(number.adjusted()) > _MAX_EXPONENT:
        raise ValueError(f"got the number {shown(text)}; allowed are exponents up to {_MAX_EXPONENT}")
    return number


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"got {name}, expected a finite number")


def _csv(path: Path, delimiter: str = ",") -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
        for row in reader:
            if None in row or None in row.values():
                raise TaskError(f"{path}, line {reader.line_num}: has other columns than the first line")
            yield f"line {reader.line_num}", row


def _tsv(path: Path) -> Rows:
    return _csv(path, "\t")


def _parquet(path: Path) -> Rows:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise TaskError(f"{path}: Parquet needs the package pyarrow (it comes with neuromas[cpu])") from error
    try:
        with path.open("rb") as stream:
            table = parquet.read_table(stream)
    except (OSError, ValueError) as error:
        raise TaskError(f"{path} cannot be read: {reason(error)}") from error
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"row {number}", {key: plain_value(value) for key, value in row.items()}


def plain_value(value: Any) -> Any:
    """Return a value of a table as JSON's kinds, floats as decimals; dates and the like as text."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain_value(item) for item in value]
    return value if value is None or isinstance(value, str | int | Decimal) else str(value)


ROW_READERS: Final[Mapping[str, Callable[[Path], Rows]]] = {
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
