"""The token between the API and replicas: made once, kept in the store, which all processes of the service share.

Ray Serve's proxy answers whoever reaches its port; keys, scopes and quotas are the API's. So a replica answers only
requests that bring this.
"""

from __future__ import annotations

import secrets
from typing import Final

from neuromas.services.store.base import Kind, Store

_ID: Final = "serve"
_BYTES: Final = 32


async def serve_token(store: Store) -> str:
    """Return the token; the first who asks makes it.

    Raises:
        StoreUnavailableError: the store is away.
    """
    new = {"id": _ID, "token": secrets.token_urlsafe(_BYTES)}
    document, _ = await store.create(Kind.SERVICE, new)
    token: str = document["token"]
    return token
