"""Lanes: one connection for each question under way, used again, and no more of them than allowed."""

from __future__ import annotations

import asyncio

import pytest

from neuromas.services.api.lanes import Lanes
from neuromas.services.api.problems import ApiError


def test_each_question_has_a_lane_and_the_last_one_given_back_comes_first() -> None:
    async def run() -> None:
        lanes = Lanes(2, 5)
        async with lanes.lane() as first, lanes.lane() as second:
            assert first is not second
            with pytest.raises(ApiError) as refused:
                async with lanes.lane():
                    pass
            assert (refused.value.status, refused.value.code) == (429, "too_busy")
        async with lanes.lane() as again:
            assert again is first
        await lanes.close()
        assert first.is_closed
        assert second.is_closed

    asyncio.run(run())


def test_a_question_that_fails_gives_its_lane_back() -> None:
    async def run() -> None:
        lanes = Lanes(1, 5)
        for _ in range(3):
            with pytest.raises(ValueError, match="broken"):
                async with lanes.lane():
                    raise ValueError("broken")
        await lanes.close()

    asyncio.run(run())


def test_the_cluster_can_be_probed_while_all_lanes_are_taken() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        lanes = Lanes(1, 5)
        async with server, lanes.lane():
            assert (await lanes.probe.get(f"http://127.0.0.1:{port}/api/version")).status_code == 200
        await lanes.close()
        assert lanes.probe.is_closed

    asyncio.run(run())
