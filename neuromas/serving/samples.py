"""Samples: the replies of one request, which asks for one answer or several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from neuromas.serving.graph_client import AsyncReply, GraphClient
from neuromas.serving.question import Answered, Question


class Samples:
    """The answers to the questions of one request, as they come; use it in a ``with``.

    Errors are those of ``AsyncReply.next``, and those that a failed rollout stands for: with a graph there is no half
    answer.
    """

    def __init__(self, client: GraphClient, questions: Sequence[Question]) -> None:
        """Ask all questions, or none: see ``GraphClient.ask`` for what is raised."""
        self._heard = asyncio.Event()
        self._replies: list[AsyncReply] = []
        try:
            for question in questions:
                self._replies.append(client.ask(question, self._heard))
        except BaseException:
            self.leave()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take what has not ended out of the engine."""
        self.leave()

    def leave(self) -> None:
        """Take what has not ended out of the engine; who waits for it is told LeftError."""
        for reply in self._replies:
            reply.leave()

    async def whole(self) -> list[Answered]:
        """Return all answers, in the order of their questions."""
        answers = []
        for reply in self._replies:
            answers.append(await reply.end())
            _check(reply, answers[-1])
        return answers

    async def news(self) -> AsyncIterator[tuple[int, str | Answered]]:
        """Yield (place of the question, next piece of its answer or its end), as they come."""
        unfinished = dict(enumerate(self._replies))
        while unfinished:
            self._heard.clear()
            for place, reply in list(unfinished.items()):
                while reply.has_news:
                    news = await reply.next()
                    if isinstance(news, Answered):
                        _check(reply, news)
                        del unfinished[place]
                    yield place, news
            if unfinished:
                await self._heard.wait()


def _check(reply: AsyncReply, answered: Answered) -> None:
    if answered.rollout.failure is not None:
        raise reply.failure(answered.rollout)
