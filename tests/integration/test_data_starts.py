"""Starts from rollouts against dense computations on the same rollouts, and what a stage makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from resumed_stage import make_client, stage_spec, train
from torch import Tensor

from neuromas.adapters.build import build_model
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.families.loft.spec import LoftSpec
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.families.ssf.spec import SsfSpec
from neuromas.adapters.frozen_base import load_base
from neuromas.base.resolve import resolve_base
from neuromas.checkpoints.checkpoint import read_checkpoint
from neuromas.growth.plan import apply_plan
from neuromas.journal.events import Event, Notice
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import LocalRolloutClient, Ticket
from neuromas.rollout.record import Group
from neuromas.spec.growth import InheritanceSpec, PlanSpec, WidenSpec

TRAINING = {"steps": 1, "prompts_per_step": 6, "group_size": 4, "estimator": "rloo"}
attempts = count(1)


@dataclass
class Recorded:
    """A client whose rollouts have rewards by their index, and which keeps what it sampled for starts."""

    client: LocalRolloutClient
    is_solved: bool = False
    looks: list[Group] = field(default_factory=list)
    _tickets: set[Ticket] = field(default_factory=set)

    @property
    def last_stats(self) -> Any:
        return self.client.last_stats

    def publish(self, adapters: Any, retire: Any = ()) -> None:
        self.client.publish(adapters, retire)

    def submit(self, batch: RolloutBatch) -> Ticket:
        ticket = self.client.submit(batch)
        if any(ref is not None and ref.namespace.endswith(".look") for ref in batch.adapters.values()):
            self._tickets.add(ticket)
        return ticket

    def collect(self, ticket: Ticket) -> list[Group]:
        groups = [
            replace(group, rollouts=tuple(replace(r, reward=self._reward(r.index)) for r in group.rollouts))
            for group in self.client.collect(ticket)
        ]
        self.looks += groups if ticket in self._tickets else []
        return groups

    def _reward(self, index: int) -> float:
        return 1.0 if self.is_solved else index * 3 % 4 / 3

    def close(self) -> None:
        self.client.close()


@pytest.fixture(scope="module")
def client() -> Iterator[LocalRolloutClient]:
    made = make_client(stage_spec({"topology": {"layers": [3]}, "adapter": {"rank": 8}}))
    yield made
    made.close()


@dataclass
class Begun:
    state: dict[str, Tensor]
    looks: list[Group]
    notices: list[Notice]


def begun(client: LocalRolloutClient, folder: Path, adapter: AdapterSpec, solved: bool = False, **plan: Any) -> Begun:
    """Return the adapters after one step: what a start has chosen does not move in it, since updates begin at zero."""
    recorded, notices = Recorded(client, solved), list[Notice]()

    def note(event: Event) -> None:
        if isinstance(event, Notice) and event.source == "data_starts":
            notices.append(event)

    spec = stage_spec(**TRAINING).model_copy(update={"adapter": adapter})
    result = train(spec, folder, recorded, on_event=note, attempt=next(attempts), **plan)
    return Begun(dict(read_checkpoint(result.checkpoint).adapters), recorded.looks, notices)


def node_calls(looks: list[Group], node: str) -> list[tuple[Any, float]]:
    """Return a node's calls with the reward less the mean of the group's others."""
    found = []
    for group in looks:
        for rollout in group.rollouts:
            others = [other.reward for other in group.rollouts if other is not rollout]
            advantage = rollout.reward - sum(others) / max(len(others), 1)
            found += [(call, advantage) for call in rollout.calls if call.node == node]
    return found


def layers(model: torch.nn.Module, targets: tuple[str, ...]) -> dict[str, torch.nn.Linear]:
    return {path: module for path, module in model.named_modules() if path.rpartition(".")[2] in targets}


def inputs_read(looks: list[Group], node: str, targets: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the rows that reach each layer of the bare base while it reads a node's prompts, one prompt at a time."""
    base, rows = load_base(resolve_base("tiny")), dict[str, list[Tensor]]()
    for path, layer in layers(base, targets).items():
        layer.register_forward_hook(lambda _, inputs, __, path=path: rows.setdefault(path, []).append(inputs[0][0]))
    with torch.no_grad():
        for prompt in {tuple(call.prompt_token_ids) for call, _ in node_calls(looks, node)}:
            base(input_ids=torch.tensor([prompt]))
    return {path: torch.cat(found) for path, found in rows.items()}


