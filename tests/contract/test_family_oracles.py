"""Each family's update against its own formula written densely, and against PEFT where PEFT has the method."""

from pathlib import Path

import numpy as np
import pytest
import torch
from adapter_families import SPECS
from peft import IA3Config, PsoftConfig, get_peft_model
from torch import Tensor, nn

from neuromas.adapters.build import load_base
from neuromas.adapters.families.adamss.segments import cluster
from neuromas.adapters.families.adamss.spec import AdamssSpec
from neuromas.adapters.families.hyper.map import features
from neuromas.adapters.families.hyper.spec import HyperSpec
from neuromas.adapters.families.loft.spec import LoftSpec
from neuromas.adapters.families.map import AdapterMap
from neuromas.adapters.families.ssf.spec import SsfSpec
from neuromas.adapters.families.unilora.map import balanced_index
from neuromas.adapters.position import AdapterPosition, positions_of
from neuromas.topology.document import topology_from_document

CPU = torch.device("cpu")
PATH = "x.q_proj"
POSITIONS = (AdapterPosition("a"), AdapterPosition("b"))
LOFT = [name for name in SPECS if name.startswith("loft")]


def layer(out_features: int = 12, in_features: int = 9) -> nn.Linear:
    linear = nn.Linear(in_features, out_features, bias=False)
    values = torch.randn(linear.weight.shape, generator=torch.Generator().manual_seed(4))
    linear.weight.data.copy_(values)
    return linear


def moved(spec, linear: nn.Linear, positions=POSITIONS) -> tuple[AdapterMap, dict[str, Tensor]]:
    """Return a map whose trained tensors are random, and its tensors by the last part of their keys."""
    adapter_map = spec.make_map(positions, seed=3)
    adapter_map.add_module(PATH, linear)
    adapter_map.finish(CPU)
    generator = torch.Generator().manual_seed(5)
    for owned in adapter_map.tensors():
        if owned.is_trained:
            owned.tensor.data.copy_(0.3 * torch.randn(owned.tensor.shape, generator=generator))
    return adapter_map, {owned.key.rpartition("/")[2]: owned.tensor.detach() for owned in adapter_map.tensors()}


def update(adapter_map: AdapterMap, k: int, path: str = PATH) -> Tensor:
    a, b = adapter_map.pair(path, None)
    return (b[k] @ a[k]).detach().double()


@pytest.mark.parametrize("name", LOFT)
def test_loft_rotates_the_input_and_keeps_the_gram_matrix_of_the_rows(name: str):
    spec, linear = SPECS[name], layer()
    adapter_map, tensors = moved(spec, linear)
    weight = linear.weight.detach().double()
    for k in range(2):
        support = tensors["support"].double()
        basis = (support[k] if support.ndim == 3 else support).T
        skew = torch.zeros(spec.rank, spec.rank, dtype=torch.float64)
        entries = iter(tensors["rotation"][k].tolist())
        for row in range(spec.rank):
            for column in range(row):
                skew[row, column] = next(entries)
                skew[column, row] = -skew[row, column]
        identity = torch.eye(spec.rank, dtype=torch.float64)
        turn = (identity + skew) @ torch.linalg.inv(identity - skew)
        rotated = weight @ (torch.eye(9, dtype=torch.float64) + basis @ (turn - identity) @ basis.T)
        torch.testing.assert_close(basis.T @ basis, identity, rtol=0, atol=1e-6)
        torch.testing.assert_close(turn @ turn.T, identity, rtol=0, atol=1e-12)
        torch.testing.assert_close(weight + update(adapter_map, k), rotated, rtol=0, atol=1e-5)
        torch.testing.assert_close(rotated @ rotated.T, weight @ weight.T, rtol=0, atol=1e-5)
        assert update(adapter_map, k).abs().max() > 0.1


def test_loft_supports_are_what_their_names_say():
    linear = layer()
    weight = linear.weight.detach()
    _, principal = moved(LoftSpec(rank=4), linear)
    values = torch.linalg.svdvals(weight)
    kept = torch.linalg.svdvals(weight @ principal["support"].T)
    torch.testing.assert_close(kept, values[:4], rtol=1e-5, atol=0)
    _, coordinate = moved(LoftSpec(rank=4, support="coordinate"), linear)
    chosen = coordinate["support"].argmax(1).tolist()
    assert sorted(chosen) == sorted(weight.norm(dim=0).topk(4).indices.tolist())
    assert torch.equal(coordinate["support"].sum(1), torch.ones(4))


