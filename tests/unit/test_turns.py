"""Processes of one machine take turns: between which meetings of all processes each has its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import pytest

from neuromas.training.turns import Turns

Item = TypeVar("Item")


@dataclass
class Meetings:
    """One of three processes, two of them on its machine, that counts how often all have met."""

    rank: int = 0
    size: int = 3
    held: int = 0

    def gather(self, item: Item) -> list[Item]:
        return [item] * self.size

    def wait(self) -> None:
        self.held += 1


@pytest.mark.parametrize("place", [0, 1])
def test_each_has_its_turn_between_two_meetings_and_all_meet_equally_often(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", str(place))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    peers = Meetings()
    turns = Turns.of(peers)
    for stage in range(2):
        turns.begin()
        assert peers.held == 2 * stage + place
        turns.end()
        assert peers.held == 2 * (stage + 1)


def test_the_only_process_of_a_machine_meets_as_often_as_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")

    class Others(Meetings):
        def gather(self, item: Item) -> list[Item]:
            assert item == 1
            return [item, 2, 2]  # type: ignore[list-item]

    peers = Others()
    turns = Turns.of(peers)
    turns.begin()
    assert peers.held == 0
    turns.end()
    assert peers.held == 2
