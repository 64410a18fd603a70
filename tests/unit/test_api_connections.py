"""Connections: one connection for each question under way, used again, and no more of them than allowed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from neuromas.services.api.connections import Connections
from neuromas.services.api.problems import ApiError


def test_each_question_has_a_connection_and_the_last_one_given_back_comes_first() -> None:
    async def run() -> None:
        connections = Connections(2, 5)
        async with connections.take("a", "e", 9) as first, connections.take("b", "f", 9) as second:
            assert first is not second
            with pytest.raises(ApiError) as refused:
                async with connections.take("c", "g", 9):
                    pass
            assert (refused.value.status, refused.value.code) == (429, "too_busy")
        async with connections.take("a", "e", 9) as again:
            assert again is first
        await connections.close()
        assert first.is_closed
        assert second.is_closed

    asyncio.run(run())


def test_a_question_that_fails_gives_its_connection_back() -> None:
    async def run() -> None:
        connections = Connections(1, 5)
        for _ in range(3):
            with pytest.raises(ValueError, match="broken"):
                async with connections.take("a", "e", 1):
                    raise ValueError("broken")
        await connections.close()

    asyncio.run(run())


def test_no_key_takes_all_that_an_endpoint_takes_on() -> None:
    async def run() -> None:
        connections = Connections(100, 5)
        async with AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(connections.take("greedy", "e", 8))
            with pytest.raises(ApiError, match="4 of 8 questions to e are under way for this key"):
                await stack.enter_async_context(connections.take("greedy", "e", 8))
            await stack.enter_async_context(connections.take("greedy", "other", 8))
            await stack.enter_async_context(connections.take("modest", "e", 8))
        await connections.close()

    asyncio.run(run())
