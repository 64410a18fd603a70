"""What the bodies of all requests for answers are made of: checks of settings, texts in parts, notes of clients."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from neuromas.topology.graph import MIN_TEMPERATURE

_MAX_STOP = 256
MAX_STOPS = 4
_MAX_NOTE = 1024
MAX_TEXT = 4 * 2**20
"""Characters of one text."""
MAX_PARTS = 4096
"""Parts of one content."""
Text = Annotated[str, Field(max_length=MAX_TEXT)]
_Parts = Annotated[list[dict[str, Any]], Field(max_length=MAX_PARTS)]
MAX_BUDGET = 2**31 - 1
"""Tokens of an answer's budget."""


class Wire(BaseModel):
    """A body from outside: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def only(*allowed: Any) -> BeforeValidator:
    """Return the check of a setting that may be absent, null or one of ``allowed``, and does nothing."""

    def check(value: Any) -> None:
        if value is not None and value not in allowed:
            listed = ", ".join(map(repr, allowed))
            raise ValueError(f"is not supported; leave it out, or send {listed or 'null'}")

    return BeforeValidator(check)


def not_null(default: Any) -> BeforeValidator:
    """Return what turns null into ``default``, as OpenAI's API does."""
    return BeforeValidator(lambda value: default if value is None else value)


def text_of(*kinds: str) -> BeforeValidator:
    """Return the reader of a content: a text, null, or a list of parts of these kinds, all of which are text."""

    def read(value: Any) -> Any:
        if value is None:
            return ""
        if not isinstance(value, list):
            return value
        if len(value) > MAX_PARTS:
            raise ValueError(f"has {len(value)} parts; allowed are {MAX_PARTS}")
        texts = []
        for place, part in enumerate(value):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            if kind not in kinds or not isinstance(part.get("text"), str):
                known = " or ".join(map(repr, kinds))
                raise ValueError(f"part {place} is of type {kind!r}; only parts of type {known} can be read")
            texts.append(part["text"])
        return "".join(texts)

    return BeforeValidator(read, json_schema_input_type=Text | _Parts | None)


def _read_stop(value: Any) -> Any:
    """Return stop texts as a list; null and an empty list are none."""
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if isinstance(stops, list) and "" in stops:
        raise ValueError("holds an empty text, which is everywhere")
    return stops


def _zero_or_warm(value: float | None) -> float | None:
    """Refuse temperatures at which probabilities overflow; engines would quietly take another."""
    if value is not None and 0 < value < MIN_TEMPERATURE:
        raise ValueError(f"got {value}; allowed are 0, which is greedy, and {MIN_TEMPERATURE} to 2")
    return value


Note = Annotated[str, Field(max_length=_MAX_NOTE)]
_Stop = Annotated[str, Field(max_length=_MAX_STOP)]
_StopList = Annotated[list[_Stop], Field(max_length=MAX_STOPS)]
Stops = Annotated[tuple[_Stop, ...], BeforeValidator(_read_stop, json_schema_input_type=_Stop | _StopList | None)]
Temperature = Annotated[float | None, AfterValidator(_zero_or_warm)]
