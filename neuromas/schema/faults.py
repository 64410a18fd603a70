"""Turns what pydantic says about a document into faults: the path as a user writes it, what was got, the remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from neuromas.errors import Fault, SpecError
from neuromas.schema.suggest import suggest

_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a string",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "none_required": "nothing",
}
_SHOWN = 200
"""Characters of a value that a message repeats."""
MAX_FAULTS = 1000
"""Of one document: nobody reads more, and to word them takes longer than to find them."""
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "multiples of"}


def faults_of(error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """Return one fault for everything that ``error`` says about a document of ``model``, up to MAX_FAULTS of them."""
    found = error.errors(include_url=False)[:MAX_FAULTS]
    return [fault for details in found if not _follows(details, found) for fault in _faults(details, model)]


def _follows(details: ErrorDetails, others: Sequence[ErrorDetails]) -> bool:
    """Whether a list only counts as too short because pydantic left its wrong entries out."""
    place = details["loc"]
    inside = (other["loc"] for other in others if len(other["loc"]) > len(place))
    return details["type"] == "too_short" and any(other[: len(place)] == place for other in inside)


def _faults(details: ErrorDetails, model: type[BaseModel]) -> Iterator[Fault]:
    path, holder, annotation = _follow(details["loc"], model)
    raised = details.get("ctx", {}).get("error")
    if isinstance(raised, SpecError) and raised.faults:
        yield from (Fault(_joined(path, fault.path), fault.message) for fault in raised.faults)
    elif details["type"] == "extra_forbidden":
        yield Fault(path, f"unknown key; {suggest(str(details['loc'][-1]), list(holder.model_fields))}")
    elif raised is not None:
        yield Fault(path, raised.message if isinstance(raised, SpecError) else str(raised))
    else:
        yield Fault(path, _message(details, annotation))


def _message(details: ErrorDetails, annotation: Any) -> str:
    kind, context = details["type"], details.get("ctx", {})
    got = f"got {shown(details['input'])}"
    if kind == "missing":
        return "is missing" + (f"; it is {_described(annotation)}" if _described(annotation) else "")
    if kind == "union_tag_not_found":
        key = context["discriminator"].strip("'")
        return f"the key {key} is missing; allowed are {', '.join(_tags(annotation))}"
    if kind == "union_tag_invalid":
        key = context["discriminator"].strip("'")
        return f"got {key} = {context['tag']!r}; {suggest(str(context['tag']), _tags(annotation))}"
    if kind == "literal_error":
        allowed = [str(value) for value in get_args(_plain(annotation))]
        return f"{got}; {suggest(str(details['input']), allowed)}" if allowed else f"{got}; {context['expected']}"
    if kind == "string_pattern_mismatch":
        return f"{got}; allowed is text that matches {context['pattern']}"
    if kind in ("too_short", "too_long"):
        bound = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        return f"got {context['actual_length']} entries; allowed are {bound}"
    if bounds := [f"{word} {context[key]}" for key, word in _BOUNDS.items() if key in context]:
        return f"{got}; allowed is {' and '.join(bounds)}"
    expected = _EXPECTED.get(kind)
    return f"{got}; expected {expected}" if expected else f"{got}; {details['msg']}"


def _follow(location: Sequence[int | str], model: type[BaseModel]) -> tuple[str, type[BaseModel], Any]:
    """Return the path of a location as a user writes it, the innermost section on the way, and the type at the end.

    Pydantic's locations also hold the tag of a section that comes in variants (``task.chain.hops``); a path does not.
    """
    path, holder = "", model
    annotation: Any = model
    for part in location:
        annotation = _plain(annotation)
        variant = _variants(annotation).get(str(part))
        if variant is not None:
            holder = annotation = variant
        elif isinstance(part, int):
            path = f"{path}[{part}]"
            items = get_args(annotation)
            annotation = items[min(part, len(items) - 1)] if items and items[-1] is not ... else (items or (None,))[0]
        elif get_origin(annotation) is Mapping:
            path, annotation = _joined(path, part), get_args(annotation)[1]
        elif part == "[key]":  # what is wrong is the key before it
            continue
        else:
            path = _joined(path, part)
            field = None
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                holder = annotation
                field = holder.model_fields.get(part)
            annotation = field.annotation if field else None
    return path, holder, _plain(annotation)


def _joined(path: str, rest: str) -> str:
    return f"{path}.{rest}" if path and rest and not rest.startswith("[") else path + rest


def _plain(annotation: Any) -> Any:
    """Return a type without its annotations and without ``| None``."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        return _plain(members[0]) if len(members) == 1 else annotation
    return annotation


def _variants(annotation: Any) -> Mapping[str, type[BaseModel]]:
    """Return the sections of a union by the values of their tag fields."""
    if get_origin(annotation) not in (Union, UnionType):
        return {}
    return {
        str(tag): member
        for member in get_args(annotation)
        if isinstance(member, type) and issubclass(member, BaseModel)
        for field in member.model_fields.values()
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
        for tag in get_args(field.annotation)
    }


def _tags(annotation: Any) -> list[str]:
    return list(_variants(annotation))


def _described(annotation: Any) -> str:
    if _variants(annotation):
        return f"a table whose type is one of {', '.join(_tags(annotation))}"
    return {str: "a string", int: "an integer", float: "a number"}.get(annotation, "")


def shown(value: object) -> str:
    """Return a value as a message shows it: JSON-like, and only its kind where it would be long."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple) and len(repr(value)) > 60:
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
