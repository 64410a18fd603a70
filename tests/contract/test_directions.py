"""Directions that starts are made of, against dense decompositions, and against PEFT's EVA."""

import pytest
import torch
from peft.tuners.lora.eva import SVDHook
from torch import Tensor, nn

from neuromas.adapters.directions import InputDirections, LayerStatistics, leading_rotation_plane
from neuromas.adapters.families.contract import ModuleShape
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.position import AdapterPosition


def rows(number: int, seed: int, width: int = 12) -> Tensor:
    """Rows whose directions have clearly different sizes."""
    generator = torch.Generator().manual_seed(seed)
    turned = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(99)))[0]
    return torch.randn(number, width, generator=generator) * 0.6 ** torch.arange(width) @ turned


def test_the_directions_of_one_batch_are_its_singular_vectors():
    found = InputDirections(4, 0.99)
    found.add(rows(50, 0))
    leading = torch.linalg.svd(rows(50, 0), full_matrices=False)[2][:4]
    torch.testing.assert_close((found.found("x") * leading).sum(1).abs(), torch.ones(4), rtol=0, atol=1e-5)
    assert not found.has_converged, "one batch shows nothing of the next"


def test_the_directions_of_several_batches_are_those_of_pefts_eva():
    # PEFT's takes the mean out; that of rows and their opposites is zero.
    batches = [torch.cat([part, -part]) for part in (rows(40, seed) for seed in range(5))]
    hook = SVDHook(n_components=4, sim_thresh=0.999, name="x")
    found = InputDirections(4, 0.999)
    for batch in batches:
        hook.model_input = {}
        hook(nn.Linear(12, 12), (batch.clone(),), None)
        found.add(batch)
    theirs = hook.svd.components_.float()
    torch.testing.assert_close((found.found("x") * theirs).sum(1).abs(), torch.ones(4), rtol=0, atol=1e-4)
    assert found.has_converged == bool(torch.as_tensor(hook.converged).all())
    torch.testing.assert_close(found.shares(), hook.svd.explained_variance_ratio_.float(), rtol=1e-3, atol=0)


def test_a_turn_of_one_direction_is_no_convergence():
    found = InputDirections(2, 0.95)
    for _ in range(3):
        found.add(torch.diag(torch.tensor([3.0, 2.0, 0.0, 0.0])))
    assert found.has_converged
    found.add(torch.diag(torch.tensor([0.0, 0.0, 9.0, 0.0])))
    assert not found.has_converged


def test_directions_that_no_row_has_are_drawn_by_the_key_and_orthogonal():
    found = InputDirections(4, 0.99)
    for _ in range(2):
        found.add(torch.diag(torch.tensor([3.0, 2.0, 0.0, 0.0, 0.0, 0.0])))
    basis = found.found("one")
    torch.testing.assert_close(basis @ basis.T, torch.eye(4), rtol=0, atol=1e-6)
    torch.testing.assert_close(basis[:2].abs(), torch.eye(2, 6), rtol=0, atol=1e-6)
    assert torch.equal(found.found("one"), basis)
    assert not torch.equal(found.found("other"), basis)
    assert found.has_converged, "what no row has cannot turn"
    torch.testing.assert_close(found.shares(), torch.tensor([9 / 13, 4 / 13, 0.0, 0.0]))


@pytest.mark.parametrize("rank", [2, 6])
def test_the_plane_is_that_of_the_largest_eigenvalues_of_the_skew_part(rank: int):
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(30, 40, generator=generator)
    # A gradient of few directions, as that of some rollouts is, and noise.
    gradient = torch.randn(30, 3, generator=generator) @ torch.randn(3, 40, generator=generator)
    gradient += 0.01 * torch.randn(30, 40, generator=generator)
    plane = leading_rotation_plane(weight, gradient, rank, "x").double()
    skew = (weight.T @ gradient - gradient.T @ weight).double() / 2
    values, vectors = torch.linalg.eigh(-skew @ skew)
    torch.testing.assert_close(plane @ plane.T, torch.eye(rank, dtype=torch.float64), rtol=0, atol=1e-5)
    leading = vectors[:, -rank:]
    torch.testing.assert_close(plane.T @ plane, leading @ leading.T, rtol=0, atol=1e-3)
    # The rate at which a rotation inside the plane can move the objective.
    torch.testing.assert_close((plane @ skew @ plane.T).norm() ** 2, values[-rank:].sum(), rtol=1e-4, atol=0)


