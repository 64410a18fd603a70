"""The token between the API and replicas: made once, kept in the store, which all processes of the service share.

Ray Serve's proxy answers whoever reaches its port; keys, scopes and quotas are the API's. So a replica answers only
requests that bring this.
"""

from __future__ import annotations

import secrets
from typing import Final

from neuromas.services.records.serve_token import ServeTokenRecord
from neuromas.services.store.base import Store

_BYTES: Final = 32


async def serve_token(store: Store) -> str:
    """Return the token; the first who asks makes it.

    Raises:
        StoreUnavailableError: the store is away.
    """
    record, _ = await store.create(ServeTokenRecord(token=secrets.token_urlsafe(_BYTES)))
    return record.token
