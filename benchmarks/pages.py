"""Puts figures into pages between two marks, so that a page never shows figures that no command wrote."""

from __future__ import annotations

from pathlib import Path


def replace_table(page: Path, name: str, table: str) -> None:
    """Replace what stands between ``<!-- name:begin -->`` and ``<!-- name:end -->`` of a page.

    Raises:
        ValueError: the page lacks the marks.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = page.read_text(encoding="utf-8")
    before, first, rest = text.partition(begin)
    _, second, after = rest.partition(end)
    if not first or not second:
        raise ValueError(f"{page} has no {begin} ... {end}; put the two marks where the table belongs")
    page.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")
