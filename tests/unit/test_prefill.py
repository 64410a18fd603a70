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
    late = {row for row, share in enumerate(shares, first) if share.is_late}
    assert len(shares) == len(queue) - first
    for row, share in enumerate(shares, first):
        if not share.length:
            continue
        assert policies[share.source] == policies[row]
        assert prompts[share.source][:-1][: share.length] == prompts[row][: share.length]
        assert share.length < len(prompts[row])
        assert share.source not in late
        assert (share.source >= first) == share.is_late


def test_a_group_reads_its_question_once() -> None:
    question = list(range(10, 30))
    prompts = [[*question, 1, 2, 9], [*question, 3, 4, 9], [*question, 1, 2, 8], [*question, 3, 9], [7, 7, 7]]
    assert find_shares(prompts, [0] * 5, 0) == [
        Share(0, 0, is_late=False),
        Share(0, 20, is_late=True),
        Share(0, 22, is_late=True),
        Share(0, 20, is_late=True),
        Share(4, 0, is_late=False),
    ]
    assert find_shares(prompts, [0] * 5, 1)[:2] == [Share(0, 20, is_late=False), Share(0, 22, is_late=False)]
    assert find_shares(prompts, [0, 0, 1, 0, 0], 2)[0] == Share(2, 0, is_late=False)


@given(lengths=st.lists(st.integers(0, 2000), max_size=40), exactly=st.booleans())
def test_every_row_is_in_one_pass_of_bounded_size(lengths: list[int], exactly: bool) -> None:
    parts = list(plan_passes(lengths, exactly=exactly))
    assert sorted(row for part in parts for row in part) == [row for row, length in enumerate(lengths) if length]
    for part in parts:
        sizes = [lengths[row] for row in part]
        assert sizes == sorted(sizes, reverse=True)
        assert len(part) == 1 or len(part) * sizes[0] <= PASS_TOKENS
        assert not exactly or len(set(sizes)) == 1
