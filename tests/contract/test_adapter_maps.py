"""What the map of every family promises."""

import pytest
import torch
from adapter_families import SPECS
from peft.tuners.unilora import UniLoraModel
from torch import Tensor, nn

from neuromas.adapters.families.contract import AdapterSpec, ModuleShape
from neuromas.adapters.families.map import AdapterMap
from neuromas.adapters.families.registry import FAMILIES
from neuromas.adapters.families.unilora.map import UniLoraMap, balanced_index
from neuromas.adapters.position import AdapterPosition
from neuromas.errors import AdapterError, SpecError

CPU = torch.device("cpu")
SHAPES = (ModuleShape("x.q_proj", 6, 10), ModuleShape("x.up_proj", 6, 4))
LENGTH = 2 * sum(shape.width for shape in SHAPES)
NAMES = ("a", "b", "c")


def layer(shape: ModuleShape) -> nn.Linear:
    linear = nn.Linear(shape.in_features, shape.out_features, bias=False)
    values = torch.randn(linear.weight.shape, generator=torch.Generator().manual_seed(len(shape.path)))
    linear.weight.data.copy_(values)
    return linear


def finished(adapter_map: AdapterMap) -> AdapterMap:
    for shape in SHAPES:
        adapter_map.add_module(shape.path, layer(shape))
    adapter_map.finish(CPU)
    return adapter_map


@pytest.fixture(params=list(SPECS))
def spec(request) -> AdapterSpec:
    return SPECS[request.param]


@pytest.fixture
def make(spec: AdapterSpec):
    return lambda names=NAMES: finished(spec.make_map([AdapterPosition(name) for name in names], seed=3))


def scramble(adapter_map: AdapterMap) -> AdapterMap:
    generator = torch.Generator().manual_seed(0)
    for owned in adapter_map.tensors():
        if owned.is_trained:
            owned.tensor.data = torch.randn(owned.tensor.shape, generator=generator)
    return adapter_map


def updates(adapter_map: AdapterMap) -> list[Tensor]:
    return [b @ a for a, b in (adapter_map.pair(shape.path, None) for shape in SHAPES)]


def test_every_family_is_in_the_suite():
    assert {spec.type for spec in SPECS.values()} == set(FAMILIES)


def test_pairs_have_the_shapes_of_their_module(make, spec: AdapterSpec):
    for shape in SHAPES:
        a, b = make().pair(shape.path, None)
        assert a.shape == (3, spec.served_rank, shape.in_features)
        assert b.shape == (3, shape.out_features, spec.served_rank)
        assert a.dtype == b.dtype == torch.float32


def test_every_adapter_starts_as_the_base_with_a_gradient(make):
    for k in range(len(NAMES)):
        adapter_map = make()
        for shape in SHAPES:
            a, b = adapter_map.pair(shape.path, torch.tensor([k]))
            assert not (b @ a).any()
            ((b @ a).flatten() * torch.arange(shape.in_features * shape.out_features)).sum().backward()
        found = [owned.tensor.grad for owned in adapter_map.tensors() if owned.tensor.grad is not None]
        assert any(bool(gradient.any()) for gradient in found)


def test_starts_do_not_depend_on_the_number_or_order_of_adapters(make):
    alone, among = make(("b",)), make(("z", "b", "y"))
    for shape in SHAPES:
        for one, other in zip(alone.pair(shape.path, None), among.pair(shape.path, None), strict=True):
            assert torch.equal(one[0], other[1])


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
    for owned in adapter_map.tensors():
        if owned.is_trained and owned.dim is not None:
            norms = owned.rows(owned.tensor.grad).flatten(1).norm(dim=1)
            assert norms[0] == norms[2] == 0
            assert norms[1] > 0


def test_the_base_is_left_as_it_is(spec: AdapterSpec):
    adapter_map = spec.make_map([AdapterPosition("a")], seed=3)
    layers = {shape.path: layer(shape) for shape in SHAPES}
    for path, linear in layers.items():
        adapter_map.add_module(path, linear)
    adapter_map.finish(CPU)
    for update in updates(scramble(adapter_map)):
        update.sum().backward()
    for shape in SHAPES:
        assert torch.equal(layers[shape.path].weight, layer(shape).weight)
        assert layers[shape.path].weight.grad is None


def test_tensors_count_adapters_along_their_dimension(make):
    for owned in make().tensors():
        assert owned.rows(owned.tensor).shape[0] == (1 if owned.dim is None else 3)


def test_the_formula_of_trained_numbers_is_their_count(make, spec: AdapterSpec):
    trained = [owned for owned in make().tensors() if owned.is_trained]
    own = sum(owned.tensor.numel() for owned in trained if owned.dim is not None)
    shared = sum(owned.tensor.numel() for owned in trained if owned.dim is None)
    assert (own, shared) == (3 * spec.num_parameters(SHAPES).per_adapter, spec.num_parameters(SHAPES).shared)


def test_a_pooled_adapter_has_at_least_the_numbers_of_all_and_not_many_more(spec: AdapterSpec):
    if spec.num_parameters(SHAPES).shared:
        with pytest.raises(SpecError, match="cannot be pooled"):
            spec.pooled(3)
        return
    one, pooled = (each.num_parameters(SHAPES).total(1) for each in (spec, spec.pooled(3)))
    assert 3 * one <= pooled <= 4 * one


@pytest.mark.parametrize(("total", "dimension", "seed"), [(52, 20, 3), (40, 20, 0), (1000, 7, 42), (5, 5, 1)])
def test_the_projection_index_equals_pefts(total, dimension, seed):
    ours, theirs = balanced_index(total, dimension, seed), UniLoraModel.generate_index(total, dimension, seed)
    assert torch.equal(ours.long(), theirs)


def test_the_projection_is_an_isometry():
    adapter_map = scramble(finished(UniLoraMap(NAMES[:2], 2, dimension=20, seed=3)))
    theta = adapter_map.tensors()[0].tensor.detach()
    pairs = [adapter_map.pair(shape.path, None) for shape in SHAPES]
    stacked = torch.cat([tensor.detach().flatten(1) for pair in pairs for tensor in pair], dim=1)
    assert stacked.shape == (2, LENGTH)
    between_vectors = (theta[:, 0] - theta[:, 1]).norm()
    torch.testing.assert_close((stacked[0] - stacked[1]).norm(), between_vectors, rtol=1e-6, atol=0)


def test_a_vector_longer_than_what_it_fills_is_refused():
    with pytest.raises(AdapterError, match=rf"allowed are 1\.\.{LENGTH}"):
        finished(UniLoraMap(NAMES[:1], 2, dimension=LENGTH + 1, seed=0))


def test_vectors_of_different_projections_can_be_told_apart():
    one, other = (finished(UniLoraMap(NAMES[:1], 2, 20, seed)).constants()["projection"] for seed in (1, 2))
    assert one.tolist() == [1, LENGTH, 20]
    assert not torch.equal(one, other)
