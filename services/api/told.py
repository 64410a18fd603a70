"""Told: what is stored, as clients see it. JSON that is stored is not read to be written again.

Entries of streams are told as they are stored. Records are told through their views, and what has come of a text is
remembered: a list that is asked for again costs what has changed in it.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from fastapi import Response

from neuromas.services.api.schemas.view import View
from neuromas.services.records.record import Record
from neuromas.services.store.base import StreamEntry
from neuromas.services.store.versions import read

_REMEMBERED_CHARACTERS: Final = 2**24
_STEP: Final = '{"type":"step",'


class Telling:
    """Records of one store through their views, the last ones remembered.

    Attributes:
        size: characters that are.
    """

    def __init__(self, most: int = _REMEMBERED_CHARACTERS) -> None:
        """Remember nothing yet; ``most`` characters are, of texts and of what came of them."""
        self._most = most
        self.size = 0
        self._told: OrderedDict[tuple[type[View], str], tuple[str, str]] = OrderedDict()

    def tell(self, kind: type[Record], view: type[View], text: str) -> tuple[str, str]:
        """Return a record's id, and its view as JSON.

        Args:
            kind: of the record.
            view: what clients see of it.
            text: as it is stored.

        Raises:
            StoreUnusableError: it is no record of the kind.
        """
        key = view, text
        if (known := self._told.get(key)) is not None:
            self._told.move_to_end(key)
            return known
        record = read(kind, text)
        told = record.id, view.model_validate(record, from_attributes=True).model_dump_json()
        self._told[key] = told
        self.size += len(text) + len(told[1])
        while self.size > self._most:
            (_, gone), (_, body) = self._told.popitem(last=False)
            self.size -= len(gone) + len(body)
        return told


def told_page(items: Iterable[str], last_id: str | int | None, *, has_more: bool) -> Response:
    """Return a page of a list, or of a stream, of entries that are JSON."""
    end = f'"has_more":{"true" if has_more else "false"},"last_id":{json.dumps(last_id)}'
    body = f'{{"object":"list","data":[{",".join(items)}],{end}}}'
    return Response(body.encode(), media_type="application/json")


def told_entry(entry: StreamEntry) -> str:
    """Return an entry's document with its id, as JSON."""
    # Other places than the first of a document may hold an "id" too; what is rare may be slow.
    if '"id":' in entry.text or len(entry.text) < len('{"":0}'):
        return json.dumps({"id": entry.id, **entry.document}, separators=(",", ":"))
    return f'{{"id":{entry.id},{entry.text[1:]}'


def told_step(entry: StreamEntry) -> str | None:
    """Return the metrics of an optimizer step, as JSON; None where an entry tells something else."""
    if entry.text.startswith(_STEP):  # as drivers write it: stage, step, time and metrics follow, and nothing else
        return f'{{"id":{entry.id},{entry.text[len(_STEP) :]}'
    return None
