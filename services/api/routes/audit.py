"""The audit log: who changed what."""

from __future__ import annotations

from fastapi import Response

from neuromas.services.api.auth import Admin
from neuromas.services.api.described import errors
from neuromas.services.api.event_stream import page
from neuromas.services.api.paging import AfterEntry, EntryLimit
from neuromas.services.api.route import router
from neuromas.services.api.schemas.artifact import StreamPage
from neuromas.services.api.service import Serviced
from neuromas.services.records.streams import AUDIT

routes = router("service")


@routes.get("/audit", response_model=StreamPage, responses=errors())
async def read_audit(caller: Admin, service: Serviced, after: AfterEntry = 0, limit: EntryLimit = 100) -> Response:
    """Read who changed what with which key, and who was refused to, oldest first."""
    return await page(service, caller.id, None, AUDIT, after, limit, 0)
