"""Lanes: one connection for each question under way, used again, and no more of them than allowed."""

from __future__ import annotations

import asyncio

import pytest

from services.api.lanes import Lanes
from services.api.problems import ApiError


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
