import numpy as np
import pytest

from neuromas.adapters.ref import PlainLora
from neuromas.studies.score_kernel import document, kernel, overlaps


def test_the_numbers_of_a_kernel_of_two_modules() -> None:
    grams = {"layers.0.q_proj": np.diag([3.0, 0.0]), "layers.1.q_proj": np.array([[1.0, 1.0], [1.0, 1.0]])}
    found = kernel("a", grams, np.array([1.0, -1.0]), linearity_gap=0.25)
    assert found.push == pytest.approx(3.0)  # 3 of the first part; the second sees only the sum of the advantages
    assert found.alignment == pytest.approx(3.0 / (2.0 * 5.0))
    assert [(module.path, module.push, module.trace_share) for module in found.modules] == [
        ("layers.0.q_proj", pytest.approx(3.0), pytest.approx(0.6)),
        ("layers.1.q_proj", pytest.approx(0.0), pytest.approx(0.4)),
    ]
    high, low = (5 + 13**0.5) / 2, (5 - 13**0.5) / 2
    assert found.eigenvalues == pytest.approx((high, low))
    assert found.condition == pytest.approx(high / low, rel=1e-4)
    shares = np.array([high, low]) / 5
    assert found.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_equal_eigenvalues_have_full_effective_rank_and_a_singular_kernel_a_bounded_condition() -> None:
    assert kernel("a", {"m": np.eye(4)}, np.zeros(4), None).effective_rank == pytest.approx(4.0)
    singular = kernel("a", {"m": np.ones((3, 3))}, np.zeros(3), None)
    assert singular.effective_rank == pytest.approx(1.0)
    assert singular.condition == pytest.approx(1e6, rel=1e-3)


def test_rollouts_without_signal_push_nothing() -> None:
    found = kernel("a", {"m": np.eye(2)}, np.zeros(2), None)
    assert (found.push, found.alignment) == (0.0, None)
    assert document([found], {})["inert"] == []


def test_an_adapter_that_moves_a_thousandth_of_the_best_is_inert() -> None:
    advantages = np.array([1.0, -1.0])
    one, other = (
        kernel("a", {"x.v": np.eye(2)}, advantages, None),
        kernel("b", {"x.v": 1e-4 * np.eye(2)}, advantages, None),
    )
    found = document([one, other], {})
    assert found["inert"] == ["b"]
    assert found["adapters"][0]["suffixes"] == {"v": pytest.approx(2.0)}  # type: ignore[index]


def test_overlap_is_the_share_of_an_update_in_the_span_of_another() -> None:
    def lora(a: list[list[float]], b: list[list[float]]) -> PlainLora:
        return PlainLora(len(a), {"m": (np.array(a, dtype=np.float32), np.array(b, dtype=np.float32))})

    one = lora([[1, 0, 0]], [[2], [0]])
    both = lora([[1, 0, 0], [0, 1, 0]], [[3, 0], [0, 4]])  # 9 of 25 lie in the span of the first
    none = lora([[0, 0, 0]], [[0], [0]])
    found = overlaps({"one": one, "both": both, "none": none})
    assert found["one"] == {"one": pytest.approx(1.0), "both": pytest.approx(9 / 25), "none": 0.0}
    assert found["both"]["one"] == pytest.approx(1.0)
    assert found["none"] == {"one": 0.0, "both": 0.0, "none": 0.0}
