"""Which run is next: first in, first out for each owner, and owners in turn."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from stored import a_run

from neuromas.services.records.run import RunRecord
from neuromas.services.runs.queue import last_starts, next_run


def run(id: str, owner: str, sequence: int = 0, **values: Any) -> RunRecord:
    return a_run(id, owner=owner, sequence=sequence, **values)


def order(queued: list[RunRecord], served: dict[str, float] | None = None) -> list[str]:
    """Start one run after the other, each ending before the next begins."""
    waiting, starts, found = list(queued), dict(served or {}), []
    while waiting:
        chosen = next_run(waiting, [], starts)
        assert chosen is not None
        waiting.remove(chosen)
        starts[chosen.owner] = max(starts.values(), default=0.0) + 1
        found.append(chosen.id)
    return found


def test_nothing_waits() -> None:
    assert next_run([], [run("r", "a")], {"a": 1.0}) is None


def test_runs_of_one_owner_go_by_age() -> None:
    same_second = [run("a", "me", 3, created=7), run("z", "me", 1, created=7), run("m", "me", 2, created=7)]
    assert order(same_second) == ["z", "m", "a"]


def test_an_owner_with_many_runs_does_not_keep_another_waiting() -> None:
    queued = [run(f"a{number}", "a", number) for number in range(4)] + [run("b0", "b", 100)]
    assert order(queued) == ["a0", "b0", "a1", "a2", "a3"]


def test_who_was_served_last_waits_for_the_others() -> None:
    queued = [run("a", "a", 1), run("b", "b", 2)]
    assert order(queued, {"a": 50.0, "b": 10.0}) == ["b", "a"]


def test_an_owner_with_fewer_runs_under_way_comes_first() -> None:
    running = [run("r", "a")]
    chosen = next_run([run("a", "a", 1), run("b", "b", 2)], running, {"a": 10.0, "b": 50.0})
    assert chosen is not None
    assert chosen.id == "b"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=12))
def test_every_run_has_its_turn_and_no_owner_waits_for_two_of_another(entries: list[tuple[str, int]]) -> None:
    queued = [run(f"{owner}{number}", owner, sequence) for number, (owner, sequence) in enumerate(entries)]
    found = order(queued)
    assert sorted(found) == sorted(entry.id for entry in queued)
    for place, id in enumerate(found):
        later = {other[0] for other in found[place + 1 :]}
        if place and found[place - 1][0] == id[0]:
            assert later <= {id[0]}, "a second run of the same owner while another owner waits"


def test_last_starts_are_read_off_the_runs() -> None:
    runs = [run("1", "a", started=3.0), run("2", "a", started=5.0), run("3", "b", started=None), run("4", "c")]
    assert last_starts(runs) == {"a": 5.0}
