"""Reads documents, as TOML or JSON gives them, into sections and whole run specs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from neuromas.errors import Fault, SpecError
from neuromas.schema.model import SpecModel
from neuromas.spec.faults import faults_of, shown
from neuromas.spec.run import RunSpec

Section = TypeVar("Section", bound=SpecModel)


def parse_run_spec(document: Mapping[str, object]) -> RunSpec:
    """Return the run spec that a document describes.

    Raises:
        SpecError: with a fault, and the path to it, for everything that is wrong. Whether sections agree with each
            other is checked once each of them is valid.
    """
    return parse_section(RunSpec, document, "the run spec")


def parse_section(section: type[Section], document: Mapping[str, object], what: str = "the section") -> Section:
    """Return one section (``PlanSpec``, ``TaskSpec`` members, ...) from a document; ``what`` names it in errors.

    Raises:
        SpecError: with a fault, and the path to it, for everything that is wrong.
    """
    if not isinstance(document, Mapping):
        raise SpecError(f"{what} is not valid", [Fault("", f"got {shown(document)}; expected a table")])
    try:
        return section.model_validate(document)
    except ValidationError as error:
        raise SpecError(f"{what} is not valid", faults_of(error, section)) from error
