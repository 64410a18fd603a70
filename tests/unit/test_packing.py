from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromas.errors import TrainingError
from neuromas.training.packing import Bucket, pack, split_lengths


def allowed(ends: np.ndarray) -> np.ndarray:
    """Which place may attend to which, (rows, places, places): itself and its ancestors."""
    places = np.arange(ends.shape[1])
    return (places[None, None, :] <= places[None, :, None]) & (places[None, :, None] < ends[:, None, :])


def context(bucket: Bucket, target: int) -> tuple[int, list[int], list[int]]:
    """Packed row of a target, and the tokens and positions it is predicted from."""
    row, place = divmod(int(bucket.sources[target]), bucket.input_ids.shape[1])
    length = bucket.input_ids.shape[1]
    ends = np.full_like(bucket.input_ids, length) if bucket.ends is None else bucket.ends
    seen = np.flatnonzero(allowed(ends)[row, place])
    return row, bucket.input_ids[row, seen].tolist(), bucket.position_ids[row, seen].tolist()


def test_rows_that_differ_only_in_their_last_token_share_everything():
    (bucket,) = pack([(5, 6, 7)] * 3, [(1,), (2,), (1,)], np.zeros(3, dtype=int))
    assert bucket.input_ids.tolist() == [[5, 6, 7]]
    assert bucket.ends is None
    assert bucket.sources.tolist() == [2, 2, 2]
    assert bucket.labels.tolist() == [1, 2, 1]


def test_a_branching_prompt_is_laid_out_depth_first():
    (bucket,) = pack([(5, 6, 8), (5, 7, 8), (5, 6, 9)], [(1,), (2, 3), (4,)], np.zeros(3, dtype=int))
    assert bucket.input_ids.tolist() == [[5, 6, 8, 9, 7, 8, 2]]
    assert bucket.position_ids.tolist() == [[0, 1, 2, 2, 1, 2, 3]]
    assert bucket.ends.tolist() == [[7, 4, 3, 4, 7, 7, 7]]
    assert allowed(bucket.ends)[0, 5].tolist() == [True, False, False, False, True, True, False]
    assert bucket.sources.tolist() == [2, 5, 6, 3]
    assert (bucket.call_rows.tolist(), bucket.steps.tolist()) == ([0, 1, 1, 2], [0, 0, 1, 0])


def test_groups_never_share():
    buckets = pack([(5, 6)] * 2, [(1,), (1,)], np.array([0, 1]))
    assert [bucket.input_ids.tolist() for bucket in buckets] == [[[5, 6], [5, 6]]]
    assert buckets[0].groups.tolist() == [0, 1]


def test_padded_is_one_row_per_call_without_a_mask():
    (bucket,) = pack([(5, 6), (5, 6, 7)], [(1, 2), (3,)], np.zeros(2, dtype=int), share=False)
    assert bucket.ends is None
    assert sorted(bucket.input_ids.tolist()) == [[5, 6, 1], [5, 6, 7]]


def test_a_group_whose_attention_would_cost_more_than_it_saves_is_not_packed():
    prompts = [(*range(1, 6), *range(10, 45)), (*range(1, 6), *range(50, 85))]
    (packed,) = pack(prompts, [(1,), (2,)], np.zeros(2, dtype=int))
    assert packed.input_ids.shape == (1, 75)
    (alone,) = pack(prompts, [(1,), (2,)], np.zeros(2, dtype=int), attention_scale=50)
    assert alone.input_ids.shape == (2, 40)


def test_refuses_rows_without_tokens():
    with pytest.raises(TrainingError, match="empty"):
        pack([(1,)], [()], np.zeros(1, dtype=int))


tokens = st.lists(st.integers(1, 3), min_size=1, max_size=9).map(tuple)
calls = st.lists(st.tuples(tokens, tokens, st.integers(0, 3)), min_size=1, max_size=24)


@settings(max_examples=150, deadline=None)
@given(calls, st.booleans(), st.integers(1, 60))
def test_every_target_sees_exactly_its_own_row(rows, share, most):
    prompts, completions, groups = (list(column) for column in zip(*rows, strict=True))
    found = set()
    for bucket in pack(prompts, completions, np.array(groups), share=share, tokens_per_forward=most):
        assert bucket.num_tokens <= most or len(bucket.members) == 1
        for target, (call, step) in enumerate(zip(bucket.call_rows, bucket.steps, strict=True)):
            row, seen, positions = context(bucket, target)
            expected = [*prompts[call], *completions[call][:step]]
            assert seen == expected
            assert positions == list(range(len(expected)))
            assert bucket.labels[target] == completions[call][step]
            assert bucket.groups[row] == groups[call]
            found.add((int(call), int(step)))
    assert found == {(call, step) for call, completion in enumerate(completions) for step in range(len(completion))}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(0, 80))
def test_buckets_are_the_cheapest(lengths, overhead):
    descending = sorted(lengths, reverse=True)

    def cost(cuts):
        bounds = (0, *cuts, len(lengths))
        return sum((end - start) * descending[start] + overhead for start, end in pairwise(bounds))

    cheapest = min(cost(cuts) for size in range(len(lengths)) for cuts in combinations(range(1, len(lengths)), size))
    buckets = split_lengths(np.array(lengths), overhead)
    assert sorted(np.concatenate(buckets).tolist()) == list(range(len(lengths)))
    assert sum(len(rows) * max(lengths[row] for row in rows) + overhead for rows in buckets) == cheapest
