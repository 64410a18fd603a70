"""Reads documents, as TOML or JSON gives them, into whole run specs."""

from __future__ import annotations

from collections.abc import Mapping

from neuromas.schema.parse import parse_section
from neuromas.spec.run import RunSpec


def parse_run_spec(document: Mapping[str, object]) -> RunSpec:
    """Return the run spec that a document describes.

    Raises:
        SpecError: with a fault, and the path to it, for everything that is wrong. Whether sections agree with each
            other is checked once each of them is valid.
    """
    return parse_section(RunSpec, document, "the run spec")
