"""A stage that stopped and went on ends with the same numbers as one that ran through, for every family of adapters."""

from __future__ import annotations

import signal
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from adapter_families import NODES, SPECS
from forked import run_apart
from resumed_stage import make_client, mixed_spec, stage_spec, train, train_and_die
from test_resume_stage import CrashError, assert_same

from neuromas.adapters.families.contract import SHARED
from neuromas.base.resolve import resolve_base
from neuromas.checkpoints.checkpoint import Checkpoint, read_checkpoint
from neuromas.checkpoints.location import resolve_checkpoint
from neuromas.checkpoints.servable import plain_loras
from neuromas.cluster.setup import WorkerSetup
from neuromas.engines.setup import EngineSetup
from neuromas.growth.plan import apply_plan
from neuromas.journal.events import Event, StepDone
from neuromas.rollout.client import LocalRolloutClient
from neuromas.spec.growth import AppendSpec, InheritanceSpec, PlanSpec
from neuromas.topology.document import topology_from_document

FAMILIES = [name for name in SPECS if name not in ("lora", "loft-principal", "ssf-input")]
attempts = count(1)


@pytest.fixture(scope="module")
def client() -> LocalRolloutClient:
    spec = stage_spec()
    engine = EngineSetup(resolve_base("tiny"), spec.engine, 8, spec.adapter.targets)
    return LocalRolloutClient(WorkerSetup(engine, 2, spec.prompt, spec.task).make())


@pytest.mark.parametrize("name", FAMILIES)
def test_crash_and_resume(client: LocalRolloutClient, tmp_path: Path, name: str) -> None:
    training = {"steps": 4, "prompts_per_step": 2, "group_size": 4, "estimator": "reinforce"}
    spec = stage_spec(**training).model_copy(update={"adapter": SPECS[name]})

    def crash(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            raise CrashError

    with pytest.raises(CrashError):
        train(spec, tmp_path / "crashed", client, on_event=crash, attempt=next(attempts))
    saved = resolve_checkpoint(tmp_path / "crashed")
    resumed = train(spec, tmp_path / "crashed", client, resume=saved, attempt=next(attempts))
    whole = train(spec, tmp_path / "whole", client, attempt=next(attempts))
    assert_same(resumed.checkpoint, whole.checkpoint)

    held = read_checkpoint(whole.checkpoint)
    has_shared = bool(SPECS[name].num_parameters(()).shared)
    assert set(held.counts) == {*spec.topology.adapters, *([SHARED] if has_shared else [])}
    assert set(held.counts.values()) == {4}
    loras = plain_loras(whole.checkpoint, resolve_base(spec.base), spec.adapters, spec.seed)
    updates = [b @ a for lora in loras.values() for a, b in lora.modules.values()]
    assert max(float(np.abs(update).max()) for update in updates) > 0


def test_a_graph_of_all_families_goes_on_after_it_was_killed(tmp_path: Path) -> None:
    spec = mixed_spec()
    assert run_apart(train_and_die, tmp_path / "killed", "step", spec) == -signal.SIGKILL
    client = make_client(spec)
    saved = resolve_checkpoint(tmp_path / "killed")
    resumed = train(spec, tmp_path / "killed", client, resume=saved, attempt=next(attempts))
    whole = train(spec, tmp_path / "whole", client, attempt=next(attempts))
    assert_same(resumed.checkpoint, whole.checkpoint)
    held = read_checkpoint(whole.checkpoint)
    assert {node.group for node in held.topology.nodes} == {None, *NODES}
    assert set(held.counts.values()) == {6}
    loras = plain_loras(whole.checkpoint, resolve_base(spec.base), spec.adapters, spec.seed)
    sizes = {name: max(float(np.abs(b @ a).max()) for a, b in lora.modules.values()) for name, lora in loras.items()}
    assert min(sizes.values()) > 0, "a node was not trained"


def test_what_all_adapters_share_holds_still_while_one_of_them_is_frozen(
    client: LocalRolloutClient, tmp_path: Path
) -> None:
    training = {"steps": 2, "prompts_per_step": 2, "group_size": 4, "estimator": "reinforce"}
    spec = stage_spec(**training).model_copy(update={"adapter": SPECS["hyper-residual"]})
    small = spec.with_topology(topology_from_document({"chain": 1}))
    start = train(small, tmp_path / "start", client, attempt=next(attempts)).checkpoint

    def grown(freeze_steps: int) -> Checkpoint:
        inherit = InheritanceSpec(old="freeze", freeze_steps=freeze_steps)
        append = PlanSpec(edits=(AppendSpec(edit="append", layers=(1,)),), inherit=inherit)
        change = apply_plan(small.topology, append)
        folder, larger = tmp_path / f"frozen-{freeze_steps}", spec.with_topology(change.topology)
        outcome = train(larger, folder, client, attempt=next(attempts), start=start, grown=change)
        return read_checkpoint(outcome.checkpoint)

    before, frozen = read_checkpoint(start), grown(2)
    moved = {key for key, value in before.adapters.items() if not frozen.adapters[key].equal(value)}
    assert not moved
    assert frozen.counts == {"n1": 0, "n2": 2, SHARED: 0}
    thawed = grown(1)
    assert thawed.counts == {"n1": 1, "n2": 2, SHARED: 1}