def test_no_gradient_has_no_plane():
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(2))
    assert leading_rotation_plane(weight, torch.zeros(5, 7), 2, "x") is None
    assert leading_rotation_plane(torch.eye(5), torch.eye(5), 2, "x") is None, "a symmetric product has no skew part"


def test_adapters_that_read_the_same_get_different_bases_of_one_span():
    made = LoraSpec(rank=3, start="eva").make_map([AdapterPosition("a"), AdapterPosition("b")], seed=0)
    made.add_module("x.q_proj", nn.Linear(12, 5, bias=False))
    directions = torch.linalg.svd(rows(50, 3), full_matrices=False)[2][:3]
    for adapter in (0, 1):
        made.start(adapter, {"x.q_proj": LayerStatistics(directions, shares=torch.tensor([0.5, 0.3, 0.1]))})
    (one, other), update = (part.detach() for part in made.pair("x.q_proj", None))
    assert not update.any()
    assert (one - other).abs().max() > 0.1
    for a in (one, other):
        torch.testing.assert_close(a.T @ a, directions.T @ directions, rtol=0, atol=1e-5)


def test_ranks_go_to_the_layers_whose_inputs_are_explained_best_and_no_step_moves_the_rest():
    spec = LoraSpec(rank=2, start="eva", rho=2.0)
    made = spec.make_map([AdapterPosition("a"), AdapterPosition("b")], seed=0)
    shares = {
        "x.q_proj": torch.tensor([0.5, 0.2, 0.1, 0.05]),
        "x.v_proj": torch.tensor([0.9, 0.03, 0.02, 0.01]),
        "x.o_proj": torch.tensor([0.3, 0.25, 0.15, 0.12]),
    }
    directions = torch.linalg.svd(rows(50, 3), full_matrices=False)[2][:4]
    for path in shares:
        made.add_module(path, nn.Linear(12, 5, bias=False))
    assert made.rank == spec.served_rank == 4
    made.start(1, {path: LayerStatistics(directions, shares=own) for path, own in shares.items()})
    ranks = {"x.q_proj": 2, "x.v_proj": 1, "x.o_proj": 3}  # .9 .5 .3 .25 .2 .15 | .12 .1 ...
    stacks = {owned.key: owned.tensor for owned in made.tensors()}
    optimizer = torch.optim.AdamW(stacks.values(), lr=0.1, weight_decay=0.1)
    for step in range(4):
        optimizer.zero_grad()
        for path in shares:
            a, b = made.pair(path, torch.tensor([1]))
            (b @ a - rows(5, step)).square().sum().backward()
        optimizer.step()
    for path, rank in ranks.items():
        a, b = (stacks[f"{path}/{letter}"].detach()[1] for letter in "AB")
        assert a[:rank].any(dim=1).all()
        assert b[:, :rank].any(dim=0).all()
        assert not a[rank:].any()
        assert not b[:, rank:].any()
    fresh = spec.make_map([AdapterPosition("b")], seed=0)
    plain = LoraSpec(rank=2).make_map([AdapterPosition("b")], seed=0)
    for each in (fresh, plain):
        each.add_module("x.q_proj", nn.Linear(12, 5, bias=False))
    a = fresh.pair("x.q_proj", None)[0]
    assert torch.equal(a[:, :2], plain.pair("x.q_proj", None)[0])
    assert not a[:, 2:].any()


@pytest.mark.parametrize(
    ("settings", "path", "message"),
    [
        ({"rank": 4, "rho": 2.0, "start": "eva"}, "rho", "got 2 x rank 4 = 8; layer x.q_proj has 6 inputs"),
        ({"rank": 8, "start": "eva"}, "rank", "got 8; layer x.q_proj has 6 inputs"),
        ({"rank": 512, "rho": 2.0}, "rho", "got 2 x rank 512 = 1024; engines serve at most rank 512"),
    ],
)
def test_ranks_that_a_layer_or_an_engine_has_no_room_for_are_refused(settings: dict, path: str, message: str):
    (fault,) = LoraSpec(**settings).faults((ModuleShape("x.q_proj", 6, 10),))
    assert fault.path == path
    assert fault.message.startswith(message)
