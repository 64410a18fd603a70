"""Room: whoever comes next finds a place, however many others have taken."""

from __future__ import annotations

import pytest

from neuromas.services.api.problems import ApiError
from neuromas.services.api.room import LOCAL, Room


def room(most: int) -> Room:
    return Room(most, "full", "places are taken", 1)


def fill(places: Room, owner: str) -> int:
    """Take places until there is none; returns how many."""
    before = places.num_taken

    def take_on() -> None:
        for _ in range(10_000):
            places.take(owner)

    with pytest.raises(ApiError) as refused:
        take_on()
    assert (refused.value.status, refused.value.code, refused.value.headers["Retry-After"]) == (429, "full", "1")
    return places.num_taken - before


@pytest.mark.parametrize("most", [2, 4, 512])
def test_one_caller_gets_half_and_the_next_ones_shares_of_what_is_left(most: int) -> None:
    places = room(most)
    assert fill(places, "a") == most // 2
    assert fill(places, "b") == max(1, most // 4)
    if most > 2:
        assert fill(places, "c") == max(1, most // 8)


def test_a_caller_who_leaves_makes_room_for_all() -> None:
    places = room(8)
    fill(places, "a")
    for _ in range(4):
        places.leave("a")
    assert places.num_taken == 0
    assert fill(places, "b") == 4


def test_without_keys_there_is_nobody_to_share_with() -> None:
    assert fill(room(8), LOCAL) == 8


def test_a_single_place_can_be_had() -> None:
    places = room(1)
    assert fill(places, "a") == 1
    with pytest.raises(ApiError, match="1 places are taken, the limit"):
        places.take("b")


def test_what_breaks_in_a_place_gives_it_back() -> None:
    places = room(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), places.place("a"):
            raise ValueError("broken")
    assert places.num_taken == 0
