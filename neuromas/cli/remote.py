"""Remote: a server of NeuroMAS, as the command line asks it. Errors of the server become errors of the command."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from neuromas.errors import Fault, NeuroMASError, SpecError, writing

Document = dict[str, Any]
DEFAULT: Final = "http://127.0.0.1:8080"
_TIMEOUT_S: Final = 60.0
_SILENCE_S: Final = 60.0
"""Longest silence of an event stream; the server sends a sign of life more often."""
_RETRY_S: Final = 1.0
_AWAY_S: Final = 120.0
"""Longest time that a server which was followed may be away before nobody waits for it any more."""
ENDED: Final = ("succeeded", "failed", "cancelled")
"""States that a run never leaves."""


class ServerRefusedError(NeuroMASError, ValueError):
    """The server does not do what was asked: it is not there, not allowed, or not possible now."""

    def __init__(self, message: str, code: str = "refused") -> None:
        super().__init__(message)
        self.code = code


class ServerFailedError(NeuroMASError, RuntimeError):
    """The server cannot be reached, or cannot answer now."""

    def __init__(self, message: str, code: str = "server") -> None:
        super().__init__(message)
        self.code = code


class Remote:
    """A server, to be used in a ``with`` block."""

    def __init__(self, address: str | None) -> None:
        """Remember where the server is.

        Args:
            address: None = ``NEUROMAS_SERVER``, else this machine.
        """
        self.address = (address or os.environ.get("NEUROMAS_SERVER") or DEFAULT).rstrip("/")
        key = os.environ.get("NEUROMAS_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=self.address, headers=headers, timeout=_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **query: object) -> Document:
        """Return a document."""
        asked = {name: str(value) for name, value in query.items() if value is not None}
        return self._ask("GET", path, params=asked)

    def post(self, path: str, body: Mapping[str, Any] | None = None, **query: Sequence[str]) -> Document:
        """Return the answer to a request that changes something; sent again by the network, it changes it once."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return self._ask("POST", path, params=query, json={} if body is None else dict(body), headers=headers)

    def patch(self, path: str, body: Mapping[str, Any]) -> Document:
        """Return a document after a change of it."""
        return self._ask("PATCH", path, json=dict(body))

    def put(self, path: str, file: Path) -> Document:
        """Return the answer to a file that is sent as it is read."""
        with file.open("rb") as content:
            return self._ask("PUT", path, content=content, headers={"Content-Length": str(file.stat().st_size)})

    def delete(self, path: str) -> Document:
        """Return the answer to a removal."""
        return self._ask("DELETE", path)

    def download(self, path: str, target: Path, **query: str) -> int:
        """Write an answer to a new file and return its bytes; a part of it is never left there."""
        draft = target.with_name(f".{target.name}.part")
        try:
            with (
                writing(target),
                _reported(self.address),
                self._client.stream("GET", path, params=query, timeout=None) as answer,
                draft.open("wb") as file,
            ):
                _check(answer)
                for part in answer.iter_bytes():
                    file.write(part)
            size = draft.stat().st_size
            draft.rename(target)
        finally:
            draft.unlink(missing_ok=True)
        return size

    def events(self, run_id: str) -> Iterator[Document]:
        """Yield a run's events, from the first until the run has ended; comes back when the connection breaks.

        Raises:
            ServerFailedError: the server did not come back.
        """
        last, away_since = 0, None
        while True:
            try:
                for document in self._events_after(run_id, last):
                    away_since = None
                    if document["type"] == "end":
                        return
                    last = document["id"]
                    yield document
                if self.get(f"/v1/runs/{run_id}")["state"] in ENDED:
                    return
            except (httpx.TransportError, ServerFailedError):
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > _AWAY_S:
                    raise
                time.sleep(_RETRY_S)

    def _events_after(self, run_id: str, last: int) -> Iterator[Document]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(last)}
        timeout = httpx.Timeout(_TIMEOUT_S, read=_SILENCE_S)
        path = f"/v1/runs/{run_id}/events"
        with self._client.stream("GET", path, headers=headers, timeout=timeout) as answer:
            _check(answer)
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    def _ask(self, method: str, path: str, **options: Any) -> Document:
        with _reported(self.address):
            answer = self._client.request(method, path, **options)
        _check(answer)
        document: Document = answer.json()
        return document


@contextmanager
def _reported(address: str) -> Iterator[None]:
    """Turn failures of the connection into errors of the command."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerFailedError(
            f"no server answers at {address} ({error}); start one with `neuromas service`, or name one with --server "
            "or NEUROMAS_SERVER",
            "unreachable",
        ) from error


def _check(answer: httpx.Response) -> None:
    """Raise what the server says is wrong."""
    if answer.is_success:
        return
    answer.read()
    try:
        error = answer.json()["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        raise ServerFailedError(f"the server answered {answer.status_code}, and not as ours do") from None
    faults = [Fault(fault["path"], fault["message"]) for fault in error.get("faults") or ()]
    if faults:
        raise SpecError(message.partition(":")[0], faults)
    if answer.status_code >= 500 or answer.status_code == 429:
        raise ServerFailedError(message, code)
    raise ServerRefusedError(message, code)
