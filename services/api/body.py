"""Bodies of requests: read as strict JSON, and parsed with all faults at once."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, NoReturn, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from neuromas.errors import Fault
from neuromas.schema.faults import faults_of
from neuromas.services.api.bounds import MAX_EDGES
from neuromas.services.api.problems import MAX_FAULTS, ApiError, invalid
from neuromas.serving.body_size import holds_too_much

Model = TypeVar("Model", bound=BaseModel)
Document = dict[str, Any]

MAX_DEPTH: Final = 64
"""Tables and lists inside each other that a body may have."""
MAX_KEYS: Final = 512
"""Keys of one table."""
MAX_ITEMS: Final = MAX_EDGES
"""Entries of one list: the edges of a graph may be as many."""
MAX_VALUES: Final = 100_000
"""Values of all kinds in a body. A graph of 10,000 nodes with 15,000 edges has 65,000."""
MAX_NUMBER: Final = 2**63
"""Largest number."""
_SMALL_BYTES: Final = 2**16
"""Size of bodies from which on the event loop does something else while they are read."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


async def read_document(request: Request) -> Document:
    """Return the JSON object in a request's body.

    Raises:
        ApiError: it is of another type (415), not JSON (400), or no object (422).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # Also a guard: a page of another site can send a browser's forms and texts here, but not this type.
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        message = f"got content type {kind or 'none'}; send application/json"
        raise ApiError(415, "unsupported_media_type", message, param="Content-Type")
    raw = await request.body()
    document = parse_json(raw) if len(raw) <= _SMALL_BYTES else await asyncio.to_thread(parse_json, raw)
    if not isinstance(document, dict):
        raise invalid("the body is not valid", [Fault("", "expected a JSON object")])
    return document


Body = Annotated[Document, Depends(read_document)]


def parse_json(raw: bytes) -> object:
    """Return the value that strict JSON stands for.

    Raises:
        ApiError: it is no JSON, has a key twice, a number or text that others could not read, or is nested too deeply.
    """
    if holds_too_much(raw, MAX_VALUES):
        raise invalid("the body is not valid", [Fault("", f"has more than {MAX_VALUES} values, the limit")])
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "too many tables inside each other" if isinstance(error, RecursionError) else str(error)
        raise ApiError(400, "invalid_json", f"the body is not valid JSON: {reason[:200]}") from error
    inspection = _Inspection()
    inspection.look(value, "")
    if inspection.faults:
        raise invalid("the body is not valid", inspection.faults)
    return value


def parse_body(model: type[Model], document: Mapping[str, Any], what: str = "the body") -> Model:
    """Return a request's body as its model.

    Raises:
        ApiError: with a fault, and the path to it, for everything that is wrong.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid(f"{what} is not valid", faults_of(error, model)) from error


@dataclass(slots=True)
class _Inspection:
    """Looks through a value for what keeps it from being checked quickly, stored, and sent back as it is."""

    faults: list[Fault] = field(default_factory=list)

    def look(self, value: object, path: str, depth: int = 0) -> None:
        """Add what is wrong with a value and what is in it."""
        if depth > MAX_DEPTH:
            self._add(path, f"is nested too deeply; allowed are {MAX_DEPTH} tables and lists inside each other")
        elif isinstance(value, dict):
            self._look_into(value, path, depth)
        elif isinstance(value, list) and len(value) > MAX_ITEMS:
            self._add(path, f"has {len(value)} entries; allowed are {MAX_ITEMS}")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.look(item, f"{path}[{index}]", depth + 1)
        elif isinstance(value, str) and _LONE_SURROGATE.search(value):
            self._add(path, "is no text: it holds half of a character (a lone surrogate)")
        elif isinstance(value, int | float) and abs(value) > MAX_NUMBER:
            self._add(path, f"got a number beyond 2^63; allowed are up to {MAX_NUMBER}")

    def _look_into(self, table: Document, path: str, depth: int) -> None:
        if len(table) > MAX_KEYS:
            self._add(path, f"has {len(table)} keys; allowed are {MAX_KEYS}")
            return
        for key, item in table.items():
            if _LONE_SURROGATE.search(key):
                self._add(path, f"the key {key[:60]!a} is no text")
            else:
                self.look(item, f"{path}.{key}" if path else key, depth + 1)

    def _add(self, path: str, message: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(path, message))


def _without_repeats(pairs: list[tuple[str, object]]) -> Document:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {repeated[:60]!r} is given twice in one object")
    return table


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"got {name}, expected a finite number")
