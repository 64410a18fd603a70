"""Chatter: clients that ask an endpoint all the time while parts of the service are killed, and judge every answer."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

REFUSALS = {
    (502, "endpoint_failed"),
    (503, "endpoint_deploying"),
    (503, "endpoint_unavailable"),
    (503, "store_unavailable"),
}
"""What may be said instead of an answer: that it cannot be given now."""
_PAUSE_S = 0.1


class Chatter:
    """Asks the same questions, each known by its right answer, until told to stop; every second answer is streamed.

    A right answer is the one that was given before anything was killed. A connection may break off, and a question
    may be refused by a status or an event that says so; anything else is wrong.

    Attributes:
        wrong: what was not right, for people.
        right: how many answers were right.
        refusals: how often each code was told.
        broken: how many connections broke off.
    """

    def __init__(self, url: str, model: str, answers: Mapping[str, str]) -> None:
        self._url, self._model, self._answers = url, model, answers
        self._done = threading.Event()
        self._lock = threading.Lock()
        self.wrong: list[str] = []
        self.right = self.broken = 0
        self.refusals: dict[str, int] = {}

    def ask_on(self) -> None:
        """Ask until told to stop."""
        questions = itertools.cycle(self._answers)
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as client:
            for is_streamed in itertools.cycle((False, True)):
                if self._done.wait(_PAUSE_S):
                    return
                question = next(questions)
                try:
                    (self._stream if is_streamed else self._whole)(client, question)
                except httpx.TransportError:
                    with self._lock:
                        self.broken += 1

    def stop(self) -> None:
        """Ask no more."""
        self._done.set()

    def _body(self, question: str, **changes: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": question}]
        return {"model": self._model, "messages": messages, "temperature": 0, **changes}

    def _whole(self, client: httpx.Client, question: str) -> None:
        answer = client.post("/v1/chat/completions", json=self._body(question))
        if answer.status_code == 200:
            self._judge(question, answer.json()["choices"][0]["message"]["content"])
        else:
            self._judge_refusal(answer.status_code, answer.json()["error"])

    def _stream(self, client: httpx.Client, question: str) -> None:
        with client.stream("POST", "/v1/chat/completions", json=self._body(question, stream=True)) as answer:
            if answer.status_code != 200:
                self._judge_refusal(answer.status_code, json.loads(answer.read())["error"])
                return
            text, is_whole = "", False
            for line in answer.iter_lines():
                event = line.removeprefix("data: ")
                if not event:
                    continue
                if event == "[DONE]":
                    is_whole = True
                    continue
                document = json.loads(event)
                if "error" in document:
                    self._judge_refusal(502, document["error"])
                    return
                text += document["choices"][0]["delta"].get("content") or ""
        if is_whole:
            self._judge(question, text)
        else:
            self._note_wrong(f"a stream ended without an end or an error: {text!r}")

    def _judge(self, question: str, text: str) -> None:
        if text != self._answers[question]:
            self._note_wrong(f"{question!r}: {text!r} instead of {self._answers[question]!r}")
            return
        with self._lock:
            self.right += 1

    def _judge_refusal(self, status: int, error: Mapping[str, Any]) -> None:
        if (status, error["code"]) not in REFUSALS:
            self._note_wrong(f"{status} {error}")
        with self._lock:
            self.refusals[error["code"]] = self.refusals.get(error["code"], 0) + 1

    def _note_wrong(self, text: str) -> None:
        with self._lock:
            self.wrong.append(text)


@contextmanager
def chatting(url: str, model: str, questions: Sequence[str], clients: int = 3) -> Iterator[Chatter]:
    """Give a chatter with some clients that ask until the end of the block; their own failures fail it."""
    bodies = [{"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0} for text in questions]
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        answers = [client.post("/v1/chat/completions", json=body) for body in bodies]
    texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
    chatter = Chatter(url, model, dict(zip(questions, texts, strict=True)))
    with ThreadPoolExecutor(clients) as pool:
        asking: list[Future[None]] = [pool.submit(chatter.ask_on) for _ in range(clients)]
        try:
            yield chatter
        finally:
            chatter.stop()
    for one in asking:
        one.result()
