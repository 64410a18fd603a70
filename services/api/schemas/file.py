"""Wire models of texts that people bring along: files of examples, and run specs as TOML."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from neuromas.schema.model import SpecModel
from neuromas.services.api.schemas.view import View


class FileRequest(SpecModel):
    """A file of examples, one JSON object a line."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "train.jsonl", "content": '{"question": "1 + 1 =", "answer": "2"}\n'}}
    )
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.jsonl$")
    """How it is called; it ends in .jsonl."""
    content: str = Field(min_length=1, max_length=2**30)
    """Its text; the service's ``max_body_bytes`` bounds it."""


class FileView(View):
    """A file that runs may name."""

    object: Literal["file"] = "file"
    name: str
    path: str
    """What a spec names it by, as ``task.train`` or ``task.test``."""
    examples: int
    bytes: int


class TomlRequest(SpecModel):
    """A run spec or a topology as TOML."""

    model_config = ConfigDict(json_schema_extra={"example": {"toml": 'name = "five"\ntopology = { chain = 5 }\n'}})
    toml: str = Field(min_length=1, max_length=1_000_000)


class TomlView(View):
    """What a TOML text says, unchecked."""

    object: Literal["document"] = "document"
    document: dict[str, Any]
