"""The strict, frozen base of all spec sections: unknown keys are refused, values are never coerced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from neuromas.errors import Fault, SpecError

Retired = Mapping[str, tuple[tuple[object, ...], str]]
"""Settings that a section once had -> what were their defaults, and what holds instead of them."""


class SpecModel(BaseModel):
    """One section of a run spec. Documents are read with ``neuromas.schema.parse``, whose faults name the way out."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
    retired: ClassVar[Retired] = {}
    """The spec of an earlier run has all of them, nearly always with a value that nobody chose: it is read as if they
    were not there. Any other value asked for something, and is refused."""

    @model_validator(mode="before")
    @classmethod
    def _read_document(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        # TOML and JSON have lists only; strict fields of frozen sections are tuples.
        document = {key: _frozen(item) for key, item in value.items()}
        given = [(key, *cls.retired[key]) for key in cls.retired if key in document]
        if faults := [
            Fault(key, f"is gone: {instead}; leave it out")
            for key, defaults, instead in given
            if document[key] not in defaults
        ]:
            raise SpecError("settings are gone", faults)
        return {key: item for key, item in document.items() if key not in cls.retired}

    def is_default(self, setting: str) -> bool:
        """Whether a setting has its default value; one that would do nothing must."""
        return bool(getattr(self, setting) == type(self).model_fields[setting].default)


def _frozen(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
