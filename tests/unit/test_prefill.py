"""How queued prompts are read: every token behind those before it, and equal beginnings once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neuromas.engines.prefill import PASS_TOKENS, plan_prefill

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=9)
QUEUES = st.lists(st.tuples(TOKENS, st.integers(-1, 1)), min_size=1, max_size=12)


@given(queue=QUEUES, share=st.booleans(), most=st.sampled_from([1, 6, 100]))
def test_each_prompt_stands_on_one_path_of_a_row_of_its_slot(
    queue: list[tuple[list[int], int]], share: bool, most: int
) -> None:
    prompts, slots = [prompt for prompt, _ in queue], [slot for _, slot in queue]
    passes = plan_prefill(prompts, slots, share=share, tree_tokens=most)
    read = sorted(number for part in passes for number in part.calls.tolist())
    assert read == [number for number, prompt in enumerate(prompts) if len(prompt) > 1]
    for part in passes:
        rows, length = part.input_ids.shape
        ends = np.full((rows, length), length) if part.ends is None else part.ends
        for number, places in zip(part.calls.tolist(), part.places.tolist(), strict=True):
            begin = prompts[number][:-1]
            path = places[: len(begin)]
            assert part.input_ids.ravel()[path].tolist() == begin
            assert part.depths.ravel()[path].tolist() == list(range(len(begin)))
            assert set(places[len(begin) :]) <= {places[0]}
            (row,) = {place // length for place in path}
            assert part.slots[row] == slots[number]
            for place, later in pairwise(path):
                assert place < later < row * length + ends[row, place % length]


def test_equal_beginnings_are_read_once_and_counted() -> None:
    prompts = [[5, 6, 7, 1], [5, 6, 7, 2], [5, 6, 7, 8, 1], [5, 6, 7, 1], [9, 9]]
    (part,) = plan_prefill(prompts, [0, 0, 0, 1, 0], share=True, tree_tokens=100)
    tokens = {int(slot): row[: sum(row > 0)].tolist() for slot, row in zip(part.slots, part.input_ids, strict=True)}
    assert sorted(map(len, part.input_ids.tolist())) == [4, 4, 4]
    assert tokens[1] == [5, 6, 7]
    assert dict(zip(part.calls.tolist(), part.shared.tolist(), strict=True)) == {0: 0, 1: 3, 2: 3, 3: 0, 4: 0}


def test_without_sharing_a_pass_has_rows_of_one_length() -> None:
    parts = plan_prefill([[1] * n for n in (4, 6, 4, 2)], [0] * 4, share=False, tree_tokens=100)
    assert [part.input_ids.shape for part in parts] == [(1, 5), (2, 3), (1, 1)]
    assert all(part.ends is None for part in parts)


def test_a_pass_is_bounded() -> None:
    draw = np.random.default_rng(0)
    prompts = [draw.integers(0, 1 << 30, 1001).tolist() for _ in range(9)]
    parts = plan_prefill(prompts, [0] * 9, share=True, tree_tokens=1500)
    assert [part.input_ids.shape for part in parts] == [(PASS_TOKENS // 1000, 1000)] * 2 + [(1, 1000)]
