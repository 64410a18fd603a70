"""The tag by which chat templates mark what the assistant wrote. Imports Jinja."""

from __future__ import annotations

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser


class GenerationTag(Extension):
    """Reads ``{% generation %} ... {% endgeneration %}`` as what stands between; masks are not asked for here."""

    tags = {"generation"}  # noqa: RUF012 # as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the nodes inside the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