def test_loft_on_principal_directions_is_psoft_without_its_magnitudes(small_base: Path):
    config = PsoftConfig(
        r=6, psoft_alpha=6, psoft_mag_a=False, psoft_mag_b=False, target_modules=["q_proj"], task_type="CAUSAL_LM"
    )
    theirs = get_peft_model(load_base(small_base), config).base_model.model.model.layers[0].self_attn.q_proj
    linear = theirs.base_layer
    adapter_map, tensors = moved(LoftSpec(rank=6), linear)
    # The signs of singular vectors are free: take theirs.
    assert torch.allclose((theirs._psoft_A_cache["default"] @ tensors["support"].T).abs(), torch.eye(6), atol=1e-4)
    next(t for t in adapter_map.tensors() if t.key.endswith("support")).tensor.copy_(theirs._psoft_A_cache["default"])
    adapter_map.refresh()
    rows, columns = torch.tril_indices(6, 6, -1)
    skew = torch.zeros(6, 6)
    skew[rows, columns] = tensors["rotation"][1]
    skew = skew - skew.T
    rotation = theirs.psoft_R["default"]
    rotation.weight.data.copy_(skew[rotation.rows, rotation.cols])
    expected = theirs.get_delta_weight("default").detach().double()
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(update(adapter_map, 1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "is_output"), [("ssf-output", True), ("ssf-random", True), ("ssf-input", False)])
def test_ssf_is_ia3_on_its_channels(name: str, is_output: bool):
    linear = layer()
    adapter_map, tensors = moved(SPECS[name], linear)
    wrapped = nn.ModuleDict({"q_proj": linear})
    config = IA3Config(target_modules=["q_proj"], feedforward_modules=[] if is_output else ["q_proj"])
    theirs = get_peft_model(wrapped, config).base_model.model["q_proj"]
    inputs = torch.randn(5, 9, generator=torch.Generator().manual_seed(6))
    for k in range(2):
        channels = tensors["channels"][k] if tensors["channels"].ndim == 2 else tensors["channels"]
        assert len(set(channels.tolist())) == SPECS[name].channels
        scale = theirs.ia3_l["default"].data
        scale.fill_(1.0)
        scale.view(-1)[channels] += tensors["scale"][k]
        ours = inputs @ (linear.weight.detach() + update(adapter_map, k).float()).T
        torch.testing.assert_close(ours, theirs(inputs).detach(), rtol=0, atol=1e-5)


def test_ssf_takes_the_channels_of_largest_norm():
    linear = layer()
    for side, dim in (("output", 1), ("input", 0)):
        _, tensors = moved(SsfSpec(channels=3, side=side), linear)
        assert tensors["channels"].tolist() == linear.weight.norm(dim=dim).topk(3).indices.tolist()


def test_adamss_updates_each_segment_by_itself():
    spec, linear = AdamssSpec(basis=5, segments=3, rank=2), layer()
    adapter_map, tensors = moved(spec, linear)
    basis, segments = tensors["basis"].double(), tensors["segments"]
    torch.testing.assert_close(basis @ basis.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-6)
    assert sorted(set(segments.tolist())) == [0, 1, 2]
    for k in range(2):
        expected = torch.zeros(12, 9, dtype=torch.float64)
        for segment in range(3):
            rows = torch.nonzero(segments == segment).flatten()
            inner = tensors["subspace"][k, 2 * segment : 2 * segment + 2].double()
            expected[rows] = tensors["rows"][k, rows].double() @ inner @ basis
        torch.testing.assert_close(update(adapter_map, k), expected, rtol=0, atol=1e-6)


def test_segments_are_found_where_rows_lie_in_clusters_and_none_is_empty():
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat(np.arange(4), 15))
    centres = rng.normal(size=(4, 6)) * 4
    found = cluster((centres[truth] + 0.1 * rng.normal(size=(60, 6))).astype(np.float32), 4)
    assert len({(int(label), int(true)) for label, true in zip(found, truth, strict=True)}) == 4
    assert sorted(cluster(np.zeros((3, 2), np.float32), 3).tolist()) == [0, 1, 2]


def test_hyper_vectors_are_the_networks_values_at_their_positions():
    positions = positions_of(topology_from_document({"layers": [2, 1]}))
    spec = HyperSpec(rank=2, dimension=20, hidden=3, embedding=2, residual=True)
    adapter_map, t = moved(spec, layer(), positions)
    index = balanced_index(2 * (12 + 9), 20, seed=3).long()
    counts = torch.bincount(index, minlength=20)
    for k, position in enumerate(positions):
        inputs = torch.cat([torch.tensor(features(position)), t["embedding"][k]])
        hidden = torch.tanh(t["second"] @ torch.tanh(t["first"] @ inputs + t["first_bias"]) + t["second_bias"])
        vector = t["mean"] + t["basis"] @ hidden + t["own"][:, k]
        expected = (vector / counts.sqrt())[index][18:].view(12, 2)
        torch.testing.assert_close(adapter_map.pair(PATH, None)[1][k].detach(), expected, rtol=0, atol=1e-6)


def test_positions_tell_depth_width_and_wiring():
    positions = positions_of(topology_from_document({"layers": [2]}))
    assert [position.name for position in positions] == ["n1", "n2", "n3"]
    assert positions[0] == AdapterPosition("n1", 0.5, 0.5, 0, 1)
    assert positions[1] == AdapterPosition("n2", 0.5, 1.0, 0, 1)
    assert positions[2] == AdapterPosition("n3", 1.0, 1.0, 2, 0, is_output=True)


def test_a_network_that_saves_nothing_says_so():
    spec = HyperSpec(rank=1, dimension=1000, hidden=4)
    assert [len(list(spec.notes(adapters))) for adapters in (3, 5, 6, 16)] == [1, 1, 0, 0]
    (note,) = spec.notes(3)
    assert "trains 5,072 numbers, 3 vectors of their own would be 3,000" in note
