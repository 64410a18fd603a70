"""The model that TRL and PEFT see, and what leaves it."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel, UniLoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import adapter_config, build_model
from neuromas.adapters.directions import LayerStatistics
from neuromas.adapters.export import padded, write_peft_folder
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.families.loft.spec import LoftSpec
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.families.ssf.spec import SsfSpec
from neuromas.adapters.families.unilora.map import UniLoraMap
from neuromas.adapters.families.unilora.spec import UniLoraSpec
from neuromas.adapters.frozen_base import load_base
from neuromas.adapters.layer import NodeAdapterLinear
from neuromas.errors import AdapterError, BaseModelError

NAMES = ("a", "b", "c")
SPECS = {
    "lora": LoraSpec(rank=3, alpha=6.0),
    "unilora": UniLoraSpec(rank=2, dimension=200, alpha=6.0),
}


@pytest.fixture(params=list(SPECS))
def spec(request) -> AdapterSpec:
    return SPECS[request.param]


def linears(model: PeftModel) -> list[tuple[str, NodeAdapterLinear]]:
    return [(module.path, module) for module in model.modules() if isinstance(module, NodeAdapterLinear)]


def scrambled(folder: Path, spec: AdapterSpec, names=NAMES) -> tuple[PeftModel, AdapterBank]:
    model, bank = build_model(folder, spec, names, seed=0)
    generator = torch.Generator().manual_seed(1)
    for stack in bank.stacks():
        stack.tensor.data += 0.2 * torch.randn(stack.tensor.shape, generator=generator)
    return model.eval(), bank


def batch(rows: int) -> torch.Tensor:
    return torch.randint(0, 40, (rows, 10), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids).logits


def test_every_node_starts_as_the_base(small_base: Path, spec: AdapterSpec):
    model, bank = build_model(small_base, spec, NAMES, seed=0)
    bank.set_routes([0, 1, 2])
    assert torch.equal(logits(model, batch(3)), logits(load_base(small_base), batch(3)))


def test_a_nodes_start_does_not_depend_on_the_graph(small_base: Path):
    spec = SPECS["lora"]
    small = build_model(small_base, spec, ("b",), seed=7)[1].state(["b"])
    large = build_model(small_base, spec, ("z", "b", "y", "x"), seed=7)[1].state(["b"])
    other = build_model(small_base, spec, ("b",), seed=8)[1].state(["b"])
    assert all(torch.equal(large[key], value) for key, value in small.items())
    assert any(not torch.equal(other[key], value) for key, value in small.items())


def test_disabling_the_adapter_gives_the_base_and_enabling_gives_it_back(small_base: Path, spec: AdapterSpec):
    model, bank = scrambled(small_base, spec)
    bank.set_routes([2, 0])
    before = logits(model, batch(2))
    with model.disable_adapter():
        assert torch.equal(logits(model, batch(2)), logits(load_base(small_base), batch(2)))
    assert torch.equal(logits(model, batch(2)), before)
    assert all(stack.tensor.requires_grad for stack in bank.stacks())


def test_node_logits_equal_its_exported_folder_in_stock_peft(small_base: Path, spec: AdapterSpec, tmp_path: Path):
    model, bank = scrambled(small_base, spec)
    bank.set_routes([1, 2, 0, 1])
    mixed = logits(model, batch(4))
    exported = bank.export_all()
    base = logits(load_base(small_base), batch(4))
    for row, name in enumerate(("b", "c", "a", "b")):
        folder = tmp_path / f"{row}"
        write_peft_folder(padded(exported[name], 8), str(small_base), folder)
        stock = PeftModel.from_pretrained(load_base(small_base), folder).eval()
        alone = logits(stock, batch(4)[row : row + 1])
        assert (alone - base[row : row + 1]).abs().max() > 0.1
        torch.testing.assert_close(mixed[row : row + 1], alone, rtol=0, atol=5e-6)


def test_export_all_equals_each_export_and_is_a_snapshot(small_base: Path, spec: AdapterSpec):
    _, bank = scrambled(small_base, spec)
    every = bank.export_all()
    assert tuple(every) == NAMES
    kept = {name: {path: (a.copy(), b.copy()) for path, (a, b) in every[name].modules.items()} for name in NAMES}
    for name in NAMES:
        for path, (a, b) in bank.export(name).modules.items():
            np.testing.assert_array_equal(every[name].modules[path][0], a)
            np.testing.assert_array_equal(every[name].modules[path][1], b)
    for stack in bank.stacks():
        stack.tensor.data.zero_()
    for name in NAMES:
        for path, (a, b) in every[name].modules.items():
            assert a.dtype == b.dtype == np.float32
            assert a.flags.c_contiguous
            np.testing.assert_array_equal(a, kept[name][path][0])
            np.testing.assert_array_equal(b, kept[name][path][1])


def test_unilora_pairs_equal_pefts_at_the_same_vector_and_seed(small_base: Path):
    targets = ["q_proj", "v_proj", "up_proj", "down_proj"]
    config = UniLoraConfig(r=2, theta_d_length=200, proj_seed=5, target_modules=targets, task_type="CAUSAL_LM")
    theirs = get_peft_model(load_base(small_base), config)
    ours = UniLoraMap(["a"], rank=2, dimension=200, seed=5, offset=False)
    layers = {
        path.removeprefix("base_model.model."): layer
        for path, layer in theirs.named_modules()
        if path.rpartition(".")[2] in targets
    }
    for path, layer in layers.items():
        ours.add_module(path, layer)
    ours.finish(torch.device("cpu"))
    vector = theirs.base_model.unilora_theta_d["default"]
    ours.tensors()[0].tensor.data.copy_(vector[:, None])
    assert len(layers) == 8
    for path, layer in layers.items():
        a, b = ours.pair(path, None)
        expected_a, expected_b = layer._get_lora_matrices("default")
        torch.testing.assert_close(a[0], expected_a, rtol=1e-6, atol=0)
        torch.testing.assert_close(b[0], expected_b, rtol=1e-6, atol=0)


def test_states_round_trip_through_safetensors_by_name(small_base: Path, spec: AdapterSpec, tmp_path: Path):
    model, bank = scrambled(small_base, spec)
    save_file(bank.state(), tmp_path / "adapters.safetensors")
    loaded = load_file(tmp_path / "adapters.safetensors")
    other, other_bank = build_model(small_base, spec, ("c", "new", "a", "b"), seed=0)
    for name in NAMES:
        other_bank.load(name, loaded)
    bank.set_routes([0, 1, 2])
    other_bank.set_routes([2, 3, 0])
    state = other_bank.state()
    assert all(torch.equal(state[key], value) for key, value in bank.state().items())
    torch.testing.assert_close(logits(other.eval(), batch(3)), logits(model, batch(3)), rtol=0, atol=1e-5)


def test_peft_saves_and_loads_the_model(small_base: Path, spec: AdapterSpec, tmp_path: Path):
    model, bank = scrambled(small_base, spec)
    model.save_pretrained(tmp_path)
    back = PeftModel.from_pretrained(load_base(small_base), tmp_path).eval()
    back_bank = AdapterBank(back)
    assert back_bank.names == NAMES
    assert not any(parameter.requires_grad for parameter in back.parameters())
    bank.set_routes([1, 2])
    back_bank.set_routes([1, 2])
    assert torch.equal(logits(back, batch(2)), logits(model, batch(2)))


@pytest.mark.parametrize(
    "spec",
    [LoftSpec(rank=4, support="gradient"), SsfSpec(channels=3, start="gradient")],
    ids=["loft", "ssf"],
)
def test_peft_loads_adapters_with_starts_that_were_found(small_base: Path, spec: AdapterSpec, tmp_path: Path):
    model, bank = scrambled(small_base, spec)
    shapes = {path: module.base_layer.weight.shape for path, module in linears(model)}
    gradients = {path: torch.randn(shape, generator=torch.Generator().manual_seed(3)) for path, shape in shapes.items()}
    bank.start("b", {path: LayerStatistics(gradient=gradient) for path, gradient in gradients.items()})
    model.save_pretrained(tmp_path)
    back = PeftModel.from_pretrained(load_base(small_base), tmp_path).eval()
    bank.set_routes([1, 2])
    AdapterBank(back).set_routes([1, 2])
    assert torch.equal(logits(back, batch(2)), logits(model, batch(2)))


def test_a_copied_model_has_its_own_weights_and_route(small_base: Path, spec: AdapterSpec):
    model, bank = scrambled(small_base, spec)
    bank.set_routes([1, 2])
    twin = copy.deepcopy(model)
    before = logits(model, batch(2))
    twin_bank = AdapterBank(twin)
    for stack in twin_bank.stacks():
        stack.tensor.data.zero_()
    twin_bank.set_routes([0])
    assert torch.equal(logits(model, batch(2)), before)
    assert {id(s.tensor) for s in bank.stacks()}.isdisjoint(id(s.tensor) for s in twin_bank.stacks())


def test_generate_keeps_rows_on_their_adapters(small_base: Path):
    model, bank = scrambled(small_base, SPECS["lora"])
    prompts = batch(3)
    bank.set_routes([2, 0, 1])
    together = model.generate(input_ids=prompts, max_new_tokens=5, do_sample=False, pad_token_id=0)
    for row, k in enumerate((2, 0, 1)):
        bank.set_routes([k])
        alone = model.generate(input_ids=prompts[row : row + 1], max_new_tokens=5, do_sample=False, pad_token_id=0)
        assert together[row].tolist()[: alone.shape[1]] == alone[0].tolist()


def test_one_adapter_needs_no_route(small_base: Path, spec: AdapterSpec):
    model, bank = scrambled(small_base, spec, names=("only",))
    free = logits(model, batch(4))
    bank.set_routes([0, 0, 0, 0])
    assert torch.equal(logits(model, batch(4)), free)


def test_masters_stay_float32_over_a_bfloat16_base(small_base: Path, spec: AdapterSpec):
    model, bank = build_model(small_base, spec, NAMES, seed=0, dtype=torch.bfloat16)
    bank.set_routes([0, 2])
    out = model(input_ids=batch(2)).logits
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert all(stack.tensor.dtype == stack.tensor.grad.dtype == torch.float32 for stack in bank.stacks())


@pytest.mark.parametrize("names", [("a",), NAMES, tuple(f"n{k}" for k in range(9))])
def test_adding_a_node_costs_only_its_adapter(small_base: Path, names):
    widths = {"q_proj": (64, 64), "v_proj": (64, 64), "up_proj": (64, 168), "down_proj": (168, 64)}
    per_node = 2 * 3 * sum(i + o for i, o in widths.values())
    base = sum(p.numel() for p in load_base(small_base).parameters())
    for spec, expected in ((SPECS["lora"], per_node), (SPECS["unilora"], 200)):
        model, bank = build_model(small_base, spec, names, seed=0)
        assert bank.num_trainable(names[0]) == expected
        assert sum(p.numel() for p in model.parameters()) == base + len(names) * expected
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == len(names) * expected


def test_node_parameters_are_views_of_one_adapter(small_base: Path, spec: AdapterSpec):
    _, bank = scrambled(small_base, spec)
    before = bank.state()
    for tensor in bank.node_parameters("b").values():
        tensor.zero_()
    after = bank.state()
    for key in before:
        if key.endswith("projection"):
            continue
        assert torch.equal(after[key], torch.zeros_like(before[key]) if key.startswith("b/") else before[key])


def test_loading_refuses_what_does_not_fit_and_changes_nothing(small_base: Path, spec: AdapterSpec):
    _, bank = scrambled(small_base, spec)
    state = bank.state()
    first = next(iter(bank.stacks())).key
    broken = {
        "missing": {key: value for key, value in state.items() if key != f"a/{first}"},
        "extra": state | {"a/unknown": torch.zeros(1)},
        "shape": state | {f"a/{first}": torch.zeros(1)},
        "nan": state | {f"a/{first}": torch.full_like(state[f"a/{first}"], float("nan"))},
    }
    for wrong in broken.values():
        with pytest.raises(AdapterError, match="adapter 'a'"):
            bank.load("a", wrong)
    assert all(torch.equal(value, state[key]) for key, value in bank.state().items())


def test_a_vector_of_another_seed_is_refused(small_base: Path):
    _, one = build_model(small_base, SPECS["unilora"], ("a",), seed=1)
    _, two = build_model(small_base, SPECS["unilora"], ("a",), seed=2)
    with pytest.raises(AdapterError, match="projection"):
        two.load("a", one.state())


def test_merging_is_refused(small_base: Path):
    model, _ = build_model(small_base, SPECS["lora"], NAMES, seed=0)
    for merge in (model.merge_and_unload, model.merge_adapter, model.unmerge_adapter):
        with pytest.raises(AdapterError, match="cannot be merged"):
            merge()


def test_a_second_peft_adapter_is_refused_and_leaves_no_trace(small_base: Path):
    model, _ = build_model(small_base, SPECS["lora"], NAMES, seed=0)
    with pytest.raises(AdapterError, match="second PEFT adapter 'ref'"):
        model.add_adapter("ref", model.peft_config["default"])
    assert list(model.peft_config) == ["default"]


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens", "norm", "q_prj"])
def test_targets_that_cannot_carry_adapters_are_refused(small_base: Path, target: str):
    allowed = "'down_proj', 'gate_proj', 'k_proj', 'o_proj', 'q_proj', 'up_proj', 'v_proj'"
    with pytest.raises(AdapterError, match=rf"got \['{target}'\], allowed are \[{allowed}\]"):
        build_model(small_base, LoraSpec(targets=("q_proj", target)), NAMES, seed=0)


@pytest.mark.parametrize("names", [(), ("a", "a"), ("A",), ("a/b",)])
def test_names_that_cannot_be_versions_are_refused(small_base: Path, names):
    with pytest.raises(AdapterError, match="adapter names"):
        adapter_config(SPECS["lora"], names, seed=0)


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(BaseModelError, match=r"holds no config\.json"):
        build_model(tmp_path, SPECS["lora"], NAMES, seed=0)


def test_unknown_names_are_refused(small_base: Path):
    _, bank = build_model(small_base, SPECS["lora"], NAMES, seed=0)
    for call in (bank.export, bank.node_parameters, bank.num_trainable, bank.index):
        with pytest.raises(AdapterError, match=r"'z' is not in this model, which has \['a', 'b', 'c'\]"):
            call("z")


def test_unloading_gives_the_base_back(small_base: Path, spec: AdapterSpec):
    model, _ = scrambled(small_base, spec)
    assert torch.equal(logits(model.unload(), batch(2)), logits(load_base(small_base), batch(2)))
