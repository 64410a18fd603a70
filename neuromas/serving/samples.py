"""Samples: the conversations of one request, which asks for one answer or several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from neuromas.serving.door import Conversation, Door
from neuromas.serving.question import Answered, Question


class Samples:
    """The answers to the questions of one request, as they come; use it in a ``with``.

    Errors are those of ``Conversation.next``, and those that a failed rollout stands for: with a graph there is no half
    answer.
    """

    def __init__(self, door: Door, questions: Sequence[Question]) -> None:
        """Ask all questions, or none: see ``Door.ask`` for what is raised."""
        self._heard = asyncio.Event()
        self._conversations: list[Conversation] = []
        try:
            for question in questions:
                self._conversations.append(door.ask(question, self._heard))
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
        for conversation in self._conversations:
            conversation.leave()

    async def whole(self) -> list[Answered]:
        """Return all answers, in the order of their questions."""
        answers = []
        for conversation in self._conversations:
            answers.append(await conversation.end())
            _check(conversation, answers[-1])
        return answers

    async def news(self) -> AsyncIterator[tuple[int, str | Answered]]:
        """Yield (place of the question, next piece of its answer or its end), as they come."""
        unfinished = dict(enumerate(self._conversations))
        while unfinished:
            self._heard.clear()
            for place, conversation in list(unfinished.items()):
                while conversation.has_news:
                    news = await conversation.next()
                    if isinstance(news, Answered):
                        _check(conversation, news)
                        del unfinished[place]
                    yield place, news
            if unfinished:
                await self._heard.wait()


def _check(conversation: Conversation, answered: Answered) -> None:
    if answered.rollout.failure is not None:
        raise conversation.failure(answered.rollout)
