"""A grown graph on a real model: what trained nodes say stays as it was, and new nodes start as their source says."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import build_model
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.inherit import inherit
from neuromas.adapters.ref import AdapterRef
from neuromas.cluster.setup import WorkerSetup
from neuromas.engines.setup import EngineSetup
from neuromas.growth.plan import Grown, apply_plan
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.record import Provenance
from neuromas.rollout.worker import RolloutWorker
from neuromas.spec.growth import AppendSpec, BeforeOutputSpec, EditSpec, GraftSpec, InheritanceSpec, PlanSpec
from neuromas.spec.machine import EngineSpec
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.tasks.chain import ChainSpec, ChainTask
from neuromas.topology.document import topology_from_document
from neuromas.topology.graph import Topology

CHAIN = topology_from_document({"chain": 3})
TREE = topology_from_document({"layers": [2]})
TASK = ChainTask(hops=5)
ADAPTER = LoraSpec(rank=2)

Messages = dict[str, list[tuple[int, ...]]]


@pytest.fixture(scope="module")
def worker(small_base: Path):
    spec = EngineSpec(type="transformers", max_model_len=128)
    engine = EngineSetup(small_base, spec, ADAPTER.rank, ADAPTER.targets)
    made = WorkerSetup(engine, 200, PromptSpec(), ChainSpec(type="chain")).make()
    yield made
    made.close()


def trained_bank(base: Path, graph: Topology, seed: int) -> AdapterBank:
    """Adapters that differ visibly from the base and from each other, as after training."""
    _, bank = build_model(base, ADAPTER, graph.adapters, seed=0)
    generator = torch.Generator().manual_seed(seed)
    for name in bank.names:
        for tensor in bank.node_parameters(name).values():
            tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
    return bank


def grow(
    base: Path, bank: AdapterBank, graph: Topology, edit: EditSpec, **settings: object
) -> tuple[Grown, AdapterBank]:
    grown = apply_plan(graph, PlanSpec(edits=(edit,), inherit=InheritanceSpec(**settings)))
    _, larger = build_model(base, ADAPTER, grown.topology.adapters, seed=0)
    state = inherit([bank.state()], grown.sources, larger.state(), larger.roles(), seed=0)
    for name in larger.names:
        larger.load(name, state)
    return grown, larger


def greedy_messages(
    worker: RolloutWorker, graph: Topology, adapters: Mapping[str, AdapterRef | None], level: int
) -> Messages:
    examples = tuple(TASK.example("test", index, level) for index in range(6))
    where = Provenance("growth", 0, 0)
    batch = RolloutBatch(
        graph, examples, 1, adapters, SamplingSpec(max_tokens=6), greedy=True, seed=0, provenance=where
    )
    messages: Messages = {}
    for group in worker.rollout(batch):
        for call in group.rollouts[0].calls:
            messages.setdefault(call.node, []).append(call.completion_token_ids)
    return messages


def publish(worker: RolloutWorker, bank: AdapterBank, namespace: str) -> dict[str, AdapterRef | None]:
    refs = {name: AdapterRef(name, 0, namespace) for name in bank.names}
    exported = bank.export_all()
    worker.publish({ref: exported[name] for name, ref in refs.items()})
    return dict(refs)


@pytest.mark.parametrize("new", ["fresh", "zero", "copy", "interpolate"])
def test_append_leaves_what_every_trained_node_says(small_base: Path, worker: RolloutWorker, new: str) -> None:
    bank = trained_bank(small_base, CHAIN, seed=1)
    grown, larger = grow(small_base, bank, CHAIN, AppendSpec(edit="append"), new=new)
    before = greedy_messages(worker, CHAIN, publish(worker, bank, f"append-{new}-old"), level=5)
    after = greedy_messages(worker, grown.topology, publish(worker, larger, f"append-{new}-new"), level=5)
    assert {node: after[node] for node in CHAIN.order} == before
    assert before["n1"] != before["n2"]


def test_a_graft_leaves_what_the_trained_subtree_says(small_base: Path, worker: RolloutWorker) -> None:
    bank = trained_bank(small_base, TREE, seed=2)
    grown, larger = grow(small_base, bank, TREE, GraftSpec(edit="graft"))
    before = greedy_messages(worker, TREE, publish(worker, bank, "graft-old"), level=3)
    after = greedy_messages(worker, grown.topology, publish(worker, larger, "graft-new"), level=3)
    assert {node: after[node] for node in TREE.order} == before
    assert len(after) == 7


@pytest.mark.parametrize("new", ["fresh", "zero"])
def test_fresh_and_zero_nodes_speak_as_the_bare_base(small_base: Path, worker: RolloutWorker, new: str) -> None:
    bank = trained_bank(small_base, CHAIN, seed=3)
    grown, larger = grow(small_base, bank, CHAIN, AppendSpec(edit="append"), new=new)
    refs = publish(worker, larger, f"base-{new}")
    bare = refs | dict.fromkeys(grown.new)
    topology = grown.topology
    assert greedy_messages(worker, topology, refs, level=5) == greedy_messages(worker, topology, bare, level=5)


def test_a_copy_without_noise_is_its_source_bit_for_bit_and_with_noise_is_not(small_base: Path) -> None:
    bank = trained_bank(small_base, CHAIN, seed=4)
    before_output = BeforeOutputSpec(edit="before_output")
    _, exact = grow(small_base, bank, CHAIN, before_output, new="copy")
    _, noisy = grow(small_base, bank, CHAIN, before_output, new="copy", noise=0.1)
    source = bank.node_parameters("n3")
    assert all(torch.equal(tensor, source[key]) for key, tensor in exact.node_parameters("n4").items())
    assert not any(torch.equal(tensor, source[key]) for key, tensor in noisy.node_parameters("n4").items())


def test_adding_nodes_does_not_change_a_single_bit_of_the_old_ones(small_base: Path) -> None:
    bank = trained_bank(small_base, CHAIN, seed=5)
    _, larger = grow(small_base, bank, CHAIN, AppendSpec(edit="append", layers=(2, 1)))
    for name in CHAIN.order:
        old, new = bank.node_parameters(name), larger.node_parameters(name)
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key], new[key]) for key in old)
