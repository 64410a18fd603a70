"""A budget over the parts of all adapters of a graph: which parts train, and what the others keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft.tuners.adamss.layer import AdamssLayer
from resumed_stage import make_client, stage_spec, train
from torch import nn

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import build_model
from neuromas.adapters.families.adamss.spec import AdamssSpec
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.errors import CheckpointError
from neuromas.growth.plan import apply_plan
from neuromas.journal.events import Event, StepDone
from neuromas.rollout.client import LocalRolloutClient
from neuromas.spec.growth import InheritanceSpec, PlanSpec, WidenSpec
from neuromas.training.budget import DECAY, Budget, parts_that_train
from neuromas.training.optimizer import NodeAdamW

SPEC = AdamssSpec(basis=4, segments=3, rank=2, budget=0.25)
NAMES = ("a", "b")
ALL = torch.tensor([True, True])
STEPS = 20


@pytest.fixture(scope="module")
def client() -> Iterator[LocalRolloutClient]:
    made = make_client(stage_spec({"topology": {"layers": [3]}, "adapter": SPEC.model_dump()}))
    yield made
    made.close()


def bank_of(base: Path, spec: AdamssSpec = SPEC) -> AdapterBank:
    _, bank = build_model(base, spec, NAMES, seed=0)
    generator = torch.Generator().manual_seed(3)
    for owned in bank.trained():
        owned.tensor.data += 0.3 * torch.randn(owned.tensor.shape, generator=generator)
    return bank


def give_gradients(bank: AdapterBank, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for owned in bank.trained():
        owned.tensor.grad = torch.randn(owned.tensor.shape, generator=generator)


def held_rows(bank: AdapterBank, budget: Budget) -> dict[str, torch.Tensor]:
    masks = budget.hold_()
    return {owned.key: masks[owned.tensor] for owned in bank.trained()}


@pytest.mark.parametrize(
    ("step", "count"), [(0, 40), (4, 40), (5, 28), (6, 19), (7, 14), (8, 12), (9, 11), (10, 10), (19, 10)]
)
def test_the_number_of_parts_falls_with_the_cube_of_what_is_left(step: int, count: int) -> None:
    assert parts_that_train(40, 0.25, step, STEPS) == count


def test_one_part_always_trains() -> None:
    assert parts_that_train(3, 0.01, STEPS - 1, STEPS) == 1


class BareLayer(nn.Module, AdamssLayer):
    """PEFT's layer without what only its set-up needs, which is scikit-learn."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        AdamssLayer.__init__(self, nn.Identity())


def peft_scores(bank: AdapterBank, adapter: int, steps: int) -> dict[str, list[float]]:
    """Return the importance of each segment by layer, from PEFT's own means."""
    tensors = {owned.key: owned for owned in bank.tensors()}
    found = {}
    for path in bank.modules(NAMES[adapter]):
        segments = tensors[f"{path}/segments"].tensor
        a, b = tensors[f"{path}/subspace"].tensor, tensors[f"{path}/rows"].tensor
        layer = BareLayer()
        ours = [(a[adapter, 2 * k : 2 * k + 2], b[adapter, segments == k]) for k in range(SPEC.segments)]
        layer.adamss_A["x"], layer.adamss_B["x"] = (
            nn.ParameterList([nn.Parameter(pair[half].detach().clone()) for pair in ours]) for half in (0, 1)
        )
        layer.num_subspaces["x"] = SPEC.segments
        layer.exp_avg_ipt_A["x"], layer.exp_avg_ipt_B["x"] = [None] * SPEC.segments, [None] * SPEC.segments
        layer.exp_avg_unc_A["x"], layer.exp_avg_unc_B["x"] = [None] * SPEC.segments, [None] * SPEC.segments
        for step in range(steps):
            give_gradients(bank, step)
            for k in range(SPEC.segments):
                layer.adamss_A["x"][k].grad = a.grad[adapter, 2 * k : 2 * k + 2].clone()
                layer.adamss_B["x"][k].grad = b.grad[adapter, segments == k].clone()
            layer.update_importance("x", DECAY, DECAY)
        found[path] = [
            float(
                (layer.exp_avg_ipt_A["x"][k] * layer.exp_avg_unc_A["x"][k]).mean()
                + (layer.exp_avg_ipt_B["x"][k] * layer.exp_avg_unc_B["x"][k]).mean()
            )
            for k in range(SPEC.segments)
        ]
    return found


def test_the_parts_of_largest_importance_by_pefts_means_train(small_base: Path) -> None:
    bank = bank_of(small_base)
    steps = STEPS // 2 + 1
    scores = [peft_scores(bank, adapter, steps) for adapter in range(2)]
    budget = Budget(bank, STEPS)
    for step in range(steps):
        give_gradients(bank, step)
        budget.weigh(step, ALL, ALL)
    entries = [(k, path, own) for k, of_layers in enumerate(scores) for path, own in of_layers.items()]
    scored = [(score, k, path, part) for k, path, own in entries for part, score in enumerate(own)]
    ranked = sorted(scored, reverse=True)
    kept = {entry[1:] for entry in ranked[: round(SPEC.budget * len(ranked))]}
    masks = held_rows(bank, budget)
    segments = {owned.key: owned.tensor for owned in bank.tensors() if owned.key.endswith("/segments")}
    for _, adapter, path, k in ranked:
        is_held = (adapter, path, k) not in kept
        assert masks[f"{path}/subspace"][adapter, 2 * k : 2 * k + 2].tolist() == [is_held] * 2
        assert set(masks[f"{path}/rows"][adapter, segments[f"{path}/segments"] == k].tolist()) == {is_held}
    shares = [sum(entry[0] == adapter for entry in kept) / (len(ranked) / 2) for adapter in range(2)]
    assert budget.shares() == pytest.approx(dict(zip(NAMES, shares, strict=True)))


