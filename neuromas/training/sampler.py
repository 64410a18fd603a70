"""Where a step's rollouts come from: publishes adapter versions, submits batches, refills, runs one step ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol, TypeVar

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.errors import RolloutError
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import RolloutClient, Ticket
from neuromas.rollout.record import Group, Provenance
from neuromas.rollout.stats import RolloutStats
from neuromas.spec.parts import SamplingSpec
from neuromas.tasks.base import Example, Task
from neuromas.topology.graph import Topology

Item = TypeVar("Item")


class Peers(Protocol):
    """The data-parallel processes, as far as sampling and checks need them."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def gather(self, item: Item) -> list[Item]:
        """Return every process's item, by rank."""

    def wait(self) -> None:
        """Return when all processes have come here."""


class Alone:
    """The only process there is."""

    rank = 0
    size = 1

    def gather(self, item: Item) -> list[Item]:
        """Return the item."""
        return [item]

    def wait(self) -> None:
        """Return at once."""


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """What a stage samples in every step.

    Attributes:
        topology: the graph.
        level: task level; None = the task's target.
        prompts: examples per step over all processes.
        group_size: rollouts per example.
        sampling: budget and temperature of Nodes that set none.
        seed: of the run.
        provenance: run and stage; its step is replaced.
        namespace: of the published versions.
        refill_rounds: how often useless groups of a step are replaced.
        max_failed_fraction: share of failed rollouts that is tolerated.
    """

    topology: Topology
    level: int | None
    prompts: int
    group_size: int
    sampling: SamplingSpec
    seed: int
    provenance: Provenance
    namespace: str
    refill_rounds: int = 0
    max_failed_fraction: float = 1.0


@dataclass(frozen=True, slots=True)
class StepRollouts:
    """The rollouts of one step.

    Attributes:
        groups: one per example of this process.
        version: adapter version that sampled them.
        stats: what they cost, replaced groups included.
        refilled: groups that were replaced.
        wait_s: seconds this process waited for them.
        sync_s: seconds spent on publishing before.
    """

    groups: tuple[Group, ...]
    version: int
    stats: RolloutStats
    refilled: int
    wait_s: float
    sync_s: float


@dataclass(slots=True)
class _Underway:
    """A batch under way: the step it is for, the version it names, and its groups once they were awaited."""

    step: int
    version: int
    ticket: Ticket
    result: tuple[list[Group], RolloutStats] | None = None

    def wait(self, collect: Callable[[Ticket], tuple[list[Group], RolloutStats]]) -> tuple[list[Group], RolloutStats]:
        """Return groups and cost, collected once."""
        if self.result is None:
            self.result = collect(self.ticket)
        return self.result


