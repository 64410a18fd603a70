"""What cancel, pause and resume do in each state of a run."""

from __future__ import annotations

from typing import Any

import pytest
from stored import a_run

from neuromas.services.api.moves import Verb, update_for
from neuromas.services.api.problems import ApiError
from neuromas.services.records.run import ENDED


def change(state: str, wanted: str, verb: Verb) -> dict[str, Any] | None:
    """Return the change that a verb makes; None where it is refused."""
    try:
        made = dict(update_for(a_run(state=state, wanted=wanted), verb))
    except ApiError as error:
        if (error.status, error.code) != (409, "illegal_move"):
            raise
        return None
    made.pop("ended", None)
    return made


@pytest.mark.parametrize(
    ("state", "wanted", "verb", "expected"),
    [
        ("queued", "run", "pause", {"wanted": "pause", "state": "paused", "error": None}),
        ("queued", "run", "cancel", {"wanted": "cancel", "state": "cancelled"}),
        ("queued", "run", "resume", None),
        ("paused", "pause", "resume", {"wanted": "run", "state": "queued", "error": None}),
        ("paused", "pause", "cancel", {"wanted": "cancel", "state": "cancelled"}),
        ("paused", "pause", "pause", None),
        ("running", "run", "pause", {"wanted": "pause"}),
        ("running", "run", "cancel", {"wanted": "cancel"}),
        ("running", "run", "resume", None),
        ("running", "pause", "resume", {"wanted": "run"}),
        ("running", "pause", "pause", None),
        ("running", "pause", "cancel", {"wanted": "cancel"}),
        ("running", "cancel", "cancel", None),
        ("running", "cancel", "resume", None),
        ("running", "cancel", "pause", None),
    ],
)
def test_moves_by_state_and_wish(state: str, wanted: str, verb: Verb, expected: dict[str, Any] | None) -> None:
    assert change(state, wanted, verb) == expected


@pytest.mark.parametrize("state", sorted(ENDED))
def test_nothing_moves_a_run_that_has_ended(state: str) -> None:
    verbs: tuple[Verb, ...] = ("cancel", "pause", "resume")
    assert [change(state, "run", verb) for verb in verbs] == [None, None, None]


def test_why_an_ended_run_cannot_be_moved_is_a_sentence() -> None:
    with pytest.raises(ApiError) as refused:
        update_for(a_run("run_1", state="succeeded", wanted="run"), "pause")
    reason = "it has ended (succeeded); grow it or submit it again to train on"
    assert str(refused.value) == f"run run_1 cannot be paused: {reason}"
