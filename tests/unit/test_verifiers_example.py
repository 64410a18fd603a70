"""examples/verifiers without its package: how questions are split. ``make verifiers`` tests the rest."""

from pathlib import Path

import pytest

import neuromas

EXAMPLE = Path(neuromas.__file__).parents[1] / "examples" / "verifiers"


def test_questions_are_split_by_their_text_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLE)
    from taskset_task import by_split

    prompts = [f"{number % 80} + 1 =" for number in range(100)]
    places = by_split(prompts)
    assert sorted(places["train"] + places["test"]) == list(range(80))
    assert 10 < len(places["test"]) < 32
    again = by_split(prompts[40:])
    held_out = {prompts[place] for place in places["test"]}
    assert {prompts[40 + place] for place in again["test"]} == held_out & set(prompts[40:])
