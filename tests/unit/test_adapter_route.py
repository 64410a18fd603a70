import pytest
import torch

from neuromas.adapters.route import Route
from neuromas.errors import AdapterError

CPU = torch.device("cpu")


def test_rows_are_numbered_within_the_adapters_present():
    route = Route(6)
    route.set([4, 1, 4, 4])
    plan = route.plan(4, CPU)
    assert plan.present.tolist() == [1, 4]
    assert plan.local.tolist() == [1, 0, 1, 1]
    assert not plan.single


def test_nothing_is_gathered_when_rows_follow_the_stacks():
    route = Route(3)
    route.set([0, 1, 2])
    plan = route.plan(3, CPU)
    assert plan.present is None
    assert plan.local is None


def test_one_adapter_for_all_rows_is_recognised():
    route = Route(3)
    route.set(torch.tensor([2, 2]))
    assert route.plan(2, CPU).single
    assert route.plan(2, CPU).present.tolist() == [2]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([0, 3], r"0\.\.3, allowed are 0\.\.2"),
        ([-1, 0], r"-1\.\.0, allowed are 0\.\.2"),
        ([], "one adapter index per row"),
        (torch.tensor([[0, 1]]), r"shape \(1, 2\)"),
        (torch.tensor([0.0, 1.0]), "float32"),
        (torch.tensor([True, False]), "bool"),
    ],
)
def test_a_route_that_cannot_be_right_is_refused(index, message):
    with pytest.raises(AdapterError, match=message):
        Route(3).set(index)


def test_a_batch_of_another_size_is_refused_not_broadcast():
    route = Route(3)
    route.set([1])
    with pytest.raises(AdapterError, match="batch of 4 rows, but adapters were set for 1"):
        route.plan(4, CPU)


def test_without_a_route_only_a_lone_adapter_is_unambiguous():
    assert Route(1).plan(7, CPU).single
    with pytest.raises(AdapterError, match="none is set"):
        Route(2).plan(7, CPU)
