"""Failure: why a run, an endpoint or an evaluation failed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Failure(BaseModel):
    """Why a run, an endpoint or an evaluation failed."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    code: str = "error"
    message: str = ""
    param: str | None = None
