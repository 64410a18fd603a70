"""What people bring along: files of examples to train on, and specs as TOML."""

from __future__ import annotations

import asyncio
import tomllib

from neuromas.errors import Fault
from neuromas.services.api.auth import Reader, Trainer
from neuromas.services.api.body import Body, parse_body
from neuromas.services.api.described import errors, takes
from neuromas.services.api.files import keep_file
from neuromas.services.api.problems import invalid
from neuromas.services.api.route import router
from neuromas.services.api.schemas.file import FileRequest, FileView, TomlRequest, TomlView
from neuromas.services.api.service import Serviced
from neuromas.services.api.uploads import changing
from neuromas.services.store.base import Document

routes = router("files")


@routes.post(
    "/files",
    status_code=201,
    response_model=FileView,
    responses=errors(507, body=True),
    openapi_extra=takes("FileRequest"),
)
async def create_file(caller: Trainer, service: Serviced, document: Body) -> Document:
    """Keep a file of examples in the data folder, for runs to name."""
    wish = parse_body(FileRequest, document, "the file")
    async with changing(caller, service):
        return await asyncio.to_thread(keep_file, wish, caller, service.settings)


@routes.post("/specs:read", response_model=TomlView, responses=errors(body=True), openapi_extra=takes("TomlRequest"))
async def read_toml(_: Reader, document: Body) -> Document:
    """Read a TOML text as the document that it stands for. Nothing is checked, and nothing kept."""
    wish = parse_body(TomlRequest, document, "the text")
    try:
        found = await asyncio.to_thread(tomllib.loads, wish.toml)
        return {"object": "document", "document": found}
    except (ValueError, RecursionError) as error:
        raise invalid("the text is not valid", [Fault("toml", f"not TOML: {error}")]) from error
