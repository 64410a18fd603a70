"""One joint pass over the rows of all nodes against one pass per node on stock PEFT."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import build_model
from neuromas.adapters.export import write_peft_folder
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.families.unilora.map import balanced_index
from neuromas.adapters.families.unilora.spec import UniLoraSpec
from neuromas.adapters.frozen_base import load_base
from neuromas.errors import AdapterError

NAMES = ("a", "b", "c", "d")
ROUTES = [2, 0, 3, 0, 2, 2, 3]  # shuffled rows, uneven counts, no row of "b"
LORA = LoraSpec(rank=3, targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
UNILORA = UniLoraSpec(rank=2, dimension=200)


def scramble(bank: AdapterBank) -> None:
    generator = torch.Generator().manual_seed(1)
    for stack in bank.stacks():
        stack.tensor.data += 0.2 * torch.randn(stack.tensor.shape, generator=generator)


def batch(rows: int = len(ROUTES), tokens: int = 12) -> torch.Tensor:
    return torch.randint(0, 40, (rows, tokens), generator=torch.Generator().manual_seed(2))


def row_losses(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").sum(1)


def weights() -> torch.Tensor:
    """Stand-ins for advantages: every row counts differently, some negatively."""
    return torch.linspace(-1.0, 2.0, len(ROUTES))


def joint_gradient(bank: AdapterBank, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    bank.set_routes(ROUTES)
    (row_losses(model, batch()) * weights()).sum().backward()
    return {stack.key: stack.rows(stack.tensor.grad).clone() for stack in bank.stacks()}


def stock_node(bank: AdapterBank, name: str, base: Path, folder: Path) -> PeftModel:
    """One node alone, as a trainable stock PEFT LoRA in double precision."""
    write_peft_folder(bank.export(name), "small", folder / name)
    return PeftModel.from_pretrained(load_base(base, torch.float64), folder / name, is_trainable=True)


@pytest.mark.parametrize("checkpointing", [None, False, True], ids=["stored", "non-reentrant", "reentrant"])
def test_joint_gradient_equals_a_pass_per_node_on_stock_peft(small_base: Path, tmp_path: Path, checkpointing):
    model, bank = build_model(small_base, LORA, NAMES, seed=0, dtype=torch.float64)
    scramble(bank)
    if checkpointing is not None:
        model.gradient_checkpointing_enable({"use_reentrant": checkpointing})
        model.enable_input_require_grads()
        model.train()
    joint = joint_gradient(bank, model)
    for name in ("a", "c", "d"):
        k = bank.index(name)
        stock = stock_node(bank, name, small_base, tmp_path)
        rows = torch.tensor([row for row, adapter in enumerate(ROUTES) if adapter == k])
        (row_losses(stock, batch()[rows]) * weights()[rows]).sum().backward()
        gradients = dict(stock.named_parameters())
        largest = max(gradient[k].abs().max() for gradient in joint.values())
        for key, gradient in joint.items():
            path, letter = key.rsplit("/", 1)
            expected = gradients[f"base_model.model.{path}.lora_{letter}.default.weight"].grad
            assert expected.abs().max() > 0
            assert (gradient[k] - expected).abs().max() < 1e-7 * largest
    assert all(not gradient[bank.index("b")].any() for gradient in joint.values())


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("spec", [LORA, UNILORA], ids=["lora", "unilora"])
def test_checkpointing_does_not_change_the_gradient(small_base: Path, spec: AdapterSpec, reentrant: bool):
    gradients = []
    for checkpointing in (False, True):
        model, bank = build_model(small_base, spec, NAMES, seed=0)
        scramble(bank)
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        gradients.append(joint_gradient(bank, model))
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", [LORA, UNILORA], ids=["lora", "unilora"])
def test_only_the_node_with_rows_gets_a_gradient(small_base: Path, spec: AdapterSpec):
    model, bank = build_model(small_base, spec, NAMES, seed=0)
    scramble(bank)
    for k in range(len(NAMES)):
        model.zero_grad()
        bank.set_routes([k] * 3)
        row_losses(model, batch(3)).sum().backward()
        norms = bank.grad_norms()
        assert [bool(norm) for norm in norms] == [other == k for other in range(len(NAMES))]


def test_unilora_gradient_is_the_projected_gradient_of_its_pairs(small_base: Path, tmp_path: Path):
    model, bank = build_model(small_base, UNILORA, NAMES, seed=0, dtype=torch.float64)
    scramble(bank)
    joint = joint_gradient(bank, model)["theta"][bank.index("c")]
    stock = stock_node(bank, "c", small_base, tmp_path)
    rows = torch.tensor([row for row, adapter in enumerate(ROUTES) if NAMES[adapter] == "c"])
    (row_losses(stock, batch()[rows]) * weights()[rows]).sum().backward()
    pairs = [parameter.grad.flatten() for name, parameter in stock.named_parameters() if ".lora_" in name]
    stacked = torch.cat(pairs)
    index = balanced_index(stacked.numel(), 200, seed=0).long()
    expected = torch.zeros(200, dtype=torch.float64).index_add_(0, index, stacked)
    expected /= torch.bincount(index, minlength=200).sqrt()
    assert (joint - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.parametrize("spec", [LORA, UNILORA], ids=["lora", "unilora"])
def test_an_optimizer_step_leaves_the_base_bit_for_bit(small_base: Path, spec: AdapterSpec):
    model, bank = build_model(small_base, spec, NAMES, seed=0)
    before = {name: p.clone() for name, p in model.named_parameters() if "neuromas_" not in name}
    moved = {key: value.clone() for key, value in bank.state().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    joint_gradient(bank, model)
    optimizer.step()
    assert before
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if name in before)
    assert any(not torch.equal(value, moved[key]) for key, value in bank.state(["a"]).items())


def test_trainable_parameters_are_the_stacks_and_nothing_else(small_base: Path):
    for spec in (LORA, UNILORA):
        model, bank = build_model(small_base, spec, NAMES, seed=0)
        trainable = {id(p) for p in model.parameters() if p.requires_grad}
        assert trainable == {id(stack.tensor) for stack in bank.stacks()}


def test_per_node_clipping_touches_only_the_nodes_above_the_limit(small_base: Path):
    model, bank = build_model(small_base, LORA, NAMES, seed=0)
    scramble(bank)
    gradients = joint_gradient(bank, model)
    norms = torch.stack([(gradient**2).flatten(1).sum(1) for gradient in gradients.values()]).sum(0).sqrt()
    limit = float(norms[[0, 2, 3]].sort().values[1])
    returned = bank.grad_norms()
    bank.clip_(limit, returned)
    torch.testing.assert_close(returned, norms)
    torch.testing.assert_close(bank.grad_norms(), norms.clamp(max=limit), rtol=1e-4, atol=0)
    untouched = int(norms[[0, 2, 3]].argmin())
    k = (0, 2, 3)[untouched]
    for stack in bank.stacks():
        assert torch.equal(stack.rows(stack.tensor.grad)[k], gradients[stack.key][k])


def test_a_route_of_another_length_is_refused(small_base: Path):
    model, bank = build_model(small_base, LORA, NAMES, seed=0)
    bank.set_routes([1])
    with pytest.raises(AdapterError, match="batch of 3 rows, but adapters were set for 1"):
        model(input_ids=batch(3))


def test_a_forward_pass_without_a_route_is_refused(small_base: Path):
    model, bank = build_model(small_base, LORA, NAMES, seed=0)
    with pytest.raises(AdapterError, match="none is set"):
        model(input_ids=batch(3))
    bank.set_routes([0, 1, 2])
    model(input_ids=batch(3))


def test_a_route_that_changes_before_recomputation_is_refused(small_base: Path):
    model, bank = build_model(small_base, LORA, NAMES, seed=0)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    bank.set_routes([0, 1, 1])
    loss = row_losses(model, batch(3)).sum()
    bank.set_routes([1, 0, 0])
    with pytest.raises(AdapterError, match="set anew between a forward pass and its backward pass"):
        loss.backward()


def test_routes_may_change_before_backward_when_activations_are_stored(small_base: Path):
    gradients = []
    for order in ("together", "apart"):
        model, bank = build_model(small_base, LORA, NAMES, seed=0)
        scramble(bank)
        losses = []
        for routes in ([0, 1, 2], [3, 3, 1]):
            bank.set_routes(routes)
            losses.append(row_losses(model, batch(3)).sum())
            if order == "apart":
                losses[-1].backward()
        if order == "together":
            torch.stack(losses).sum().backward()
        gradients.append([stack.tensor.grad for stack in bank.stacks()])
    for together, apart in zip(*gradients, strict=True):
        torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-6)


def test_two_models_do_not_share_a_route(small_base: Path):
    (one, one_bank), (two, two_bank) = (build_model(small_base, LORA, NAMES, seed=0) for _ in range(2))
    scramble(one_bank)
    two_bank.load("a", one_bank.state(["a"]))
    one_bank.set_routes([0, 0])
    two_bank.set_routes([1, 1])
    with torch.no_grad():
        assert not torch.equal(one(input_ids=batch(2)).logits, two(input_ids=batch(2)).logits)
        two_bank.set_routes([0, 0])
        assert torch.equal(one(input_ids=batch(2)).logits, two(input_ids=batch(2)).logits)
