"""TextTemplate: text with named places. Only names are looked up: no attributes, no format specs, no code."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from string import Formatter

from neuromas.errors import SpecError
from neuromas.topology.graph import NAME

_INDEXED = re.compile(rf"(\w+)\[({NAME.pattern})\]")


class TextTemplate:
    """A template whose fields are written in braces, ``{layer}``; ``{{`` and ``}}`` stand for braces."""

    def __init__(self, text: str, setting: str, fields: Sequence[str], indexed: str | None = None) -> None:
        """Take a template.

        Args:
            text: the template.
            setting: where the user wrote it, for errors.
            fields: names that may be used.
            indexed: the one of them that may be asked for a node's part, as in ``{messages[n1]}``.

        Raises:
            SpecError: a field is unknown, or has a format or a conversion.
        """
        try:
            parts = list(Formatter().parse(text))
        except ValueError as e:
            raise SpecError(f"{setting} is not a valid template: {e}; write {{{{ and }}}} for braces") from e
        self._parts = [(literal, field) for literal, field, _, _ in parts]
        for _, field, form, conversion in parts:
            if field is None:
                continue
            match = _INDEXED.fullmatch(field)
            if field not in fields and (match is None or match[1] != indexed):
                allowed = ", ".join(f"{{{name}}}" for name in sorted(fields))
                raise SpecError(f"{setting} uses {{{field}}}; allowed are {allowed}")
            if form or conversion:
                raise SpecError(f"{setting} gives {{{field}}} a format; a field is its name alone")

    def shows(self, name: str) -> bool:
        """Whether a field, or a node's part of it, is used."""
        return any(field == name or (field or "").startswith(f"{name}[") for _, field in self._parts)

    def fill(self, value: Callable[[str], str]) -> str:
        """Return the text with ``value(field)`` in the place of each field."""
        return "".join(literal + ("" if field is None else value(field)) for literal, field in self._parts)
