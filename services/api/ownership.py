"""Ownership: who may change what a key has made. To look at it, the scope read is enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuromas.services.api.auth import Caller
from neuromas.services.api.problems import ApiError
from neuromas.services.records import Scope


def owned_by(caller: Caller) -> dict[str, Any]:
    """Return what a new document says of its owner."""
    return {"owner": caller.id, "project": caller.project}


def check_owner(caller: Caller, document: Mapping[str, Any]) -> None:
    """Refuse changes of what others own.

    Allowed are the key that made it and those that were made in its place, keys of the same project, and admins.

    Raises:
        ApiError: the caller is none of these (403).
    """
    is_shared = caller.project is not None and caller.project == document.get("project")
    if caller.id == document["owner"] or is_shared or Scope.ADMIN in caller.scopes:
        return
    message = (
        f"{document['object']} {document['id']} belongs to another key; its owner, a key of its project or one "
        "with the scope admin can change it"
    )
    raise ApiError(403, "not_owner", message)
