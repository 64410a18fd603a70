"""HTML and SVG as values: every text is escaped when an element is made, so nothing a model wrote becomes markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

_VOID = frozenset({"meta", "br", "hr"})


class Markup(str):
    """Text that is HTML already. Only ``element``, ``join`` and shipped files make it."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[str] | None"
Attribute: TypeAlias = "str | float | bool | None"


def element(tag: str, *children: Child, **attributes: Attribute) -> Markup:
    """Return ``<tag ...>children</tag>``.

    Args:
        tag: name of the element.
        children: escaped unless they are Markup; None is left out.
        attributes: ``class_`` becomes ``class`` and inner underscores hyphens; None and False are left out, True is
            written without a value, floats with two decimals.
    """
    opening = "".join([tag, *(_attribute(name, value) for name, value in attributes.items())])
    if tag in _VOID:
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{join(children)}</{tag}>")


def join(children: Iterable[Child], separator: str = "") -> Markup:
    """Return the children one after the other, escaped where they are plain text."""
    return Markup(separator.join(_text(child) for child in children))


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, str):
        return child if isinstance(child, Markup) else escape(child)
    return join(child)


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    written = name.removesuffix("_").replace("_", "-")
    if value is True:
        return f" {written}"
    if isinstance(value, float):
        value = f"{value:.2f}".rstrip("0").rstrip(".")
    return f' {written}="{escape(str(value))}"'
