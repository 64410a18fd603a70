"""``neuromas keys``: makes, lists and revokes keys of the API, directly in the store."""

from __future__ import annotations

import asyncio
from typing import Any

from neuromas.cli.console import Console
from neuromas.cli.parser import Arguments
from neuromas.services.keys import make_key, revoke_key, shown
from neuromas.services.settings import load_settings
from neuromas.services.store.base import Document, Kind, Store
from neuromas.services.store.open import open_store

_LIST: int = 1000


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    settings = load_settings(data_dir=arguments.data, store_url=arguments.store)
    console.show(*asyncio.run(_work(open_store(settings), arguments)))
    return 0


async def _work(store: Store, arguments: Arguments) -> tuple[str, dict[str, Any]]:
    try:
        match arguments.verb:
            case "create":
                return await _create(store, arguments)
            case "revoke":
                key = shown(await revoke_key(store, arguments.id))
                return f"{key['id']} ({key['name']}) is revoked", key
            case _:
                page = await store.list(Kind.KEY, limit=_LIST)
                keys = [shown(key) for key in page.items]
                return "\n".join(map(_line, keys)) or "there are no keys", {"data": keys}
    finally:
        await store.close()


async def _create(store: Store, arguments: Arguments) -> tuple[str, dict[str, Any]]:
    limits = {"requests_per_minute": arguments.requests_per_minute, "max_queued_runs": arguments.max_queued_runs}
    quota = {name: limit for name, limit in limits.items() if limit is not None}
    scopes = [part.strip() for text in arguments.scope for part in text.split(",")]
    document, text = await make_key(store, arguments.name or "key", scopes, quota or None)
    lines = [text, f"({document['id']}, {', '.join(document['scopes'])}; it is shown this once: store it now)"]
    return "\n".join(lines), {**shown(document), "key": text}


def _line(key: Document) -> str:
    return f"{key['id']}  {key['state']:<8}{','.join(key['scopes']):<18}{key['name']}"
