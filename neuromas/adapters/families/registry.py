"""All families by the name that a spec gives them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BeforeValidator, Field

from neuromas.adapters.families.adamss.spec import AdamssSpec
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.families.hyper.spec import HyperSpec
from neuromas.adapters.families.loft.spec import LoftSpec
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.families.ssf.spec import SsfSpec
from neuromas.adapters.families.unilora.spec import UniLoraSpec

FAMILIES: Final[Mapping[str, type[AdapterSpec]]] = {
    "lora": LoraSpec,
    "unilora": UniLoraSpec,
    "loft": LoftSpec,
    "ssf": SsfSpec,
    "adamss": AdamssSpec,
    "hyper": HyperSpec,
}
DEFAULT: Final = "lora"
"""Family of a section that names none."""


def _with_type(value: object) -> object:
    if isinstance(value, AdapterSpec):
        return value
    # A tag must be in the data; here alone it has a default.
    return {"type": DEFAULT, **value} if isinstance(value, Mapping) else value


if TYPE_CHECKING:
    AnyAdapterSpec = AdapterSpec
else:
    _union = reduce(or_, FAMILIES.values())
    AnyAdapterSpec = Annotated[Annotated[_union, Field(discriminator="type")], BeforeValidator(_with_type)]
"""The section ``adapter`` of a run spec: the union of all families, told apart by ``type``."""


def adapter_spec(document: Mapping[str, object]) -> AdapterSpec:
    """Return the section that a document describes.

    Raises:
        ValidationError: it is not valid; documents of users are read with ``neuromas.spec.parse``.
    """
    return FAMILIES[str(document["type"])].model_validate(document)


def default_adapter() -> AdapterSpec:
    """Return the section of a run that says nothing about its adapters."""
    return FAMILIES[DEFAULT].model_validate({"type": DEFAULT})
