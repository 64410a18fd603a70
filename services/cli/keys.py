"""``neuromas keys``: makes, lists and revokes keys of the API, directly in the store."""

from __future__ import annotations

import asyncio
import os
import pwd
import time
from typing import Any

from neuromas.cli.command import Parser, add_verb, add_verbs
from neuromas.display.console import Console
from neuromas.services.api.audit import append
from neuromas.services.cli.store_options import StoreOptions, add_store_options
from neuromas.services.keys import QUOTAS, make_key, revoke_key, rotate_key, shown
from neuromas.services.records.key import KeyRecord
from neuromas.services.settings import load_settings
from neuromas.services.store.base import Store
from neuromas.services.store.open import open_store

_LIST: int = 1000

EXAMPLES = """keys create --name laptop --scope read,train,serve
keys list
keys rotate key_0123456789abcdef
keys revoke key_0123456789abcdef"""


class Arguments(StoreOptions):
    """What the command reads."""

    verb: str
    id: str
    name: str
    scope: list[str]
    requests_per_minute: int | None
    max_queued_runs: int | None
    max_queued_evaluations: int | None
    project: str | None
    days: float | None
    grace_hours: float


def add(parser: Parser) -> None:
    """Add the arguments."""
    verbs = add_verbs(parser)
    create = add_verb(verbs, "create", "make a key and show it, once")
    create.add_argument("--name", default="key", help="what you call it (default: key)")
    create.add_argument(
        "--scope", action="append", required=True, metavar="S[,S]", help="read, train, serve, admin; may be repeated"
    )
    for name in QUOTAS:
        create.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help="limit of this key; 0 = none")
    create.add_argument("--project", metavar="NAME", help="keys of one project may change what the others have made")
    create.add_argument("--days", type=float, metavar="N", help="valid for so long (default: until it is revoked)")
    rotate = add_verb(verbs, "rotate", "make a key in place of another, which expires")
    rotate.add_argument("id", metavar="KEY", help="id of the old key (key_...)")
    rotate.add_argument(
        "--grace-hours", type=float, default=24, metavar="N", help="how long the old one stays valid (default: 24)"
    )
    listed = add_verb(verbs, "list", "list keys, without their secrets")
    revoke = add_verb(verbs, "revoke", "make a key invalid for good")
    revoke.add_argument("id", metavar="KEY", help="id of the key (key_...)")
    for each in (create, rotate, listed, revoke):
        add_store_options(each)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    settings = load_settings(data_dir=arguments.data, store_url=arguments.store)
    console.show(*asyncio.run(_work(open_store(settings), arguments)))
    return 0


async def _work(store: Store, arguments: Arguments) -> tuple[str, dict[str, Any]]:
    try:
        match arguments.verb:
            case "create":
                made, text = await _create(store, arguments)
                await _tell(store, "create", made)
                return _made(made, text)
            case "rotate":
                made, text = await rotate_key(store, arguments.id, 3600 * arguments.grace_hours)
                await _tell(store, "rotate", made, replaces=arguments.id)
                return _made(made, text)
            case "revoke":
                key = await revoke_key(store, arguments.id)
                await _tell(store, "revoke", key)
                return f"{key.id} ({key.name}) is revoked", shown(key)
            case _:
                keys = (await store.list(KeyRecord, limit=_LIST)).items
                return "\n".join(map(_line, keys)) or "there are no keys", {"data": [shown(key) for key in keys]}
    finally:
        await store.close()


async def _tell(store: Store, verb: str, key: KeyRecord, **more: str) -> None:
    """Add to the audit log what a user of this machine has done to a key."""
    entry = {"type": "command", "time_s": time.time(), "command": f"keys {verb}", "user": _user(), "key": key.id}
    await append(store, entry | {"scopes": list(key.scopes), "project": key.project} | more)


def _user() -> str:
    """Return the name of the user whose process this is; its number where it has none, as in containers."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


async def _create(store: Store, arguments: Arguments) -> tuple[KeyRecord, str]:
    quota = {name: limit for name in QUOTAS if (limit := getattr(arguments, name)) is not None}
    scopes = [part.strip() for text in arguments.scope for part in text.split(",")]
    expires = None if arguments.days is None else int(time.time() + 86_400 * arguments.days)
    return await make_key(store, arguments.name, scopes, quota or None, project=arguments.project, expires=expires)


def _made(key: KeyRecord, text: str) -> tuple[str, dict[str, Any]]:
    lines = [text, f"({key.id}, {', '.join(key.scopes)}; it is shown this once: store it now)"]
    return "\n".join(lines), {**shown(key), "key": text}


def _line(key: KeyRecord) -> str:
    used = f"used {_day(key.used)}" if key.used else "never used"
    until = "" if key.expires is None else f", until {_day(key.expires)}"
    project = f"  project {key.project}" if key.project else ""
    return f"{key.id}  {key.state:<7} {','.join(key.scopes):<23} {key.name}  ({used}{until}){project}"


def _day(time_s: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time_s))
