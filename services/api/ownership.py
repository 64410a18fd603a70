"""Ownership: who may change what a key has made. To look at it, the scope read is enough."""

from __future__ import annotations

from typing import TypedDict

from neuromas.services.api.auth import Caller
from neuromas.services.api.problems import ApiError
from neuromas.services.records.endpoint import EndpointRecord
from neuromas.services.records.evaluation import EvaluationRecord
from neuromas.services.records.key import Scope
from neuromas.services.records.run import RunRecord


class Ownership(TypedDict):
    """What a record says of its owner."""

    owner: str
    project: str | None


def owned_by(caller: Caller) -> Ownership:
    """Return what a new record says of its owner."""
    return {"owner": caller.id, "project": caller.project}


def check_owner(caller: Caller, record: RunRecord | EndpointRecord | EvaluationRecord) -> None:
    """Refuse changes of what others own.

    Allowed are the key that made it and those that were made in its place, keys of the same project, and admins.

    Raises:
        ApiError: the caller is none of these (403).
    """
    is_shared = caller.project is not None and caller.project == record.project
    if caller.id == record.owner or is_shared or Scope.ADMIN in caller.scopes:
        return
    message = (
        f"{record.noun} {record.id} belongs to another key; its owner, a key of its project or one "
        "with the scope admin can change it"
    )
    raise ApiError(403, "not_owner", message)
