"""Answer stream: events of an endpoint on their way to our client, whole, and an end of their kind if they break."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp

from neuromas.services.api.problems import ApiError
from neuromas.services.store.base import Document
from neuromas.serving.response_form import RESPONSE_ENDS

_GAP: Final = b"\n\n"
"""Between two events."""
_HAS_USAGE: Final = b'"usage":{'


class AnswerStream:
    """The events of one answer.

    What is told of a stream that breaks off has the shape of the rest of it: an event with an error for choices,
    ``response.failed`` with the response as it had begun for responses.
    """

    def __init__(
        self, parts: AsyncIterator[bytes], endpoint: str, model: str, count: Callable[[Document], None]
    ) -> None:
        """Take a stream.

        Args:
            parts: the endpoint's bytes as they come.
            endpoint: its name.
            model: what our client calls it.
            count: is told every event with a usage.
        """
        self._parts = parts
        self._endpoint = endpoint
        self._model = None if model == endpoint else model
        self._count = count
        self._rest = b""
        self._head = b""
        self._first: Document = {}
        self._last = b""

    async def begin(self) -> None:
        """Wait for the first events.

        Raises:
            ApiError: there are none (502).
            aiohttp.ClientError: the connection broke.
        """
        async for part in self._parts:
            self._head = self._whole(part)
            if self._head:
                self._first = _document(self._head.partition(_GAP)[0])
                return
        raise self._broken("without an answer")

    async def events(self) -> AsyncIterator[bytes]:
        """Yield what has come and what comes, some whole events at a time, the end among them."""
        yield self._head
        why = "in the middle of its answer"
        try:
            async for part in self._parts:
                if events := self._whole(part):
                    yield events
        except aiohttp.ClientError as error:
            why = f"{why} ({type(error).__name__})"
        if not self.has_ended:
            self._last = self._failure(self._broken(why))  # the status is out
            yield self._last

    def _whole(self, part: bytes) -> bytes:
        """Return the events that a part makes whole, by our client's name for the model."""
        text, gap, self._rest = (self._rest + part).rpartition(_GAP)
        if not gap:
            return b""
        events = text.split(_GAP)
        if self._model is not None:
            events = [_renamed(event, self._model) for event in events]
        for event in events:
            if _HAS_USAGE in event:
                self._count(_document(event))
        self._last = events[-1]
        return _GAP.join(events) + _GAP

    @property
    def has_ended(self) -> bool:
        """Whether the last event leaves nothing to wait for."""
        last = _document(self._last)
        return not last or "error" in last or last.get("type") in RESPONSE_ENDS

    def _broken(self, why: str) -> ApiError:
        return ApiError(502, "endpoint_failed", f"endpoint {self._endpoint} broke off {why}")

    def _failure(self, problem: ApiError) -> bytes:
        """Return the event that ends a broken stream."""
        if "response" not in self._first:
            return _event(problem.document)  # OpenAI's clients raise what they find in an event of this shape
        error = {"code": "server_error", "message": str(problem)}
        failed = {
            "type": "response.failed",
            "sequence_number": _document(self._last)["sequence_number"] + 1,
            "response": self._first["response"] | {"status": "failed", "error": error},
        }
        return b"event: response.failed\n" + _event(failed)


def _data(event: bytes) -> str:
    """Return what an event carries."""
    lines = event.decode(errors="replace").splitlines()
    return "\n".join(line.removeprefix("data: ") for line in lines if line.startswith("data: "))


def _document(event: bytes) -> Document:
    """Return an event's document; empty for the mark behind the last one."""
    data = _data(event)
    if not data.startswith("{"):
        return {}
    document: Document = json.loads(data)
    return document


def _renamed(event: bytes, model: str) -> bytes:
    document = _document(event)
    named = document.get("response", document)
    if "model" not in named:
        return event
    named["model"] = model
    kind = event.partition(b"data: ")[0]
    return kind + _event(document).removesuffix(_GAP)


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + _GAP
