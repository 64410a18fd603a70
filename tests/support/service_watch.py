"""Watch: a client that asks about a run all the time while parts of the service are killed, and judges every answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

STATES = ("queued", "running", "succeeded")
_PAUSE_S = 0.1


class Watch:
    """Asks one API for a run and its events until told to stop.

    An answer is right when it continues what was told before. An API that is killed breaks a connection off, and one
    whose store is away says so; anything else is wrong.

    Attributes:
        wrong: what was not right, for people.
        answers: how many right answers came.
        refusals: how many said that the store is away.
        steps: the steps that were told, in order.
    """

    def __init__(self, url: str, run_id: str) -> None:
        self._url, self._run_id = url, run_id
        self._last = 0
        self._version = 0
        self._attempt = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask_on, daemon=True)
        self.wrong: list[str] = []
        self.answers = self.refusals = 0
        self.steps: list[int] = []

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._done.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _ask_on(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._done.wait(_PAUSE_S):
                run = self._ask(client, f"/v1/runs/{self._run_id}")
                if run is not None:
                    self._judge_run(run)
                page = self._ask(client, f"/v1/runs/{self._run_id}/events?after={self._last}&limit=1000")
                if page is not None:
                    self._judge_events(page["data"])

    def _ask(self, client: httpx.Client, path: str) -> dict[str, Any] | None:
        try:
            answer = client.get(path)
        except httpx.TransportError:
            return None
        document: dict[str, Any] = answer.json()
        if answer.status_code == 200:
            self.answers += 1
            return document
        if (answer.status_code, document["error"]["code"]) == (503, "store_unavailable"):
            self.refusals += 1
        else:
            self.wrong.append(f"{path}: {answer.status_code} {answer.text}")
        return None

    def _judge_run(self, run: dict[str, Any]) -> None:
        is_later = run["version"] >= self._version and run["attempt"] >= self._attempt
        if run["id"] != self._run_id or run["state"] not in STATES or not is_later:
            self.wrong.append(f"after version {self._version}, attempt {self._attempt}: {run}")
        self._version, self._attempt = run["version"], run["attempt"]

    def _judge_events(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event["id"] <= self._last:
                self.wrong.append(f"after event {self._last}: {event}")
            self._last = event["id"]
            if event["type"] == "step":
                if event["step"] != len(self.steps) + 1:
                    self.wrong.append(f"after step {len(self.steps)}: {event}")
                self.steps.append(event["step"])


@contextmanager
def watching(url: str, run_id: str) -> Iterator[Watch]:
    """Give a watch that asks until the end of the block."""
    watch = Watch(url, run_id)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()