def policy_gradient(looks: list[Group], node: str, targets: tuple[str, ...]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each layer's weight and the derivative of sum_i A_i log pi_i by it, by autograd on the bare base."""
    base = load_base(resolve_base("tiny"))
    adapted = layers(base, targets)
    for layer in adapted.values():
        layer.weight.requires_grad_(True)
    for call, advantage in node_calls(looks, node):
        ids = torch.tensor([[*call.prompt_token_ids, *call.completion_token_ids]])
        logprobs = base(input_ids=ids).logits[0, len(call.prompt_token_ids) - 1 : -1].log_softmax(-1)
        (advantage * logprobs.gather(1, torch.tensor(call.completion_token_ids)[:, None]).sum()).backward()
    return {path: (layer.weight.detach().double(), layer.weight.grad.double()) for path, layer in adapted.items()}


def test_eva_starts_at_a_turned_basis_of_the_leading_directions_of_what_each_node_reads(
    client: LocalRolloutClient, tmp_path: Path
) -> None:
    spec = LoraSpec(rank=3, start="eva", batches=1)
    found = begun(client, tmp_path, spec)
    assert len({group.example.id for group in found.looks}) == 6
    for node in ("n1", "n2"):
        for path, rows in inputs_read(found.looks, node, spec.targets).items():
            _, sizes, right = torch.linalg.svd(rows.double(), full_matrices=False)
            a, leading = found.state[f"{node}/{path}/A"].double(), right[:3]
            assert sizes[2] / sizes[3] > 1.001, "the span is not determined"
            torch.testing.assert_close(a @ a.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-5)
            assert (a - a @ leading.T @ leading).abs().max() < 1e-3
            assert (a - leading).abs().max() > 1e-2, "it was not turned"


def test_loft_takes_the_leading_directions_of_the_inputs(client: LocalRolloutClient, tmp_path: Path) -> None:
    spec = LoftSpec(rank=3, support="eva", batches=1)
    found = begun(client, tmp_path, spec)
    for path, rows in inputs_read(found.looks, "n2", spec.targets).items():
        leading = torch.linalg.svd(rows.double(), full_matrices=False)[2][:3]
        support = found.state[f"n2/{path}/support"].double()
        assert (support - support @ leading.T @ leading).abs().max() < 1e-3


def test_loft_takes_the_plane_of_the_steepest_rotations(client: LocalRolloutClient, tmp_path: Path) -> None:
    spec = LoftSpec(rank=4, support="gradient", batches=2)
    found = begun(client, tmp_path, spec)
    assert [len(group.rollouts) for group in found.looks] == [4] * 12
    for node in ("n1", "n2"):
        for path, (weight, gradient) in policy_gradient(found.looks, node, spec.targets).items():
            skew = (weight.T @ gradient - gradient.T @ weight) / 2
            values = torch.linalg.eigvalsh(skew.T @ skew).flip(0)
            support = found.state[f"{node}/{path}/support"].double()
            torch.testing.assert_close(support @ support.T, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-5)
            reached = torch.linalg.eigvalsh(support @ skew.T @ skew @ support.T).flip(0)
            torch.testing.assert_close(reached, values[:4], rtol=2e-2, atol=0)
            torch.testing.assert_close((support @ skew @ support.T).norm() ** 2, values[:4].sum(), rtol=2e-2, atol=0)


@pytest.mark.parametrize("side", ["output", "input"])
def test_ssf_takes_the_channels_whose_scale_pays_most(client: LocalRolloutClient, tmp_path: Path, side: str) -> None:
    spec = SsfSpec(channels=3, side=side, start="gradient", batches=1)
    found = begun(client, tmp_path, spec)
    for path, (weight, gradient) in policy_gradient(found.looks, "n1", spec.targets).items():
        slopes = (weight * gradient).sum(1 if side == "output" else 0).abs()
        chosen = found.state[f"n1/{path}/channels"]
        torch.testing.assert_close(slopes[chosen], slopes.topk(3).values, rtol=1e-3, atol=0)


def test_without_an_advantage_a_gradient_start_stays_random_and_says_so(
    client: LocalRolloutClient, tmp_path: Path
) -> None:
    spec = LoftSpec(rank=4, support="gradient", batches=2)
    found = begun(client, tmp_path, spec, solved=True)
    (notice,) = found.notices
    assert notice.severity == "warning"
    assert notice.data["at_random"] == ["n1", "n2"]
    graph = stage_spec().topology
    _, bank = build_model(resolve_base("tiny"), spec, graph, seed=stage_spec().seed)
    supports = {key: value for key, value in bank.state().items() if key.endswith("/support")}
    assert all(torch.equal(found.state[key], value) for key, value in supports.items())


def test_eva_ends_where_it_has_converged(client: LocalRolloutClient, tmp_path: Path) -> None:
    found = begun(client, tmp_path, LoraSpec(rank=1, start="eva", tau=0.5, batches=64))
    (notice,) = found.notices
    assert 2 <= notice.data["batches"] < 64
    assert notice.data["layers_converged"] == notice.data["layers"] > 0
    assert notice.data["seconds"] > 0
    assert notice.data["calls"] == 2 * 6 * notice.data["batches"]


def test_growth_gives_eva_to_new_nodes_alone(client: LocalRolloutClient, tmp_path: Path) -> None:
    spec = stage_spec(**TRAINING).model_copy(update={"adapter": LoraSpec(rank=2)})
    start = train(spec, tmp_path / "old", Recorded(client), attempt=next(attempts)).checkpoint
    trained, states = read_checkpoint(start).adapters, {}
    for new in ("fresh", "eva"):
        inherit = InheritanceSpec(new=new, old="freeze")
        grown = apply_plan(spec.topology, PlanSpec(edits=(WidenSpec(edit="widen", layer=1),), inherit=inherit))
        recorded = Recorded(client)
        larger = spec.with_topology(grown.topology)
        result = train(larger, tmp_path / new, recorded, attempt=next(attempts), start=start, grown=grown)
        states[new] = read_checkpoint(result.checkpoint).adapters
        assert bool(recorded.looks) == (new == "eva")
        assert all(torch.equal(states[new][key], value) for key, value in trained.items())
    (added,) = grown.new
    keys = [key for key in states["eva"] if key.startswith(f"{added}/") and key.endswith("/A")]
    assert keys
    for key in keys:
        a = states["eva"][key]
        assert not torch.equal(a, states["fresh"][key])
        torch.testing.assert_close(a @ a.T, torch.eye(2), rtol=0, atol=1e-5)
