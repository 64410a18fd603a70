"""The base of all answers, lists of them, and the one shape of errors."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")


class View(BaseModel):
    """One kind of answer. Documents of the store may hold more; clients see what is named here."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)


class Listing(View, Generic[Item]):
    """A page of a list."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    """Whether more follow; ask for them with ``after`` = ``last_id``."""
    last_id: str | None = None
    """Id of the last entry; null for an empty page."""


class FaultView(View):
    """One thing that is wrong with a request."""

    path: str
    """Where, such as ``training.steps`` or ``topology.nodes[2].id``; empty for the whole."""
    message: str
    """What was got, and what is allowed."""


class ErrorView(View):
    """Why a request was not answered."""

    code: str
    """For programs; stable."""
    message: str
    param: str | None = None
    """Path of the first fault."""
    type: str
    faults: list[FaultView] = Field(default_factory=list)
    """Everything that is wrong with the request."""


class ErrorBody(View):
    """Body of every answer that is no success."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "error": {
                    "code": "invalid_spec",
                    "message": "the run spec is not valid: training.steps: got 0; allowed is at least 1",
                    "param": "training.steps",
                    "type": "invalid_request_error",
                    "faults": [{"path": "training.steps", "message": "got 0; allowed is at least 1"}],
                }
            }
        }
    )
    error: ErrorView


class Deleted(View):
    """What was deleted."""

    id: str
    object: str
    deleted: bool = Field(default=True)
