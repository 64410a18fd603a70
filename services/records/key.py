"""Keys of the API: what is known of one, and what it may do."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final, Literal, TypedDict

from neuromas.services.records.record import Moves, Record


class Scope(StrEnum):
    """What a key may do: look, train and evaluate, or ask endpoints (and deploy them).

    With admin it may do so to what other keys own, and read the audit log.
    """

    READ = "read"
    TRAIN = "train"
    SERVE = "serve"
    ADMIN = "admin"


class KeyState(StrEnum):
    """States of a key."""

    ACTIVE = "active"
    REVOKED = "revoked"


_MOVES: Final[Moves] = {KeyState.ACTIVE: frozenset({KeyState.REVOKED})}


class KeyUpdate(TypedDict, total=False):
    """What changes in a key."""

    state: KeyState
    expires: int
    used: int
    revoked: int


class KeyRecord(Record):
    """A key: a hash of it, never the key itself."""

    noun: ClassVar[str] = "key"
    updatable: ClassVar[frozenset[str]] = frozenset(KeyUpdate.__annotations__)
    moves: ClassVar[Moves] = _MOVES

    object: Literal["key"] = "key"
    name: str
    hash: str
    """SHA-256 of its secret."""
    scopes: tuple[Scope, ...]
    quota: dict[str, int] | None = None
    """Limits of this key in place of the settings'; None = it has none of its own."""
    state: KeyState = KeyState.ACTIVE
    project: str | None = None
    """Keys of one may change what the others have made; None = only its own."""
    expires: int | None = None
    """Unix seconds from which on it is not valid; None = it is until it is revoked."""
    owner: str = ""
    """Id of the key that owns what is made with it; empty = its own."""
    used: int | None = None
    """Unix seconds of a late use; None = not used yet."""
    revoked: int | None = None
    """Unix seconds; None = it is not."""

    @property
    def owner_id(self) -> str:
        """Id of the key that owns what is made with it."""
        return self.owner or self.id
