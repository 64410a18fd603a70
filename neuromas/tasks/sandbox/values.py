"""Plain values as lines of JSON: what a test and a program may hand each other. Anything else stays where it is.

Only exact copies of built-in kinds come out of a line, so that a program cannot answer with an object that is equal to
everything.
"""

import json
from typing import Any

_MANY: dict[str, Any] = {"l": list, "t": tuple, "s": set, "f": frozenset}


def to_line(value: object) -> bytes:
    """Return a value as a line.

    Raises:
        TypeError: it is, or holds, something that is no plain value.
        RecursionError: it is nested too deep, or holds itself.
    """
    return json.dumps(_packed(value)).encode() + b"\n"


def from_line(line: bytes) -> Any:
    """Return the value in a line.

    Raises:
        ValueError: the line holds none.
    """
    try:
        return _unpacked(json.loads(line))
    except (TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"no plain value: {error!r}") from error


def _packed(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, complex):
        return ["c", value.real, value.imag]
    if isinstance(value, bytes | bytearray):
        return ["b", bytes(value).hex()]
    if isinstance(value, dict):
        return ["d", *([_packed(key), _packed(item)] for key, item in dict.items(value))]
    for tag, kind in _MANY.items():
        if isinstance(value, kind):
            return [tag, *map(_packed, kind.__iter__(value))]
    raise TypeError(f"{type(value).__name__} is no plain value")


def _unpacked(packed: Any) -> Any:
    if not isinstance(packed, list):
        if isinstance(packed, dict):
            raise ValueError("got a table without its tag")
        return packed
    tag, *rest = packed
    if tag == "c":
        return complex(*rest)
    if tag == "b":
        return bytes.fromhex(rest[0])
    if tag == "d":
        return {_unpacked(key): _unpacked(item) for key, item in rest}
    return _MANY[tag](map(_unpacked, rest))
