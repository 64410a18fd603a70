"""Schedule, meter, statistics: literal values."""

import pytest

from neuromas.spec.training import EntropySpec, TrainingSpec
from neuromas.training.metrics import StepMeter
from neuromas.training.schedule import entropy_weight, learning_rate_factor
from neuromas.training.statistics import exact_mcnemar, paired_test, wilson_interval


def factors(steps, warmup=True, decay=True):
    spec = TrainingSpec()
    return [round(learning_rate_factor(step, steps, spec, warmup=warmup, decay=decay), 6) for step in range(steps)]


def test_learning_rate_rises_stays_and_falls():
    rate = factors(80)
    assert rate[:6] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    assert rate[48] == 1.0
    assert rate[64] == 0.55
    assert rate[79] == pytest.approx(0.128125)


def test_a_stage_of_unknown_length_does_not_decay_and_one_that_goes_on_does_not_warm_up():
    assert set(factors(30, warmup=False, decay=False)) == {1.0}


def test_entropy_weight_ends_at_until():
    spec = EntropySpec(start=0.02, until=0.5)
    assert [entropy_weight(step, 8, spec) for step in (0, 2, 4, 7)] == [0.02, 0.01, 0.0, 0.0]


def test_meters_of_processes_add_up_whatever_each_has_collected():
    meter, other = StepMeter(), StepMeter()
    meter.add("a", 3, 4)
    meter.add("a", 1, 0)
    meter.add("nothing", 0, 0)
    meter.total("calls", 5)
    meter.peak("max", 2.0)
    assert meter.values() == {"a": 1.0, "calls": 5.0, "max": 2.0}
    other.add("b", 1, 2)
    other.total("calls", 7)
    other.peak("max", 3.0)
    other.add("a", 0, 4)
    meter.include(other)
    assert meter.values() == {"a": 0.5, "b": 0.5, "calls": 12.0, "max": 3.0}


def test_wilson_interval_by_hand():
    interval = wilson_interval(8, 10)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.8, 0.490162, 0.943318), abs=1e-6)
    assert wilson_interval(0, 5).low == 0.0


def test_exact_mcnemar_by_hand():
    assert exact_mcnemar(8, 1) == pytest.approx(2 * (1 + 9) / 2**9)
    assert exact_mcnemar(0, 0) == 1.0


def test_paired_test_counts_wins_and_bounds_the_gain():
    result = paired_test([0, 0, 0, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 1, 1, 1, 1, 1])
    assert (result.wins, result.losses, result.gain) == (8, 1, 0.7)
    assert result.p_value == pytest.approx(0.0390625)
    assert result.low <= 0.7 <= result.high
    graded = paired_test([0.5, 0.25, 0.0], [0.5, 0.25, 0.0])
    assert (graded.gain, graded.p_value) == (0.0, 1.0)
