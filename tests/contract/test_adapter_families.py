"""What every family of adapters promises on a model: forward, gradient, export, states, growth."""

import copy
from pathlib import Path

import pytest
import torch
from adapter_families import SPECS
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import build_model, load_base
from neuromas.adapters.export import engine_rank, padded, read_peft_folder, write_peft_folder
from neuromas.adapters.families.contract import SHARED, AdapterSpec
from neuromas.adapters.inherit import inherit
from neuromas.base.linears import linear_shapes
from neuromas.errors import AdapterError
from neuromas.growth.plan import apply_plan
from neuromas.spec.growth import InheritanceSpec, PlanSpec, WidenSpec
from neuromas.topology.document import topology_from_document
from neuromas.training.optimizer import NodeAdamW

GRAPH = topology_from_document({"layers": [2]})
ROUTES = [2, 0, 1, 0, 2]


@pytest.fixture(params=list(SPECS))
def spec(request) -> AdapterSpec:
    return SPECS[request.param]


def trained(folder: Path, spec: AdapterSpec, graph=GRAPH, dtype: torch.dtype = torch.float32):
    model, bank = build_model(folder, spec, graph, seed=0, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    for owned in bank.trained():
        owned.tensor.data += 0.3 * torch.randn(owned.tensor.shape, generator=generator)
    return model, bank


def batch(rows: int = len(ROUTES)) -> Tensor:
    return torch.randint(0, 40, (rows, 10), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def logits(model: torch.nn.Module, ids: Tensor) -> Tensor:
    return model.eval()(input_ids=ids).logits


def losses(model: torch.nn.Module, ids: Tensor) -> Tensor:
    scores = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(scores.transpose(1, 2), ids[:, 1:], reduction="none").sum(1)


def gradients(bank: AdapterBank) -> dict[str, Tensor]:
    return {owned.key: owned.tensor.grad.clone() for owned in bank.trained()}


def test_a_new_graph_says_what_the_base_says(small_base: Path, spec: AdapterSpec):
    model, bank = build_model(small_base, spec, GRAPH, seed=0)
    bank.set_routes(ROUTES)
    assert torch.equal(logits(model, batch()), logits(load_base(small_base), batch()))


def test_each_node_says_what_its_exported_folder_says_in_stock_peft(
    small_base: Path, spec: AdapterSpec, tmp_path: Path
):
    model, bank = trained(small_base, spec)
    bank.set_routes(ROUTES)
    mixed, base = logits(model, batch()), logits(load_base(small_base), batch())
    rank = engine_rank(spec.served_rank)
    for name, lora in bank.export_all().items():
        assert lora.rank == spec.served_rank
        write_peft_folder(padded(lora, rank), str(small_base), tmp_path / name)
        back = read_peft_folder(tmp_path / name)
        assert back.rank == rank
        stock = logits(PeftModel.from_pretrained(load_base(small_base), tmp_path / name), batch())
        rows = [row for row, k in enumerate(ROUTES) if k == bank.index(name)]
        assert (stock[rows] - base[rows]).abs().max() > 1e-2
        torch.testing.assert_close(mixed[rows], stock[rows], rtol=0, atol=1e-5)


def test_the_joint_gradient_is_the_sum_of_a_pass_per_node(small_base: Path, spec: AdapterSpec):
    model, bank = trained(small_base, spec, dtype=torch.float64)
    weights = torch.linspace(-1.0, 2.0, len(ROUTES))
    bank.set_routes(ROUTES)
    (losses(model, batch()) * weights).sum().backward()
    joint = gradients(bank)
    model.zero_grad()
    for k in range(3):
        rows = torch.tensor([row for row, route in enumerate(ROUTES) if route == k])
        bank.set_routes([k] * len(rows))
        (losses(model, batch()[rows]) * weights[rows]).sum().backward()
    largest = max(gradient.abs().max() for gradient in joint.values())
    assert largest > 0
    for key, gradient in gradients(bank).items():
        assert (gradient - joint[key]).abs().max() < 1e-6 * largest


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_activations_give_the_same_gradient(small_base: Path, spec: AdapterSpec, reentrant: bool):
    found = []
    for is_recomputed in (False, True):
        model, bank = trained(small_base, spec)
        model.train()
        if is_recomputed:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        bank.set_routes(ROUTES)
        losses(model, batch()).sum().backward()
        found.append(gradients(bank))
    for key, gradient in found[0].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=1e-4, atol=1e-5)


def test_what_is_trained_is_what_the_formula_counts(small_base: Path, spec: AdapterSpec):
    model, bank = build_model(small_base, spec, GRAPH, seed=0)
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    shapes = linear_shapes(small_base, spec.targets)
    assert not list(spec.faults(shapes))
    assert count == sum(owned.tensor.numel() for owned in bank.trained()) == spec.num_parameters(shapes).total(3)


def test_states_round_trip_into_another_graph(small_base: Path, spec: AdapterSpec, tmp_path: Path):
    model, bank = trained(small_base, spec)
    save_file(bank.state(), tmp_path / "state.safetensors")
    state = load_file(tmp_path / "state.safetensors")
    shared = [key for key in state if key.startswith(f"{SHARED}/")]
    assert len(shared) == len({key.partition("/")[2] for key in shared})
    has_projection = any(key.endswith("/projection") for key in state)
    other, other_bank = build_model(small_base, spec, GRAPH, seed=0 if has_projection else 9)
    other_bank.load_all(state)
    assert all(torch.equal(value, other_bank.state()[key]) for key, value in state.items())
    bank.set_routes(ROUTES)
    other_bank.set_routes(ROUTES)
    torch.testing.assert_close(logits(other, batch()), logits(model, batch()), rtol=0, atol=1e-6)


def test_peft_saves_and_loads_the_model(small_base: Path, spec: AdapterSpec, tmp_path: Path):
    model, bank = trained(small_base, spec)
    model.save_pretrained(tmp_path)
    back = PeftModel.from_pretrained(load_base(small_base), tmp_path)
    back_bank = AdapterBank(back)
    assert all(torch.equal(value, bank.state()[key]) for key, value in back_bank.state().items())
    bank.set_routes(ROUTES)
    back_bank.set_routes(ROUTES)
    assert torch.equal(logits(back, batch()), logits(model, batch()))


def test_a_copied_model_has_its_own_weights(small_base: Path, spec: AdapterSpec):
    model, bank = trained(small_base, spec)
    bank.set_routes(ROUTES)
    before = logits(model, batch())
    twin = copy.deepcopy(model)
    twin_bank = AdapterBank(twin)
    for owned in twin_bank.trained():
        owned.tensor.data.zero_()
    twin_bank.set_routes(ROUTES)
    assert torch.equal(logits(model, batch()), before)
    assert not torch.equal(logits(twin, batch()), before)


@pytest.mark.parametrize("new", ["fresh", "zero", "copy", "interpolate"])
def test_growth_keeps_old_adapters_bit_for_bit(small_base: Path, spec: AdapterSpec, new: str):
    _, bank = trained(small_base, spec)
    grown = apply_plan(GRAPH, PlanSpec(edits=(WidenSpec(edit="widen", layer=1),), inherit=InheritanceSpec(new=new)))
    model, larger = build_model(small_base, spec, grown.topology, seed=0)
    (added,) = set(larger.names) - set(bank.names)
    plan = [bank.state()], grown.sources, larger.state(), larger.roles()
    if new not in spec.starts:
        with pytest.raises(AdapterError, match="cannot start at zero"):
            inherit(*plan, seed=0)
        return
    larger.load_all(inherit(*plan, seed=0))
    state = larger.state()
    assert all(torch.equal(state[key], value) for key, value in bank.state().items())
    base = logits(load_base(small_base), batch(1))
    larger.set_routes([larger.index(added)])
    said = logits(model, batch(1))
    if new == "zero":
        assert torch.equal(said, base)
    elif new == "copy":
        (origin,) = grown.sources[added].origins
        larger.set_routes([larger.index(origin.adapter)])
        if f"{added}/place" not in state:
            assert torch.equal(said, logits(model, batch(1)))


def test_a_group_at_rest_keeps_every_bit_and_shared_tensors_have_one_step_count(small_base: Path, spec: AdapterSpec):
    model, bank = trained(small_base, spec)
    optimizer = NodeAdamW(bank.trained(), bank.groups, 1e-2, (0.9, 0.99), 0.1)
    bank.set_routes([0, 1, 1])
    losses(model, batch(3)).sum().backward()
    before, norms = bank.state(), bank.grad_norms()
    bank.clip_(0.5, norms)
    assert norms.shape == (len(bank.groups),)
    assert bank.grad_norms().max() <= 0.5 + 1e-5
    active = torch.tensor([True, False, False, *([True] * (len(bank.groups) - 3))])
    optimizer.set_active(active)
    optimizer.step()
    after, (moments, counts) = bank.state(), optimizer.export()
    moved = {key.partition("/")[0] for key in after if not torch.equal(after[key], before[key])}
    assert moved == {group for group, is_active in zip(bank.groups, active.tolist(), strict=True) if is_active}
    assert counts == {group: int(is_active) for group, is_active in zip(bank.groups, active.tolist(), strict=True)}
    again = NodeAdamW(bank.trained(), bank.groups, 1e-2, (0.9, 0.99), 0.1)
    again.restore(moments, counts)
    restored, _ = again.export()
    assert all(torch.equal(value, restored[key]) for key, value in moments.items())
