"""How many values a JSON body holds, told from its bytes: what is refused before a parser makes objects of it."""

from __future__ import annotations

MAX_VALUES = 50_000
"""Values of all kinds in a body. A graph of 256 nodes with 8,192 edges has half as many."""


def holds_too_much(raw: bytes, limit: int = MAX_VALUES) -> bool:
    """Whether JSON holds more than ``limit`` values, its tables and lists among them.

    Counts separators outside of texts, by searches that take milliseconds for megabytes; of what is no JSON it says
    anything. Where it says no, a parser makes at most ``limit`` values.
    """
    if _separators(raw) < limit:  # counted in texts as well, and yet too few
        return False
    outside = raw.replace(b"\\\\", b"").replace(b'\\"', b"")  # left are quotes that begin or end a text
    if outside.count(b'"') > 4 * limit:  # as many texts as values and keys can be
        return True
    return _separators(b"".join(outside.split(b'"')[::2])) >= limit


def _separators(raw: bytes) -> int:
    # Of a table or list with n entries, n - 1 commas and its bracket: one for each value but the outermost.
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")