def test_what_is_held_still_keeps_every_bit_and_its_moments_until_it_matters(small_base: Path) -> None:
    bank = bank_of(small_base)
    budget, optimizer = Budget(bank, STEPS), NodeAdamW(bank.trained(), bank.groups, 1e-2, (0.9, 0.99), 0.1)
    held_once: set[str] = set()
    returned = False
    for step in range(STEPS):
        give_gradients(bank, step)
        budget.weigh(step, ALL, ALL)
        masks = held_rows(bank, budget)
        before = {owned.key: (owned.tensor.detach().clone(), optimizer.export()[0]) for owned in bank.trained()}
        optimizer.set_active(ALL, budget.hold_())
        optimizer.step()
        moments = optimizer.export()[0]
        for owned in bank.trained():
            held = masks[owned.key]
            old, old_moments = before[owned.key]
            now = owned.tensor.detach()
            assert torch.equal(now[held], old[held])
            assert not owned.tensor.grad[held].any()
            assert (now[~held] != old[~held]).all()
            for k, name in enumerate(NAMES):
                key = f"{name}/{owned.key}/exp_avg"
                assert torch.equal(moments[key][held[k]], old_moments[key][held[k]])
            places = {f"{owned.key}:{place}" for place in held.nonzero().tolist()}
            returned |= any(place.startswith(f"{owned.key}:") for place in held_once - places)
            held_once |= places
        if step < STEPS // 5:
            assert not held_once
    assert returned
    assert sum(budget.shares().values()) / 2 == pytest.approx(SPEC.budget)


def test_the_budget_is_shared_among_those_that_may_move(small_base: Path) -> None:
    bank = bank_of(small_base)
    budget = Budget(bank, STEPS)
    for step in range(STEPS):
        give_gradients(bank, step)
        budget.weigh(step, ALL, torch.tensor([False, True]))
    assert budget.shares() == {"a": 1.0, "b": pytest.approx(SPEC.budget)}


def test_who_made_no_call_is_not_weighed(small_base: Path) -> None:
    bank = bank_of(small_base)
    budget = Budget(bank, STEPS)
    for step in range(3):
        give_gradients(bank, step)
        budget.weigh(step, torch.tensor([step == 0, True]), ALL)
    means = budget.export()
    once = Budget(bank, STEPS)
    give_gradients(bank, 0)
    once.weigh(0, ALL, ALL)
    same = [key for key, value in once.export().items() if torch.equal(value, means[key]) and not key.endswith("held")]
    assert same == [key for key in means if key.startswith("a/") and not key.endswith("held")]


def test_a_kind_without_a_budget_has_no_parts(small_base: Path) -> None:
    for spec in (LoraSpec(rank=2), AdamssSpec(basis=4, segments=3)):
        _, bank = build_model(small_base, spec, NAMES, seed=0)
        budget = Budget(bank, STEPS)
        assert (budget.shares(), budget.export(), budget.hold_()) == ({}, {}, {})


def test_a_checkpoint_without_a_budget_cannot_be_resumed_with_one(small_base: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a/.*sensitivity is nothing"):
        Budget(bank_of(small_base), STEPS).restore({})


def test_a_stage_tells_each_nodes_share_and_growth_begins_with_all(client: LocalRolloutClient, tmp_path: Path) -> None:
    told: list[dict[str, float]] = []

    def note(event: Event) -> None:
        if isinstance(event, StepDone):
            told.append({key: value for key, value in event.metrics.items() if key.startswith("train/budget_share/")})

    training = {"steps": 6, "prompts_per_step": 2, "estimator": "reinforce"}
    spec = stage_spec({"adapter": SPEC.model_dump()}, **training)
    start = train(spec, tmp_path / "small", client, on_event=note).checkpoint
    assert [set(shares) for shares in told] == [{"train/budget_share/n1", "train/budget_share/n2"}] * 6
    means = [sum(shares.values()) / 2 for shares in told]
    assert means[:2] == [1.0, 1.0]
    assert means == sorted(means, reverse=True)
    assert means[3:] == pytest.approx([SPEC.budget] * 3)

    told.clear()
    plan = PlanSpec(edits=(WidenSpec(edit="widen", layer=1),), inherit=InheritanceSpec(new="interpolate"))
    grown = apply_plan(spec.topology, plan)
    larger = spec.with_topology(grown.topology)
    train(larger, tmp_path / "large", client, attempt=1, on_event=note, start=start, grown=grown)
    assert set(told[0].values()) == {1.0}
    assert len(told[0]) == 3
    assert sum(told[-1].values()) / 3 == pytest.approx(SPEC.budget)
