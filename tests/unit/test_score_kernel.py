import numpy as np
import pytest

from neuromas.adapters.ref import PlainLora
from neuromas.studies.score_kernel import MAX_MODULES, Kernel, document, kernel, overlaps, to_target
from neuromas.studies.similarity import MAX_PAIRS


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
    assert found["grow_from"] == ["a"]
    assert found["adapters"][0]["suffixes"] == {"v": pytest.approx(2.0)}  # type: ignore[index]


def test_the_layers_to_target_are_the_fewest_that_hold_nine_tenths_of_the_push() -> None:
    advantages = np.array([1.0, -1.0])

    def of(adapter: str, **pushes: float) -> Kernel:  # each 2 x push / 2
        return kernel(adapter, {f"0.{name}": push / 2 * np.eye(2) for name, push in pushes.items()}, advantages, None)

    found = document([of("a", q=6, k=3, v=1), of("b", q=0.5, v=4.5), of("c", up=1, q=1, k=1)], {})
    assert [entry["targets"] for entry in found["adapters"]] == [["q", "k"], ["v"], ["up", "q", "k"]]  # type: ignore[index,union-attr]
    # Together: q 7.5, v 5.5, k 4, up 1 of 18; nine tenths are 16.2.
    assert found["targets"] == ["q", "v", "k"]
    assert found["grow_from"] == ["a", "b"]  # 10 and 5; c has 3
    assert to_target({"q": 0.0, "v": 0.0}) == []


def test_of_very_many_modules_those_with_the_largest_push_are_listed_and_all_are_counted() -> None:
    grams = {f"{k}.q": np.diag([float(k), 0.0]) for k in range(100)}
    (found,) = document([kernel("a", grams, np.array([1.0, 0.0]), None)], {})["adapters"]  # type: ignore[misc,index]
    assert [module["path"] for module in found["modules"]] == [f"{k}.q" for k in range(99, 99 - MAX_MODULES, -1)]
    assert found["suffixes"] == {"q": pytest.approx(sum(range(100)))}


def test_overlap_is_the_share_of_an_update_in_the_span_of_another() -> None:
    def lora(a: list[list[float]], b: list[list[float]]) -> PlainLora:
        return PlainLora(len(a), {"m": (np.array(a, dtype=np.float32), np.array(b, dtype=np.float32))})

    one = lora([[1, 0, 0]], [[2], [0]])
    both = lora([[1, 0, 0], [0, 1, 0]], [[3, 0], [0, 4]])  # 9 of 25 lie in the span of the first
    none = lora([[0, 0, 0]], [[0], [0]])
    found = overlaps({"one": one, "both": both, "none": none})
    assert found[:2] == [
        {"of": "one", "within": "both", "share": pytest.approx(1.0)},
        {"of": "both", "within": "one", "share": pytest.approx(9 / 25)},
    ]
    assert {(pair["of"], pair["within"]): pair["share"] for pair in found[2:]} == {
        ("one", "none"): 0.0, ("both", "none"): 0.0, ("none", "one"): 0.0, ("none", "both"): 0.0,
    }  # fmt: skip
    assert len(overlaps({f"a{k}": one for k in range(12)})) == MAX_PAIRS
