"""One process of data-parallel stages, for test_trainer_parallel.py, which itself is the process that is alone.

Each case is a ``Case``; what it leaves is written to OUT/<name>/.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from resumed_stage import make_client, stage_spec, train
from safetensors.torch import save_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from neuromas.adapters.ref import AdapterRef
from neuromas.checkpoints.checkpoint import read_checkpoint
from neuromas.checkpoints.location import FOLDER
from neuromas.growth.triggers import Threshold
from neuromas.journal.events import Event, Notice, StepDone
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import LocalRolloutClient, Ticket
from neuromas.rollout.record import Group, NodeCall, Rollout
from neuromas.spec.machine import RuntimeSpec
from neuromas.training.peers import Alone
from neuromas.training.sampler import StepSampler

PROMPTS = 6


@dataclass
class Case:
    """A stage of a few steps over 6 prompts each.

    Attributes:
        training: settings beside the defaults.
        adapter: those of the adapters.
        sections: others of the run.
        learns: which of a step's prompts have unequal rewards, by their place in the step; all others are solved.
        fails: which of them get no usable call.
        checks: whether every step is followed by a held-out check, with sampled answers.
        resumes: whether it is then trained again from its checkpoint after two steps, which is what is looked at.
    """

    training: dict[str, Any] = field(default_factory=dict)
    adapter: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)
    learns: Sequence[int] = tuple(range(PROMPTS))
    fails: Sequence[int] = ()
    checks: bool = False
    resumes: bool = False


@dataclass
class RuledClient:
    """Real rollouts with rewards and failures by the case's rule; notes which examples were rolled out."""

    client: LocalRolloutClient
    case: Case
    examples: list[str] = field(default_factory=list)
    held: list[AdapterRef] = field(default_factory=list)

    @property
    def last_stats(self) -> Any:
        return self.client.last_stats

    def publish(self, adapters: Any, retire: Any = ()) -> None:
        self.client.publish(adapters, retire)
        self.held = [ref for ref in self.held if ref not in set(retire)] + list(adapters)

    def submit(self, batch: RolloutBatch) -> Ticket:
        if not batch.greedy and batch.group_size > 1:
            self.examples += [example.id for example in batch.examples]
        return self.client.submit(batch)

    def collect(self, ticket: Ticket) -> list[Group]:
        groups = self.client.collect(ticket)
        return [Group(group.example, tuple(map(self._ruled, group.rollouts))) for group in groups]

    def _ruled(self, rollout: Rollout) -> Rollout:
        place = int(rollout.example.id.rsplit("/", 1)[-1]) % PROMPTS
        if place in self.case.fails:
            calls = tuple(map(_failed, rollout.calls))
            return replace(rollout, calls=calls, reward=0.0, failure="engine lost")
        return replace(rollout, reward=rollout.index * 3 % 4 / 3 if place in self.case.learns else 1.0)

    def close(self) -> None:
        self.client.close()


def _failed(call: NodeCall) -> NodeCall:
    return replace(call, completion_token_ids=(), logprobs=(), finish_reason="error", error="engine lost")


def run_case(out: Path, case: Case, client: LocalRolloutClient, attempt: int, *, is_sharded: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rank, learners = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    # Nothing is looked at that the first process alone does: no samples, and few questions at the end.
    looked_at = {"tracking": {"rollouts_per_sample": 0}, "evaluation": {"examples": 1}}
    sections = {"adapter": case.adapter, **case.sections, **looked_at}
    spec = stage_spec(sections, **{"steps": 2, "prompts_per_step": PROMPTS, **case.training})
    # Learners of Ray stay off the GPU.
    runtime = RuntimeSpec(type="ray", learner_workers=learners, shard_base=is_sharded)
    spec = spec.model_copy(update={"runtime": runtime})
    ruled = RuledClient(client, case)
    metrics: list[dict[str, Any]] = []
    notices: list[tuple[str, Any, str]] = []
    gradients: dict[str, torch.Tensor] = {}

    def capture(optimizer: Any, *_: Any) -> None:
        for number, parameter in enumerate(optimizer.param_groups[0]["params"]):
            gradients[f"{len(gradients)}/{number}"] = parameter.grad.clone()

    def note(event: Event) -> None:
        if isinstance(event, StepDone):
            metrics.append(event.to_document())
        elif isinstance(event, Notice) and "step" in event.data:
            notices.append((event.source, event.data["step"], event.message))

    trigger = Threshold(0.0, every=1, examples=2, sampled_accuracy=2.0) if case.checks else None
    hook = register_optimizer_step_pre_hook(capture)
    result = train(spec, out, ruled, on_event=note, attempt=attempt, trigger=trigger)
    hook.remove()
    if case.resumes:
        result = train(spec, out, ruled, out / FOLDER / "main-000002", note, attempt=attempt + 1000, trigger=trigger)
    ruled.publish({}, ruled.held)  # the first process has done so, for an engine that is shared
    (out / f"examples-{rank}.json").write_text(json.dumps(ruled.examples))
    if rank == 0:
        save_file(dict(read_checkpoint(result.checkpoint).adapters), out / "adapters.safetensors")
        save_file(gradients, out / "gradients.safetensors")
        (out / "metrics.json").write_text(json.dumps(metrics))
        (out / "notices.json").write_text(json.dumps(notices))


def publish_everywhere(publish: Any) -> Any:
    """Here every process has an engine of its own, where Ray's learners share theirs."""

    def wrapped(self: StepSampler, version: int) -> float:
        peers, self._peers = self._peers, Alone()
        try:
            return publish(self, version)
        finally:
            self._peers = peers

    return wrapped


def run_cases(out: Path, cases: dict[str, dict[str, Any]], *, is_sharded: bool = False) -> None:
    client = make_client(stage_spec({"adapter": {"rank": 8}, "topology": {"chain": 16}}))
    for attempt, (name, case) in enumerate(cases.items()):
        run_case(out / name, Case(**case), client, attempt, is_sharded=is_sharded)


def take_part(rank: int, out: Path, cases: dict[str, dict[str, Any]], processes: int, is_sharded: bool) -> None:
    """Be one of so many processes that carry out the cases together."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ |= {name: str(number) for name, number in ranks.items()}
    # Over a file: of a port nobody knows that it is still free when the first process listens on it.
    meeting = f"file://{out.resolve()}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
    torch.set_num_threads(1)
    StepSampler.publish = publish_everywhere(StepSampler.publish)  # type: ignore[method-assign]
    run_cases(out, cases, is_sharded=is_sharded)
    # What still holds the group keeps its threads running into the interpreter's end, where one that asks for the GIL
    # aborts the process.
    gc.collect()
    dist.destroy_process_group()