class StepSampler:
    """Samples the steps of one stage in order, on the adapters as they are when asked.

    Attributes:
        cursor: index of the next training example; all processes keep the same.
        version: last version published; -1 before the first.
    """

    def __init__(
        self,
        client: RolloutClient,
        task: Task,
        plan: SamplePlan,
        export: Callable[[], Mapping[str, PlainLora]],
        is_useful: Callable[[Group], bool],
        peers: Peers,
        cursor: int,
    ) -> None:
        """Set up a stage's sampling.

        Args:
            client: the workers.
            task: draws the examples.
            plan: what to sample.
            export: the adapters' weights of this moment, by name.
            is_useful: whether a group has a gradient; the others may be refilled.
            peers: the data-parallel processes; rank r takes every size-th example from the r-th on.
            cursor: where the stage's examples begin.
        """
        self._client = client
        self._task = task
        self._plan = plan
        self._export = export
        self._is_useful = is_useful
        self._peers = peers
        self._ahead: _Underway | None = None
        self.cursor = cursor
        self.version = -1

    def refs(self) -> dict[str, AdapterRef]:
        """Return the published version of every adapter of the graph."""
        return self._refs(self.version)

    def publish(self, version: int) -> float:
        """Publish the adapters as ``version`` unless they are; returns the seconds it took.

        Rollouts that were submitted ahead are awaited before, in all processes: they name the version that retires,
        and a part that is lost with its worker is rolled out again.
        """
        if version != self.version and self._ahead is not None:
            self._ahead.wait(self._collect)
        began = perf_counter()
        if version != self.version:
            self._peers.wait()
            if self._peers.rank == 0:
                retired = self._refs(self.version).values() if self.version >= 0 else ()
                weights = self._export()
                refs = self._refs(version)
                self._client.publish({ref: weights[name] for name, ref in refs.items()}, sorted(retired))
            self.version = version
            self._peers.wait()
        return perf_counter() - began

    def sample(self, step: int, ahead: bool = False) -> StepRollouts:
        """Return the rollouts of optimizer step ``step`` (from 0); its number is the version of the weights.

        Args:
            step: which step; steps are asked for in order.
            ahead: submit the next step's rollouts too, on this step's weights, so that they are sampled while the
                caller trains. The next call then returns those, one version behind.

        Raises:
            RolloutError: too many rollouts failed.
        """
        began = perf_counter()
        pending = self._take(step)
        if pending is None:
            sync_s = self.publish(step)
            pending = self._begin(step)
            groups, stats = pending.wait(self._collect)
        else:
            groups, stats = pending.wait(self._collect)
            sync_s = self.publish(step)
        groups, stats, refilled = self._refill(step, groups, stats)
        wait_s = perf_counter() - began - sync_s
        self._check_failures(step, groups)
        if ahead:
            self._ahead = self._begin(step + 1)
        return StepRollouts(tuple(groups), pending.version, stats, refilled, wait_s, sync_s)

    def rollouts(self, examples: Sequence[Example], *, greedy: bool, step: int, seed: int) -> list[Group]:
        """Return one rollout of each example on the published version, for evaluation."""
        return self._client.collect(self._client.submit(self._batch(step, examples, 1, greedy, seed)))

    def drain(self) -> None:
        """Throw away rollouts that were submitted ahead and put their examples back."""
        if self._ahead is not None:
            self._ahead.wait(self._collect)
            self.cursor -= self._plan.prompts
            self._ahead = None

    def _begin(self, step: int) -> _Underway:
        return _Underway(step, self.version, self._submit(step, self._next(self._plan.prompts)))

    def _take(self, step: int) -> _Underway | None:
        if self._ahead is None:
            return None
        pending, self._ahead = self._ahead, None
        if pending.step != step:
            raise RolloutError(f"rollouts were sampled ahead for step {pending.step}, but step {step} is asked for")
        return pending

    def _collect(self, ticket: Ticket) -> tuple[list[Group], RolloutStats]:
        groups = self._client.collect(ticket)
        return groups, self._client.last_stats

    def _refill(self, step: int, groups: list[Group], stats: RolloutStats) -> tuple[list[Group], RolloutStats, int]:
        refilled = 0
        for _ in range(self._plan.refill_rounds):
            useless = [index for index, group in enumerate(groups) if not self._is_useful(group)]
            counts = self._peers.gather(len(useless))
            if not any(counts):
                break
            first = self.cursor + sum(counts[: self._peers.rank])
            self.cursor += sum(counts)
            if not useless:
                continue
            examples = [self._example(first + offset) for offset in range(len(useless))]
            fresh, cost = self._collect(self._submit(step, examples))
            stats = stats + cost
            for index, group in zip(useless, fresh, strict=True):
                if self._is_useful(group):
                    groups[index] = group
                    refilled += 1
        return groups, stats, refilled

    def _next(self, count: int) -> list[Example]:
        """Return this process's share of the next examples and move the cursor past all of them."""
        indices = range(self.cursor + self._peers.rank, self.cursor + count, self._peers.size)
        self.cursor += count
        return [self._example(index) for index in indices]

    def _example(self, index: int) -> Example:
        size = self._task.size("train")
        return self._task.example("train", index if size is None else index % size, self._plan.level)

    def _submit(self, step: int, examples: Sequence[Example]) -> Ticket:
        return self._client.submit(self._batch(step, examples, self._plan.group_size, False, self._plan.seed))

    def _batch(self, step: int, examples: Sequence[Example], group_size: int, greedy: bool, seed: int) -> RolloutBatch:
        return RolloutBatch(
            topology=self._plan.topology,
            examples=tuple(examples),
            group_size=group_size,
            adapters=self.refs(),
            sampling=self._plan.sampling,
            greedy=greedy,
            seed=seed,
            provenance=replace(self._plan.provenance, step=step),
            task=self._task,
        )

    def _refs(self, version: int) -> dict[str, AdapterRef]:
        return {name: AdapterRef(name, version, self._plan.namespace) for name in self._plan.topology.adapters}

    def _check_failures(self, step: int, groups: Sequence[Group]) -> None:
        """Stop when too many rollouts of all processes failed.

        Raises:
            RolloutError: they did.
        """
        failed = (rollout for group in groups for rollout in group.rollouts if rollout.failure is not None)
        mine = [f"question {rollout.example.id!r}: {rollout.failure}" for rollout in failed]
        reasons = [reason for share in self._peers.gather(mine) for reason in share]
        total = self._plan.prompts * self._plan.group_size
        if len(reasons) > self._plan.max_failed_fraction * total:
            raise RolloutError(
                f"step {step}: {len(reasons)} of {total} rollouts failed, allowed is a share of "
                f"{self._plan.max_failed_fraction} (training.max_failed_fraction); the first reason: {reasons[0]}"
            )
