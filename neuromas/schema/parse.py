"""Reads one section of a spec from a document, as TOML or JSON gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from neuromas.errors import Fault, SpecError
from neuromas.schema.faults import faults_of, shown
from neuromas.schema.model import SpecModel

Section = TypeVar("Section", bound=SpecModel)


def parse_section(section: type[Section], document: Mapping[str, object], what: str = "the section") -> Section:
    """Return one section (``PlanSpec``, the spec of a task, ...) from a document; ``what`` names it in errors.

    Raises:
        SpecError: with a fault, and the path to it, for everything that is wrong.
    """
    if not isinstance(document, Mapping):
        raise SpecError(f"{what} is not valid", [Fault("", f"got {shown(document)}; expected a table")])
    try:
        return section.model_validate(document)
    except ValidationError as error:
        raise SpecError(f"{what} is not valid", faults_of(error, section)) from error
