"""The dashboard's files. Their names are looked up among those that are there; no path is made of a request's."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from typing_extensions import override

WEB: Final = Path(__file__).parents[2] / "web"
"""Folder of the dashboard: index.html, and what it loads under assets/."""
SHARED: Final = ("neuromas.report", "assets")
"""Package and folder of what the dashboard shares with reports."""
_NONE: Final = """<!doctype html><html lang="en"><title>NeuroMAS</title><h1>NeuroMAS</h1>
<p>The API's contract is at <a href="/openapi.json">/openapi.json</a>.</p></html>"""


class Assets(StaticFiles):
    """Files that a page loads; a browser asks each time whether its copy is still right."""

    @override
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def add_pages(app: FastAPI, web: Path = WEB) -> None:
    """Serve the dashboard at ``/``, and its files under ``/assets``.

    Args:
        app: gets the routes.
        web: folder of the dashboard.
    """

    @app.get("/", include_in_schema=False)
    async def _index() -> Response:
        index = web / "index.html"
        return FileResponse(index, headers={"Cache-Control": "no-cache"}) if index.is_file() else HTMLResponse(_NONE)

    if (web / "assets").is_dir():
        app.mount("/assets", Assets(directory=web / "assets", packages=[SHARED]), name="assets")
