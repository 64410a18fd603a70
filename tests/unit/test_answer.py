"""Stop texts: the answer ends before the first that appears, however its tokens arrive."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromas.rollout.answer import StreamedAnswer
from neuromas.rollout.text_stream import Specials, TextStream


def spell(token_ids: Sequence[int]) -> str:
    """A tokenizer whose tokens are the code points of characters."""
    return "".join(map(chr, token_ids))


def give(text: str, stop: Sequence[str]) -> tuple[list[str], str, bool]:
    """Let an answer arrive character by character; its last one comes with the result."""
    answer = StreamedAnswer(TextStream(spell, frozenset(), frozenset(), Specials(())), stop)
    pieces = []
    for char in text[:-1]:
        pieces.append(answer.push([ord(char)]))
        if answer.is_stopped:
            break
    last, whole = answer.finish(text.strip())
    return [*pieces, last], whole, answer.is_stopped


def test_without_a_stop_text_the_whole_answer_is_told() -> None:
    assert give("so 4", ()) == (["s", "o", "", " 4"], "so 4", False)


def test_a_stop_text_and_what_follows_are_cut_off() -> None:
    pieces, whole, is_stopped = give("one two three", ["two"])
    assert (whole, is_stopped) == ("one ", True)
    assert "".join(pieces) == "one "


def test_a_beginning_of_a_stop_text_is_held_back_and_then_told() -> None:
    pieces, whole, is_stopped = give("twa tw", ["two"])
    assert pieces == ["", "", "twa", "", " ", "tw"]
    assert (whole, is_stopped) == ("twa tw", False)


def test_a_stop_text_that_only_the_end_completes_counts() -> None:
    assert give("go two", ["two"]) == (["g", "o", "", " ", "", ""], "go ", True)


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [("abcd", ["abcd", "bc"], "a"), ("abcd", ["bc", "abc"], ""), ("aab", ["ab"], "a"), ("xyz", ["a", "b"], "xyz")],
)
def test_the_stop_text_that_is_complete_first_wins(text: str, stop: list[str], expected: str) -> None:
    assert give(text, stop)[1] == expected


@given(
    text=st.text("ab\n", min_size=1, max_size=12), stop=st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3)
)
def test_told_pieces_are_the_answer_and_hold_no_stop_text(text: str, stop: list[str]) -> None:
    pieces, whole, is_stopped = give(text, stop)
    assert "".join(pieces) == whole
    assert not any(one in whole for one in stop)
    assert is_stopped == any(one in text.strip() for one in stop)
    assert text.strip().startswith(whole)
