"""FairLimit: whoever comes next finds a place, however many others have taken."""

from __future__ import annotations

from contextlib import suppress

import pytest

from neuromas.services.api.fair_limit import LOCAL, FairLimit
from neuromas.services.api.problems import ApiError


def room(most: int) -> FairLimit:
    return FairLimit(most, "full", "places are taken", 1)


def fill(places: FairLimit, owner: str) -> int:
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
    with pytest.raises(ApiError, match="1 of 1 places are taken, the limit"):
        places.take("b")


@pytest.mark.parametrize("most", [2, 5, 16])
@pytest.mark.parametrize("others", [0, 1, 3])
@pytest.mark.parametrize("held", [0, 1, 2])
def test_several_places_at_once_are_as_hard_to_get_as_one_after_the_other(most: int, others: int, held: int) -> None:
    def filled() -> FairLimit:
        places = room(most)
        for owner in (*map(str, range(others)), *["a"] * held):
            with suppress(ApiError):
                places.take(owner)
        return places

    for count in range(1, most + 2):
        one_by_one, at_once = filled(), filled()
        before = at_once.num_taken
        with suppress(ApiError):
            for _ in range(count):
                one_by_one.take("a")
        with suppress(ApiError):
            at_once.take("a", count)
        all_fit = one_by_one.num_taken == before + count
        assert at_once.num_taken == before + (count if all_fit else 0)


def test_what_breaks_in_a_place_gives_it_back() -> None:
    places = room(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), places.place("a"):
            raise ValueError("broken")
    assert places.num_taken == 0
