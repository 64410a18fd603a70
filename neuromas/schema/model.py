"""The strict, frozen base of all spec sections: unknown keys are refused, values are never coerced."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, model_validator


class SpecModel(BaseModel):
    """One section of a run spec. Documents are read with ``neuromas.schema.parse``, whose faults name the way out."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: object) -> object:
        # TOML and JSON have lists only; strict fields of frozen sections are tuples.
        return _frozen(value) if isinstance(value, Mapping) else value

    def is_default(self, setting: str) -> bool:
        """Whether a setting has its default value; one that would do nothing must."""
        return bool(getattr(self, setting) == type(self).model_fields[setting].default)


def _frozen(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
