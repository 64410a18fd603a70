"""Watch: lets any number of readers wait for their streams with one question to the file every few milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from neuromas.services.store.base import StoreUnavailableError

EVERY_S: Final = 0.05
"""Seconds between two looks, while somebody waits: what an event from another process takes at most to be seen."""

Newest = Callable[[Sequence[str], object], Awaitable[tuple[object, Mapping[str, int]]]]
"""Given streams and the mark of the last look, returns the present mark and, where it moved, the newest ids."""


class Watch:
    """Wakes those who wait for a stream when it has grown. Used by one event loop at a time."""

    def __init__(self, newest: Newest) -> None:
        self._newest = newest
        self._waiting: dict[asyncio.Future[None], tuple[str, int]] = {}
        self._mark: object = None
        self._task: asyncio.Task[None] | None = None

    async def wait(self, stream: str, after: int, timeout_s: float) -> None:
        """Return when the stream has an entry above ``after``, at the latest when the time is over.

        Raises:
            StoreUnavailableError: the store could not be asked.
        """
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = (stream, after)
        self._mark = None  # look at every stream again: this one may have grown since it was read
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._look())
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            pass
        finally:
            self._waiting.pop(future, None)

    async def close(self) -> None:
        """Wake everybody and stop looking."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        try:
            while self._waiting:
                mark, self._mark = self._mark, ...
                streams = sorted({stream for stream, _ in self._waiting.values()})
                mark, newest = await self._newest(streams, mark)
                if self._mark is ...:  # else somebody came meanwhile, whose stream was not among these
                    self._mark = mark
                self._wake(newest)
                await asyncio.sleep(EVERY_S)
        except StoreUnavailableError as error:
            for future in self._waiting:
                if not future.done():
                    future.set_exception(error)

    def _wake(self, newest: Mapping[str, int]) -> None:
        for future, (stream, after) in self._waiting.items():
            if not future.done() and newest.get(stream, 0) > after:
                future.set_result(None)
