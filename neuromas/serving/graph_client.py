"""GraphClient: from an event loop to a GraphServer and back, crossing threads once per engine step for all requests."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Self

from neuromas.errors import NeuroMASError, RolloutError
from neuromas.rollout.record import Rollout
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.question import Answered, Question, Request, TooLongError

News = str | Answered | NeuroMASError
"""A piece of the answer, the end of it, or the reason why there is none."""


class GraphClient:
    """Asks a GraphServer from any number of event loops."""

    def __init__(self, server: GraphServer) -> None:
        self.server = server
        self._news: dict[asyncio.AbstractEventLoop, list[tuple[AsyncReply, News]]] = {}
        server.after_step(self._cross)

    def ask(self, question: Question, heard: asyncio.Event | None = None) -> AsyncReply:
        """Begin a request of the running loop; use the reply in an ``async with``.

        Args:
            question: what is asked.
            heard: is set when there is news of it; replies may share one.

        Raises:
            UnknownGraphError: no graph of that name is served.
            QueueFullError: too many requests are under way.
            ServerStoppedError: the server is closing or its engine has failed.
        """
        return AsyncReply(self, question, heard or asyncio.Event())

    async def answer(self, question: Question) -> Answered:
        """Return the answer to a question; cancelling the caller's task cancels the request in the engine.

        Raises:
            NeuroMASError: see ``ask`` and ``AsyncReply.next``.
        """
        async with self.ask(question) as reply:
            return await reply.end()

    def note(self, reply: AsyncReply, news: News) -> None:
        """Keep news of a reply until the step is over. Called in the engine's thread."""
        self._news.setdefault(reply.loop, []).append((reply, news))

    def _cross(self) -> None:
        """Hand all news of a step to their loops, one wake-up each. Called in the engine's thread."""
        if not self._news:
            return
        news, self._news = self._news, {}
        for loop, items in news.items():
            with suppress(RuntimeError):  # a closed loop: nobody is there any more
                loop.call_soon_threadsafe(_hear, items)


class AsyncReply:
    """One request as its event loop sees it: pieces of the answer, then its end."""

    def __init__(self, client: GraphClient, question: Question, heard: asyncio.Event) -> None:
        self.loop = asyncio.get_running_loop()
        self._client = client
        self._news: deque[News] = deque()
        self._heard = heard
        self._has_ended = False
        self._request: Request = client.server.begin(question, self)

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Cancel what has not ended."""
        self.leave()

    def leave(self) -> None:
        """Take the request out of the engine unless it has ended; ``next`` then raises LeftError."""
        if not self._has_ended:
            self._client.server.cancel(self._request)
            self.hear(LeftError("nobody waits for the answer any more"))

    @property
    def has_news(self) -> bool:
        """Whether ``next`` returns at once."""
        return bool(self._news)

    def failure(self, rollout: Rollout) -> NeuroMASError:
        """Return why a rollout that failed gave no answer."""
        kind = TooLongError if self._client.server.is_too_long(rollout) else RolloutError
        return kind(rollout.failure)

    async def next(self) -> str | Answered:
        """Return the next pieces of the answer joined, or its end, after which there is nothing more.

        Raises:
            UnknownGraphError: the graph was removed before the request had its turn.
            DeadlineError: the answer was not there in time.
            ServerStoppedError: the server has stopped.
            LeftError: ``leave`` was called.
        """
        while not self._news:
            self._heard.clear()
            await self._heard.wait()
        pieces = []
        while self._news and isinstance(self._news[0], str):
            pieces.append(self._news.popleft())
        if pieces:
            return "".join(map(str, pieces))
        news = self._news.popleft()
        if isinstance(news, NeuroMASError):
            raise news
        return news

    async def end(self) -> Answered:
        """Return the end of the answer; pieces are passed over. Raises what ``next`` does."""
        while isinstance(news := await self.next(), str):
            pass
        return news

    def hear(self, news: News) -> None:
        """Take news, in the event loop; after the end there are none."""
        if self._has_ended:
            return
        self._has_ended = not isinstance(news, str)
        self._news.append(news)
        self._heard.set()

    # -- the Reply that the engine's thread tells

    def piece(self, text: str) -> None:
        """Take the next piece of the answer."""
        self._client.note(self, text)

    def done(self, answered: Answered) -> None:
        """Take the answer."""
        self._client.note(self, answered)

    def failed(self, error: NeuroMASError) -> None:
        """Take the reason why there is no answer."""
        self._client.note(self, error)


class LeftError(NeuroMASError, ConnectionError):
    """The one who asked has gone; nobody reads this."""

    code = "client_gone"


def _hear(items: list[tuple[AsyncReply, News]]) -> None:
    for reply, news in items:
        reply.hear(news)
