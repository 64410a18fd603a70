"""What every AdapterMap promises, over all of them."""

import pytest
import torch
from peft.tuners.unilora import UniLoraModel
from torch import nn

from neuromas.adapters.maps.contract import AdapterMap, ModuleShape
from neuromas.adapters.maps.lora import LoraMap
from neuromas.adapters.maps.unilora import UniLoraMap, balanced_index
from neuromas.errors import AdapterError

CPU = torch.device("cpu")
SHAPES = (ModuleShape("x.q_proj", 6, 10), ModuleShape("x.up_proj", 6, 4))
RANK = 2
LENGTH = RANK * sum(shape.in_features + shape.out_features for shape in SHAPES)


def finished(adapter_map: AdapterMap) -> AdapterMap:
    for shape in SHAPES:
        adapter_map.add_module(shape, CPU)
    adapter_map.finish(CPU)
    return adapter_map


MAPS = {
    "lora": lambda names=("a", "b", "c"): finished(LoraMap(names, RANK, seed=3)),
    "unilora": lambda names=("a", "b", "c"): finished(UniLoraMap(len(names), RANK, dimension=20, seed=3)),
}


@pytest.fixture(params=list(MAPS))
def make(request):
    return MAPS[request.param]


def scramble(adapter_map: AdapterMap) -> AdapterMap:
    generator = torch.Generator().manual_seed(0)
    for stack in adapter_map.stacks():
        stack.parameter.data = torch.randn(stack.parameter.shape, generator=generator)
    return adapter_map


def test_pairs_have_the_shapes_of_their_module(make):
    for shape in SHAPES:
        a, b = make().pair(shape.path, None)
        assert a.shape == (3, RANK, shape.in_features)
        assert b.shape == (3, shape.out_features, RANK)
        assert a.dtype == b.dtype == torch.float32


def test_every_adapter_starts_as_the_base_with_a_gradient(make):
    adapter_map = make()
    for shape in SHAPES:
        a, b = adapter_map.pair(shape.path, None)
        assert not b.any()
        assert a.abs().amax((1, 2)).min() > 0
        (b @ a).sum().backward()
    for stack in adapter_map.stacks():
        if not stack.key.endswith("/A"):
            assert stack.rows(stack.parameter.grad).flatten(1).norm(dim=1).min() > 0


def test_starts_do_not_depend_on_the_number_or_order_of_adapters(make):
    alone, among = make(("b",)), make(("z", "b", "y"))
    for shape in SHAPES:
        assert torch.equal(alone.pair(shape.path, None)[0][0], among.pair(shape.path, None)[0][1])


def test_the_adapters_present_are_slices_of_all(make):
    adapter_map = scramble(make())
    for shape in SHAPES:
        every = adapter_map.pair(shape.path, None)
        some = adapter_map.pair(shape.path, torch.tensor([0, 2]))
        for whole, part in zip(every, some, strict=True):
            assert torch.equal(whole[[0, 2]], part)


def test_absent_adapters_get_exactly_no_gradient(make):
    adapter_map = scramble(make())
    for shape in SHAPES:
        a, b = adapter_map.pair(shape.path, torch.tensor([1]))
        (b @ a).square().sum().backward()
    for stack in adapter_map.stacks():
        norms = stack.rows(stack.parameter.grad).flatten(1).norm(dim=1)
        assert norms[0] == norms[2] == 0
        assert norms[1] > 0


def test_stacks_count_adapters_along_their_dimension(make):
    for stack in make().stacks():
        assert stack.rows(stack.parameter).shape[0] == 3
        assert isinstance(stack.parameter, nn.Parameter)


@pytest.mark.parametrize(("name", "numbers"), [("lora", LENGTH), ("unilora", 20)])
def test_trainable_numbers_per_adapter(name, numbers):
    assert sum(stack.parameter.numel() for stack in MAPS[name]().stacks()) == 3 * numbers


@pytest.mark.parametrize(("total", "dimension", "seed"), [(52, 20, 3), (40, 20, 0), (1000, 7, 42), (5, 5, 1)])
def test_the_projection_index_equals_pefts(total, dimension, seed):
    ours, theirs = balanced_index(total, dimension, seed), UniLoraModel.generate_index(total, dimension, seed)
    assert torch.equal(ours.long(), theirs)


def test_the_projection_is_an_isometry():
    adapter_map = finished(UniLoraMap(2, RANK, dimension=20, seed=3))
    scramble(adapter_map)
    theta = adapter_map.stacks()[0].parameter.detach()
    pairs = [adapter_map.pair(shape.path, None) for shape in SHAPES]
    stacked = torch.cat([tensor.detach().flatten(1) for pair in pairs for tensor in pair], dim=1)
    assert stacked.shape == (2, LENGTH)
    between_vectors = (theta[:, 0] - theta[:, 1]).norm()
    torch.testing.assert_close((stacked[0] - stacked[1]).norm(), between_vectors, rtol=1e-6, atol=0)


def test_a_vector_longer_than_what_it_fills_is_refused():
    with pytest.raises(AdapterError, match=rf"allowed are 1\.\.{LENGTH}"):
        finished(UniLoraMap(1, RANK, dimension=LENGTH + 1, seed=0))


def test_vectors_of_different_projections_can_be_told_apart():
    one, other = (finished(UniLoraMap(1, RANK, 20, seed)).constants()["projection"] for seed in (1, 2))
    assert one.tolist() == [1, LENGTH, 20]
    assert not torch.equal(one, other)
