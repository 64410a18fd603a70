"""Wire models of adapters that people bring along."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neuromas.services.api.schemas.view import View


class AdapterView(View):
    """A PEFT adapter that runs may import."""

    name: str
    object: Literal["adapter"] = "adapter"
    method: str | None = None
    """PEFT's name of what it is; null before its configuration is there."""
    tensors: int | None = None
    """Of its weights; null before they are there."""
    bytes: int
    """Of its files together."""
    missing: list[str] = Field(default_factory=list)
    """Files that it lacks; runs may import it once there are none."""
