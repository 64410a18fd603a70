import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromas.errors import TrainingError
from neuromas.training.advantage import (
    RunningBaseline,
    call_advantages,
    with_signal,
)


def advantages(rewards, present=None, estimator="rloo", running=None):
    rewards = np.repeat(np.array(rewards, dtype=np.float64)[:, :, None], 2, axis=2)
    present = np.ones(rewards.shape, dtype=bool) if present is None else np.array(present)
    return call_advantages(rewards, present, estimator, running or RunningBaseline(0.9))


def test_rloo_subtracts_the_mean_of_the_other_rollouts_for_every_node():
    result = advantages([[1.0, 0.0, 0.0, 0.0]])
    assert result[0, :, 0] == pytest.approx([1.0, -1 / 3, -1 / 3, -1 / 3])
    assert (result[:, :, 0] == result[:, :, 1]).all()


def test_dr_grpo_subtracts_the_group_mean():
    result = advantages([[1.0, 0.0, 0.0, 0.0]], estimator="dr_grpo")
    assert result[0, :, 0] == pytest.approx([0.75, -0.25, -0.25, -0.25])


def test_grpo_divides_by_the_bessel_corrected_deviation():
    # deviation of 1, 0, 0, 0 is 0.5 with Bessel's correction
    expected = [0.75 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001]
    assert advantages([[1.0, 0.0, 0.0, 0.0]], estimator="grpo")[0, :, 1] == pytest.approx(expected)


def test_reinforce_uses_only_earlier_steps():
    running = RunningBaseline(0.9)
    assert advantages([[1.0, 0.0]], estimator="reinforce", running=running)[0, :, 0].tolist() == [1.0, 0.0]
    running.update(np.array([[1.0, 0.0]]))
    assert running.value == pytest.approx(0.5)
    second = advantages([[1.0, 0.0]], estimator="reinforce", running=running)
    assert second[0, :, 0] == pytest.approx([0.5, -0.5])
    running.update(np.array([[1.0, 1.0]]))
    assert running.value == pytest.approx(0.145 / 0.19)


def test_the_running_baseline_sums_over_processes_and_goes_through_a_document():
    running = RunningBaseline(0.5)
    running.update(np.array([[1.0, 0.0]]), lambda amounts: [amount + 2 for amount in amounts])
    assert running.value == pytest.approx(3 / 4)
    assert running.to_document() == {"means": {"": 0.375}, "counts": {"": 1}}
    again = RunningBaseline(0.5)
    again.restore(running.to_document())
    assert again == running


def test_the_calls_of_a_node_are_compared_with_each_other_alone():
    rewards = np.array([[[1.0, 0.5], [0.0, 0.5], [0.0, 0.5], [0.0, 0.0]]])  # two contexts of four samples each
    present = np.ones(rewards.shape, dtype=bool)
    result = call_advantages(rewards, present, "rloo", RunningBaseline())
    assert result[0, :, 0] == pytest.approx([1.0, -1 / 3, -1 / 3, -1 / 3])
    assert result[0, :, 1] == pytest.approx([1 / 6, 1 / 6, 1 / 6, -0.5])
    rewards[0, :, 1] = 0.5
    assert with_signal(call_advantages(rewards, present, "grpo", RunningBaseline())).tolist() == [[True, False]]


def test_a_missing_call_has_no_advantage_and_its_rollout_counts_for_the_others():
    present = [[[True, True], [True, True], [True, False]]]
    assert advantages([[1.0, 1.0, 0.0]], present)[0, :, 1] == pytest.approx([0.5, 0.5, 0.0])


def test_groups_of_equal_rewards_have_no_signal():
    result = advantages([[0.25, 0.25, 0.25], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert with_signal(result).tolist() == [[False, False], [True, True], [False, False]]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_grouped_estimators_sum_to_zero_and_keep_the_order(rewards):
    for estimator in ("rloo", "grpo", "dr_grpo"):
        result = advantages([rewards], estimator=estimator)[0, :, 0]
        assert abs(result.sum()) < 1e-6
        ranked = result[np.argsort(rewards, kind="stable")]
        assert (np.diff(ranked) >= -1e-12).all()


def test_refuses_shapes_that_do_not_fit():
    with pytest.raises(TrainingError, match="expected"):
        call_advantages(np.zeros((2, 3, 1)), np.ones((3, 2, 1), bool), "rloo", RunningBaseline(0.9))
