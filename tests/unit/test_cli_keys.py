"""Keys made on the command line are in the audit log: who did what to which."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from neuromas.cli.main import main
from neuromas.services.records.streams import AUDIT
from neuromas.services.settings import Settings
from neuromas.services.store.base import StreamEntry
from neuromas.services.store.open import open_store


async def entries(folder: Path) -> list[StreamEntry]:
    store = open_store(Settings(data_dir=folder))
    try:
        return list(await store.read(AUDIT))
    finally:
        await store.close()


def test_what_is_done_to_keys_is_audited_without_their_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def keys(*arguments: str) -> dict[str, Any]:
        assert main(["keys", *arguments, "--data", str(tmp_path), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    first = keys("create", "--name", "me", "--scope", "read,admin", "--project", "p")
    second = keys("rotate", first["id"])
    keys("revoke", second["id"])
    keys("list")
    told = [entry.document for entry in asyncio.run(entries(tmp_path))]
    assert [(each["command"], each["key"], each.get("replaces")) for each in told] == [
        ("keys create", first["id"], None),
        ("keys rotate", second["id"], first["id"]),
        ("keys revoke", second["id"], None),
    ]
    assert {each["user"] for each in told} == {pwd.getpwuid(os.getuid()).pw_name}
    assert all((each["type"], each["scopes"], each["project"]) == ("command", ["read", "admin"], "p") for each in told)
    assert not any(key["key"] in json.dumps(told) for key in (first, second))
