"""Overrides from a command line: ``training.steps=10``, ``topology.chain=7``, ``growth.plans[0].inherit.new=copy``."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from neuromas.errors import Fault, SpecError
from neuromas.topology.document import FORMS

_PATH = re.compile(r"[\w-]+(\[\d+\])*(\.[\w-]+(\[\d+\])*)*")
_STEP = re.compile(r"[\w-]+|\[(\d+)\]")


def apply_overrides(document: Mapping[str, object], overrides: Sequence[str]) -> dict[str, object]:
    """Return a copy of a document with values replaced, later overrides last.

    A value is read as TOML (``10``, ``1e-3``, ``true``, ``"text"``, ``[3, 5, 7]``, ``{type = "tree", depth = 3}``),
    ``null`` as no value, and anything else as a string. Missing tables are made. Overriding the form of a topology
    (``topology.chain=7``) replaces the form it had.

    Raises:
        SpecError: an override is not ``path=value``, or its path leads through something that is no table.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(document))
    faults = []
    for override in overrides:
        path, equals, text = override.partition("=")
        path = path.strip()
        if not equals or not _PATH.fullmatch(path):
            faults.append(Fault("", f"got {override!r}; expected path=value such as training.steps=10"))
            continue
        try:
            _set(changed, path, _value(text.strip()))
        except LookupError as error:
            faults.append(Fault(path, str(error.args[0])))
    if faults:
        raise SpecError("the overrides are not valid", faults)
    return changed


def _value(text: str) -> object:
    if text == "null":
        return None
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    # A line break in the text could smuggle in further keys; then it is a string like any other.
    return parsed["value"] if set(parsed) == {"value"} else text


def _set(document: dict[str, Any], path: str, value: object) -> None:
    steps: list[str | int] = [int(match[1]) if match[1] else match[0] for match in _STEP.finditer(path)]
    place: Any = document
    for index, step in enumerate(steps[:-1]):
        if isinstance(step, str) and isinstance(place, dict):
            place = place.setdefault(step, {})
        else:
            place = _item(place, step, steps[:index])
    last = steps[-1]
    if isinstance(last, str) and isinstance(place, dict):
        if steps[:-1] in ([], ["topology"]) and last in FORMS:
            _drop_form(place)
        place[last] = value
    else:
        _item(place, last, steps[:-1])
        place[last] = value


def _item(place: Any, step: str | int, before: Sequence[str | int]) -> Any:
    where = ".".join(map(str, before)) or "the document"
    if not (isinstance(place, list) and isinstance(step, int)):
        raise LookupError(f"{where} is not a {'list' if isinstance(step, int) else 'table'}; cannot set {step} in it")
    if step >= len(place):
        raise LookupError(f"got index {step}; {where} has {len(place)} entries, counted from 0")
    return place[step]


def _drop_form(topology: dict[str, Any]) -> None:
    for key in (*FORMS, "edges", "output"):
        topology.pop(key, None)
