"""Which rollouts a search finds."""

from __future__ import annotations

from typing import Any

import pytest

from neuromas.services.api.rollout_filter import RolloutFilter

ANY: dict[str, Any] = {"stage": None, "from_step": 0, "to_step": 99, "result": None, "contains": "", "node": None}
ROLLOUT = {
    "stage": 1,
    "step": 5,
    "question": "start 2",
    "answer": "B= 7",
    "expected": "7",
    "reward": 0.5,
    "messages": [{"node": "n1", "text": "so A= 3"}, {"node": "n2", "text": "B= 7"}],
}


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({}, True),
        ({"stage": 1}, True),
        ({"stage": 0}, False),
        ({"from_step": 5, "to_step": 5}, True),
        ({"from_step": 6}, False),
        ({"to_step": 4}, False),
        ({"result": "right"}, False),
        ({"result": "wrong"}, True),
        ({"contains": "a= 3"}, True),
        ({"contains": "start"}, True),
        ({"contains": "nowhere"}, False),
        ({"node": "n2"}, True),
        ({"node": "n3"}, False),
        ({"node": "n1", "contains": "a= 3"}, True),
        ({"node": "n2", "contains": "a= 3"}, False),
        ({"node": "n1", "contains": "start"}, False),
    ],
)
def test_a_rollout_is_found_by_all_that_is_asked(wanted: dict[str, Any], fits: bool) -> None:
    assert RolloutFilter(**ANY | wanted).fits(ROLLOUT) is fits
