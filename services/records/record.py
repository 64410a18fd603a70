"""The base of all records: what the store itself reads and writes of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Moves = Mapping[str | None, frozenset[str]]


class Record(BaseModel):
    """One thing that the service knows, as it is kept in the store.

    A record is never changed: the store makes the next version of it. A field that this program does not know, as a
    later one may have written, is kept as it is.
    """

    # Not a number is refused when it is written, as JSON has no word for it; the default would make it null.
    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
    )

    noun: ClassVar[str]
    """What it is, in one word; records of one noun share ids and lists."""
    updatable: ClassVar[frozenset[str]] = frozenset()
    """Fields that an update may set; all others stay as they were made."""
    moves: ClassVar[Moves] = {}
    """The states that it may go to from each state; an update makes no other move."""

    id: str = Field(min_length=1)
    state: str | None = None
    version: int = Field(default=1, ge=1)
    """Counts from 1; every update raises it."""
    created: int = Field(default_factory=lambda: int(time.time()), ge=0, lt=10**12)
    """Unix time, seconds."""
    sequence: int = Field(default=0, ge=0)
    """Number over all records of a store: what is made later has a higher one. 0 = not stored yet."""

    def to_document(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return self.model_dump(mode="json")


def new_id(prefix: str) -> str:
    """Return a fresh id such as ``run_3f9c0d1e2b7a4c58``; prefixes are run, ckpt, ep, eval, key."""
    return f"{prefix}_{secrets.token_hex(8)}"
