"""From settings to the store they name."""

from __future__ import annotations

from neuromas.services.settings import Settings
from neuromas.services.store.base import Store
from neuromas.services.store.sqlite import SqliteStore


def open_store(settings: Settings) -> Store:
    """Return the store of the service; nothing is opened before its first call."""
    if settings.uses_sqlite:
        return SqliteStore(settings.sqlite_file)
    # The one place that loads the Redis client, which an embedded service does without.
    from neuromas.services.store.redis import RedisStore

    password = None if settings.store_password is None else settings.store_password.get_secret_value()
    return RedisStore(settings.store_url, password)
