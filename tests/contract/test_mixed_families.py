"""What families promise each on its own holds for all of them in one graph, each node with its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapter_families import GRAPH, MIXTURE, NODES, USUAL
from peft import PeftModel
from safetensors.torch import load_file, save_file
from test_adapter_families import batch, logits, losses

from neuromas.adapters.anchor import Anchor
from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import build_model, load_base
from neuromas.adapters.inherit import inherit
from neuromas.adapters.source import Pull
from neuromas.base.linears import linear_shapes
from neuromas.errors import AdapterError, GrowthError
from neuromas.growth.plan import apply_plan
from neuromas.spec.growth import InheritanceSpec, PlanSpec, PruneSpec, WidenSpec
from neuromas.spec.node_groups import marked
from neuromas.topology.document import topology_from_document
from neuromas.training.optimizer import NodeAdamW

GROUP_OF = {node: name for name, nodes in NODES.items() for node in nodes}
NAMES = GRAPH.adapters
PLAIN = topology_from_document({"layers": [len(GRAPH.nodes) - 1]})
SHARED = {"@shared:hyper", "@shared:hyper-residual"}


def trained(folder: Path, graph=GRAPH, dtype: torch.dtype = torch.float32):
    model, bank = build_model(folder, MIXTURE, graph, seed=0, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    for owned in bank.trained():
        owned.tensor.data += 0.3 * torch.randn(owned.tensor.shape, generator=generator)
    return model, bank


def gradients(bank: AdapterBank) -> list[torch.Tensor]:
    return [torch.zeros(()) if owned.tensor.grad is None else owned.tensor.grad.clone() for owned in bank.trained()]


def test_each_node_is_what_a_model_of_its_family_alone_makes_of_the_same_numbers(small_base: Path):
    model, bank = trained(small_base)
    routes = list(range(len(NAMES)))
    bank.set_routes(routes)
    mixed, exports, state = logits(model, batch(len(NAMES))), bank.export_all(), bank.state()
    for row, name in enumerate(NAMES):
        group = GROUP_OF.get(name, "")
        section = MIXTURE.sections[group]
        alone, own = build_model(small_base, section, PLAIN, seed=0)
        shared = {key.replace(f":{group}", ""): value for key, value in state.items() if key.startswith("@")}
        own.load_all(own.state() | {key: value for key, value in shared.items() if key in own.state()})
        own.load(name, state)
        said = logits_of(alone, own, name, batch(len(NAMES))[row])
        torch.testing.assert_close(mixed[row], said, rtol=0, atol=1e-5)
        lora = own.export(name)
        assert exports[name].rank == lora.rank == section.served_rank
        assert exports[name].modules.keys() == lora.modules.keys()
        for path, (a, b) in exports[name].modules.items():
            assert (a == lora.modules[path][0]).all()
            torch.testing.assert_close(torch.from_numpy(b), torch.from_numpy(lora.modules[path][1]))


def logits_of(model: torch.nn.Module, bank: AdapterBank, name: str, ids: torch.Tensor) -> torch.Tensor:
    bank.set_routes([bank.index(name)])
    return logits(model, ids[None])[0]


def test_a_new_mixed_graph_says_what_the_base_says(small_base: Path):
    model, bank = build_model(small_base, MIXTURE, GRAPH, seed=0)
    bank.set_routes(list(range(len(NAMES))))
    ids = batch(len(NAMES))
    assert torch.equal(logits(model, ids), logits(load_base(small_base), ids))


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_the_joint_gradient_is_the_sum_of_a_pass_per_node(small_base: Path, reentrant: bool | None):
    model, bank = trained(small_base, dtype=torch.float64)
    model.train()
    if reentrant is not None:
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
    routes = [3, 0, 5, 11, 7, 3]
    weights = torch.linspace(-1.0, 2.0, len(routes))
    ids = batch(len(routes))
    bank.set_routes(routes)
    (losses(model, ids) * weights).sum().backward()
    joint = gradients(bank)
    assert all(owned.tensor.grad is not None for owned in bank.trained()), "every process averages every gradient"
    model.zero_grad()
    for row, route in enumerate(routes):
        bank.set_routes([route])
        (losses(model, ids[row : row + 1]) * weights[row]).sum().backward()
    largest = max(gradient.abs().max() for gradient in joint)
    assert largest > 0
    for one, other in zip(joint, gradients(bank), strict=True):
        assert (one - other).abs().max() < 1e-6 * largest


def test_what_is_trained_is_what_the_groups_count(small_base: Path):
    model, bank = build_model(small_base, MIXTURE, GRAPH, seed=0)
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    totals = MIXTURE.totals(GRAPH, linear_shapes(small_base, MIXTURE.targets))
    assert [kind.group for kind in totals] == ["", *sorted(NODES)]
    assert count == sum(kind.trained for kind in totals)
    each = {GROUP_OF.get(name, ""): bank.num_trainable(name) for name in NAMES}
    assert each == {kind.group: kind.parameters.per_adapter for kind in totals}
    assert bank.scale(NODES["unilora"][0]) == bank.scale(GRAPH.output) == 2.0
    assert bank.scale(NODES["elsewhere"][0]) == 1.0
    published = sum(lora.num_bytes for lora in bank.export_all().values())
    assert published == 4 * sum(kind.served for kind in totals)


def test_states_round_trip_through_files(small_base: Path, tmp_path: Path):
    model, bank = trained(small_base)
    save_file(bank.state(), tmp_path / "state.safetensors")
    other, other_bank = build_model(small_base, MIXTURE, GRAPH, seed=0)
    other_bank.load_all(load_file(tmp_path / "state.safetensors"))
    model.save_pretrained(tmp_path / "peft")
    back = PeftModel.from_pretrained(load_base(small_base), tmp_path / "peft")
    routes, ids = list(range(len(NAMES))), batch(len(NAMES))
    bank.set_routes(routes)
    said = logits(model, ids)
    for copied, copied_bank in ((other, other_bank), (back, AdapterBank(back))):
        assert all(torch.equal(value, copied_bank.state()[key]) for key, value in bank.state().items())
        copied_bank.set_routes(routes)
        torch.testing.assert_close(logits(copied, ids), said, rtol=0, atol=1e-6)


def test_each_adapter_is_clipped_and_stepped_on_its_own_and_so_is_what_a_group_shares(small_base: Path):
    model, bank = trained(small_base)
    assert set(bank.groups) == {*NAMES, *SHARED}
    optimizer = NodeAdamW(bank.trained(), bank.groups, 1e-2, (0.9, 0.99), 0.1)
    bank.set_routes(list(range(len(NAMES))))
    losses(model, batch(len(NAMES))).sum().backward()
    before, norms = bank.state(), bank.grad_norms()
    bank.clip_(0.5, norms)
    assert (norms > 0).all()
    assert bank.grad_norms().max() <= 0.5 + 1e-5
    (hyper,), (residual,) = NODES["hyper"], NODES["hyper-residual"]
    free = torch.tensor([name not in (residual, NODES["loft-random"][0]) for name in NAMES])
    active = bank.with_shared(free, free)
    optimizer.set_active(active)
    optimizer.step()
    moved = {key.partition("/")[0] for key, value in bank.state().items() if not torch.equal(value, before[key])}
    at_rest = {residual, NODES["loft-random"][0], "@shared:hyper-residual"}
    assert moved == set(bank.groups) - at_rest
    moments, counts = optimizer.export()
    assert counts == {group: int(group not in at_rest) for group in bank.groups}
    again = NodeAdamW(bank.trained(), bank.groups, 1e-2, (0.9, 0.99), 0.1)
    again.restore(moments, counts)
    assert all(torch.equal(value, again.export()[0][key]) for key, value in moments.items())
    assert {key.partition("/")[0] for key in moments} == set(bank.groups)
    assert f"{hyper}/embedding/exp_avg" in moments


@pytest.mark.parametrize("by", ["parameters", "update"])
def test_a_pull_moves_the_adapters_that_it_names_and_what_they_share(small_base: Path, by):
    _, bank = trained(small_base)
    (hyper,), (other,) = NODES["hyper"], NODES["unilora"]
    anchor = Anchor(bank, Pull((hyper, other), 0.5, by))
    assert abs(anchor.penalty().item()) < 1e-6
    for owned in bank.trained():
        owned.tensor.data += 0.1
    anchor.add_gradient_()
    pulled = {group for group, norm in zip(bank.groups, bank.grad_norms().tolist(), strict=True) if norm > 0}
    assert pulled == {hyper, other, "@shared:hyper"}


@pytest.mark.parametrize("new", ["fresh", "copy"])
def test_a_new_node_is_in_the_group_of_the_one_that_it_is_made_like(small_base: Path, new):
    _, bank = trained(small_base)
    plan = PlanSpec(
        edits=(PruneSpec(edit="prune", nodes=NODES["hyper"]), WidenSpec(edit="widen", layer=1, count=3)),
        inherit=InheritanceSpec(new=new),
    )
    grown = apply_plan(GRAPH, plan)
    widened = [node for node in grown.topology.nodes if node.id in grown.new]
    assert [node.group for node in widened] == list(NODES)[:3]
    _, larger = build_model(small_base, MIXTURE, grown.topology, seed=0)
    larger.load_all(inherit([bank.state()], grown.sources, larger.state(), larger.roles(), seed=0))
    old, state = bank.state(), larger.state()
    gone = (*NODES["hyper"], "@shared:hyper")
    assert all(torch.equal(state[key], old[key]) for key in old if key.partition("/")[0] not in gone)
    assert not any(key.startswith("@shared:hyper/") for key in state)
    if new == "copy":
        twin, first = widened[0].id, NODES[next(iter(NODES))][0]
        assert all(torch.equal(value, old[key.replace(twin, first)]) for key, value in state.items() if twin in key)


def test_a_mean_over_families_is_refused_before_anything_runs():
    pair = marked(topology_from_document({"chain": 2}), {"n1": "loft-random"})
    between = {"edit": "deepen", "after_layer": 1}
    plan = PlanSpec.model_validate({"edits": [between], "inherit": {"new": "interpolate"}})
    with pytest.raises(GrowthError, match=r"no trained node of its node group \(none\)"):
        apply_plan(pair, plan)
    alike = topology_from_document({"chain": 2})
    assert apply_plan(alike, plan).sources["n3"].kind == "interpolate"


def test_a_group_that_a_model_has_no_section_for_is_refused(small_base: Path):
    graph = marked(topology_from_document({"chain": 2}), {"n1": "other"})
    with pytest.raises(AdapterError, match=r"node groups: got \['other'\], allowed are"):
        build_model(small_base, MIXTURE, graph, seed=0)


def test_layers_that_only_an_absent_kind_adapts_are_left_alone(small_base: Path):
    pair = marked(topology_from_document({"chain": 2}), {"n1": "loft-random"})
    model, bank = trained(small_base, pair)
    bank.set_routes([0, 1])
    assert not torch.equal(logits(model, batch(2)), logits(load_base(small_base), batch(2)))
    adapted = {path.rpartition(".")[2] for lora in bank.export_all().values() for path in lora.modules}
    assert adapted == {"q_proj", "v_proj", "up_proj", "down_proj"}
    wrapped = {path for path, module in model.named_modules() if hasattr(module, "base_layer")}
    assert {path.rpartition(".")[2] for path in wrapped} == adapted


def test_usual_adapters_beside_a_group_start_as_they_do_alone(small_base: Path):
    _, bank = build_model(small_base, MIXTURE, GRAPH, seed=3)
    _, alone = build_model(small_base, MIXTURE.sections[""], PLAIN, seed=3)
    output = GRAPH.output
    assert MIXTURE.usual.type == USUAL
    for key, value in alone.state([output]).items():
        assert torch.equal(bank.state([output])[key], value)
