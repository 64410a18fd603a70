from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.step_model import Cluster, Rates, StepTime, Work, fit, predict

RATES = Rates(
    pass_s=0.004,
    call_s=0.0005,
    update_s=0.05,
    row_s=0.0003,
    adapter_s=0.002,
    read_bytes_s=1e10,
    sample_flops=3e10,
    train_flops=2e10,
)
WORKS = [
    Work(nodes, depth, questions, group, 60, 5, read, weights, 4.0, kept)
    for nodes, depth, questions, group, read, weights, kept in (
        (1, 1, 8, 8, 0, 2e5, 0.5),
        (3, 3, 24, 8, 3, 2e5, 0.75),
        (7, 7, 4, 4, 4, 2e5, 1.0),
        (15, 4, 8, 8, 5, 2e5, 0.25),
        (1, 1, 4, 8, 0, 1e8, 0.5),
        (3, 3, 4, 4, 3, 1e8, 1.0),
        (2, 2, 8, 4, 3, 1e8, 0.5),
        (7, 3, 4, 4, 4, 1e8, 0.75),
    )
]


def test_the_seconds_of_a_step_by_hand() -> None:
    work = Work(3, 2, 4, 8, prompt_tokens=20, message_tokens=4, read_tokens=4, weights=1e6, weight_bytes=4.0, kept=0.5)
    # 96 calls of 16 / 8 + 4 + 4 = 10 computed tokens, 10 passes of 4 MB, 48 rows of 40e6 operations
    said = predict(work, RATES)
    assert said.rollout == pytest.approx(10 * (0.004 + 4e6 / 1e10) + 96 * (0.0005 + 2e7 / 3e10))
    assert said.update == pytest.approx(0.05 + 48 * (0.0003 + 4e7 / 2e10))
    assert said.publish == pytest.approx(3 * 0.002)
    assert said.total() == pytest.approx(said.rollout + said.update + said.publish)
    assert said.total(overlap=True) == pytest.approx(max(said.rollout, said.update) + said.publish)


def test_workers_share_calls_and_not_passes() -> None:
    work = WORKS[3]
    many = predict(work, RATES, Cluster(workers=10**9, learners=10**9))
    assert many.rollout == pytest.approx(work.passes * (0.004 + 4 * work.weights / 1e10), rel=1e-6)
    assert many.update == pytest.approx(0.05, rel=1e-6)


def test_gradients_go_around_all_learners_and_adapters_to_the_workers() -> None:
    cluster, work = Cluster(learners=4, link_bytes_s=1e9), WORKS[0]
    alone = predict(work, RATES, Cluster(learners=4))
    sent = predict(work, RATES, cluster, trained=1e6)
    assert sent.update - alone.update == pytest.approx(2 * 4e6 / 1e9 * 3 / 4)
    assert sent.publish - alone.publish == pytest.approx(4e6 / 1e9)


def test_rates_are_found_again_from_steps_that_they_made() -> None:
    found = fit([(work, predict(work, RATES)) for work in WORKS])
    for work in (*WORKS, replace(WORKS[3], nodes=1023, depth=10), replace(WORKS[5], weights=1e9)):
        assert predict(work, found).total() == pytest.approx(predict(work, RATES).total(), rel=1e-6)


def test_no_rate_is_negative_where_steps_are_no_sum_of_parts() -> None:
    noisy = [(work, StepTime(1.0 + k % 3, 2.0 - k % 2, 0.1)) for k, work in enumerate(WORKS)]
    found = fit(noisy)
    assert min(found.pass_s, found.call_s, found.update_s, found.row_s, found.adapter_s) >= 0
    assert min(found.read_bytes_s, found.sample_flops, found.train_flops) > 0


def test_a_few_steps_do_not_tell_the_parts_apart() -> None:
    with pytest.raises(ValueError, match="3 measured steps"):
        fit([(work, predict(work, RATES)) for work in WORKS[:3]])
