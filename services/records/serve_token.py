"""The token between the API and replicas, as it is kept."""

from __future__ import annotations

from typing import ClassVar, Literal

from neuromas.services.records.record import Record


class ServeTokenRecord(Record):
    """What replicas ask of whoever asks them."""

    noun: ClassVar[str] = "service"

    id: Literal["serve"] = "serve"
    token: str
