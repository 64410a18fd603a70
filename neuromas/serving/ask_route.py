"""The routes by which graphs are asked.

Plain applications: what FastAPI does for a typed route costs more than a small graph's share of an engine step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from neuromas.errors import NeuroMASError
from neuromas.serving.answer_form import AnswerForm, encode
from neuromas.serving.ask_request import AskRequest
from neuromas.serving.body_size import MAX_VALUES, holds_too_much
from neuromas.serving.chat_request import ChatRequest
from neuromas.serving.choices_form import ChatForm, CompletionForm
from neuromas.serving.completion_request import CompletionRequest
from neuromas.serving.endpoint_error import first_fault, from_refusal, invalid
from neuromas.serving.graph_client import GraphClient, LeftError
from neuromas.serving.question import Answered, Question
from neuromas.serving.response_form import ResponseForm
from neuromas.serving.response_request import ResponseRequest
from neuromas.serving.samples import Samples

MAX_BODY_BYTES: Final = 4 * 2**20
News = tuple[int, str | Answered]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of OpenAI's ways to ask and to answer.

    Attributes:
        request: model of the body.
        form: makes the answers.
        question: the parameter that holds what is asked.
    """

    request: type[AskRequest]
    form: Callable[[Any, Sequence[Question]], AnswerForm]
    question: str


DIALECTS: Final = {
    "/v1/chat/completions": Dialect(ChatRequest, ChatForm, "messages"),
    "/v1/completions": Dialect(CompletionRequest, CompletionForm, "prompt"),
    "/v1/responses": Dialect(ResponseRequest, ResponseForm, "input"),
}
"""By path."""


class AskRoute:
    """The application behind one of the paths."""

    def __init__(self, client: GraphClient, dialect: Dialect) -> None:
        self._client = client
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response = await self._answer(receive)
        await response(scope, receive, send)

    async def _answer(self, receive: Receive) -> Response:
        asked = await _read(receive, self._dialect.request)
        questions = asked.questions()
        form = self._dialect.form(asked, questions)
        with self._telling_refusals():
            for question in {question.text: question for question in questions}.values():
                if self._client.server.may_be_too_long(question):
                    await asyncio.to_thread(self._client.server.check_length, question)
            samples = Samples(self._client, questions)
        try:
            with self._telling_refusals():
                async with _ended_with_client(samples, receive):
                    if not asked.stream:
                        return Response(encode(form.whole(await samples.whole())), media_type="application/json")
                    # Headers go out with the first piece: what fails before it has a status of its own.
                    news = samples.news()
                    first = await anext(news)
        except BaseException:
            samples.leave()
            raise
        return _EventResponse(form, samples, first, news, self._dialect.question)

    @contextmanager
    def _telling_refusals(self) -> Iterator[None]:
        """Raise the server's refusals as errors of the API."""
        try:
            yield
        except NeuroMASError as error:
            raise from_refusal(error, self._dialect.question) from error


async def _read(receive: Receive, model: type[AskRequest]) -> AskRequest:
    body = bytearray()
    is_whole = False
    while not is_whole:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise from_refusal(LeftError("the client went away before its request was whole"))
        body += message.get("body", b"")
        is_whole = not message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise invalid(f"the body is larger than {MAX_BODY_BYTES} bytes", status=413)
    if holds_too_much(bytes(body)):
        raise invalid(f"the body has more than {MAX_VALUES} values, the limit")
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise first_fault(error) from error


@asynccontextmanager
async def _ended_with_client(samples: Samples, receive: Receive) -> AsyncIterator[None]:
    """Take a request out of the engine when its client goes away inside the block."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        samples.leave()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()


class _EventResponse(StreamingResponse):
    """The server-sent events of answers that have begun."""

    def __init__(
        self, form: AnswerForm, samples: Samples, first: News, news: AsyncIterator[News], question: str
    ) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__((), headers=headers, media_type="text/event-stream")
        self._form = form
        self._samples = samples
        self._first = first
        self._news = news
        self._question = question

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; a client that goes away ends the request in the engine."""
        with self._samples:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for part in self._parts(receive):
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _parts(self, receive: Receive) -> AsyncIterator[bytes]:
        form = self._form
        head = form.begin()
        ends: dict[int, Answered] = {}
        try:
            async with _ended_with_client(self._samples, receive):
                async for place, news in self._all_news():
                    if isinstance(news, str):
                        yield head + form.piece(place, news)
                    else:
                        ends[place] = news
                        yield head + form.end(place, news)
                    head = b""
        except NeuroMASError as error:
            yield head + form.failed(from_refusal(error, self._question))  # the status is out
            return
        yield form.close([ends[place] for place in range(len(form.questions))])

    async def _all_news(self) -> AsyncIterator[News]:
        yield self._first
        async for news in self._news:
            yield news
