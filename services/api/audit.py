"""Audit: who changed what, and who was refused to. One entry of a stream for each request that changes something."""

from __future__ import annotations

import logging
import secrets
import time
from typing import Final

from fastapi import Request

from neuromas.services.api.auth import Caller
from neuromas.services.api.service import service_of
from neuromas.services.logs import request_id
from neuromas.services.records.streams import AUDIT
from neuromas.services.store.base import Store, StoreUnavailableError
from neuromas.serving.ask_route import DIALECTS

logger = logging.getLogger(__name__)
_LOOKS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX_PATH: Final = 256
"""Characters of a path that are kept: longer than that of any route with an id that is allowed."""
_CHANGE_NOTHING: Final = (*DIALECTS, "/v1/topologies:validate", "/v1/specs:read")


def is_audited(request: Request) -> bool:
    """Whether a request may change something."""
    path = request.scope["path"]
    return request.method not in _LOOKS and path not in _CHANGE_NOTHING and not path.endswith("/grow:validate")


async def tell(request: Request, caller: Caller, status: int, code: str = "") -> None:
    """Add an entry; a store that has just gone away delays nothing, the log then has the line."""
    entry = {
        "type": "request",
        "time_s": time.time(),
        "owner": caller.id,
        "key": caller.key,
        "method": request.method,
        "path": request.scope["path"][:_MAX_PATH],
        "status": status,
        "code": code,
        "request": request_id.get(),
    }
    await append(service_of(request).store, entry)


async def append(store: Store, entry: dict[str, object]) -> None:
    """Add an entry to the stream."""
    try:
        await store.append(AUDIT, [(secrets.token_hex(8), entry)])
    except StoreUnavailableError as error:
        logger.warning("not in the audit log", extra={"entry": entry, "reason": str(error)})
