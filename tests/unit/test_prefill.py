"""How queued prompts are read: what they begin with in common once, the rest in passes of similar length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neuromas.engines.prefill import PASS_TOKENS, Share, find_shares, plan_passes

TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=14)
QUEUES = st.lists(st.tuples(TOKENS, st.integers(-1, 1)), min_size=1, max_size=12)


@given(queue=QUEUES, first=st.integers(0, 12))
def test_what_a_row_copies_is_there_and_is_what_it_begins_with(queue: list[tuple[list[int], int]], first: int) -> None:
    prompts, policies = [prompt for prompt, _ in queue], [policy for _, policy in queue]
    first = min(first, len(queue))
    shares = find_shares(prompts, policies, first)
    turns = {row: share.turn for row, share in enumerate(shares, first)}
    assert len(shares) == len(queue) - first
    for row, share in enumerate(shares, first):
        assert share.turn < 4
        if not share.length:
            assert (share.source, share.turn) == (row, 0)
            continue
        assert policies[share.source] == policies[row]
        assert prompts[share.source][:-1][: share.length] == prompts[row][: share.length]
        assert share.length < len(prompts[row])
        assert share.turn == turns.get(share.source, -1) + 1


def test_a_group_reads_its_question_once() -> None:
    question = list(range(10, 30))
    prompts = [[*question, 1, 2, 9], [*question, 3, 4, 9], [*question, 1, 2, 8], [*question, 3, 9], [7, 7, 7]]
    assert find_shares(prompts, [0] * 5, 0) == [
        Share(0, 0, 0),
        Share(0, 20, 1),
        Share(0, 22, 1),
        Share(0, 20, 1),
        Share(4, 0, 0),
    ]
    assert find_shares(prompts, [0] * 5, 1)[:2] == [Share(0, 20, 0), Share(0, 22, 0)]
    assert find_shares(prompts, [0, 0, 1, 0, 0], 2)[0] == Share(2, 0, 0)


def test_worked_examples_are_read_once_and_each_question_once_for_its_group() -> None:
    shown, questions = list(range(100, 130)), [list(range(10 * k, 10 * k + 9)) for k in range(1, 4)]
    prompts = [[*shown, *question, 5] for question in questions for _ in range(3)]
    shares = find_shares(prompts, [0] * 9, 0)
    assert shares == [
        Share(0, 0, 0),
        *[Share(0, 39, 1)] * 2,
        Share(0, 30, 1),
        *[Share(3, 39, 2)] * 2,
        Share(0, 30, 1),
        *[Share(6, 39, 2)] * 2,
    ]
    assert sum(39 - share.length for share in shares) == 30 + 3 * 9


def test_rows_do_not_wait_for_a_few_tokens_or_for_ever() -> None:
    alike = [[*range(20), *range(100, 100 + k), 5] for k in (0, 2, 4, 6)]
    assert [share.turn for share in find_shares(alike, [0] * 4, 0)] == [0, 1, 1, 1]
    nested = [[*range(20 * k), 5] for k in range(1, 8)]
    assert [share.turn for share in find_shares(nested, [0] * 7, 0)] == [0, 1, 2, 3, 3, 3, 3]


@given(lengths=st.lists(st.integers(0, 2000), max_size=40), exactly=st.booleans())
def test_every_row_is_in_one_pass_of_bounded_size(lengths: list[int], exactly: bool) -> None:
    parts = list(plan_passes(lengths, exactly=exactly))
    assert sorted(row for part in parts for row in part) == [row for row, length in enumerate(lengths) if length]
    for part in parts:
        sizes = [lengths[row] for row in part]
        assert sizes == sorted(sizes, reverse=True)
        assert len(part) == 1 or len(part) * sizes[0] <= PASS_TOKENS
        assert not exactly or len(set(sizes)) == 1
