"""Connections: used again by question after question, and no more questions at a time than allowed."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress

import pytest

from neuromas.services.api.connections import Connections
from neuromas.services.api.problems import ApiError


def test_questions_at_a_time_have_a_connection_each_which_are_used_again() -> None:
    async def run() -> None:
        served = await asyncio.start_server(answer, "127.0.0.1")
        url = f"http://127.0.0.1:{served.sockets[0].getsockname()[1]}/"

        async def ask(owner: str) -> str:
            with connections.take(owner, "e", 9) as client:
                async with client.post(url, data=b"") as told:
                    return await told.text()

        connections = Connections(2, 5)
        both = asyncio.gather(ask("a"), ask("b"))
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as refused:
            await ask("c")
        assert (refused.value.status, refused.value.code) == (429, "too_busy")
        first = await both
        assert len(set(first)) == 2
        assert {await ask("a"), await ask("c")} <= set(first)
        await connections.close()
        served.close()

    asyncio.run(run())


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Tell whoever asks the port that they ask from."""
    with suppress(asyncio.IncompleteReadError):
        while await reader.readuntil(b"\r\n\r\n"):
            told = str(writer.get_extra_info("peername")[1]).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(told), told))
    writer.close()


def test_a_question_that_fails_gives_its_place_back() -> None:
    async def run() -> None:
        connections = Connections(1, 5)
        for _ in range(3):
            with pytest.raises(ValueError, match="broken"), connections.take("a", "e", 1):
                raise ValueError("broken")
        await connections.close()

    asyncio.run(run())


def test_no_key_takes_all_that_an_endpoint_takes_on() -> None:
    async def run() -> None:
        connections = Connections(100, 5)
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(connections.take("greedy", "e", 8))
            with pytest.raises(ApiError, match="4 of 8 questions to e are under way for this key"):
                stack.enter_context(connections.take("greedy", "e", 8))
            stack.enter_context(connections.take("greedy", "other", 8))
            stack.enter_context(connections.take("modest", "e", 8))
        await connections.close()

    asyncio.run(run())
