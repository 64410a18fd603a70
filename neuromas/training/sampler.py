"""Where a step's rollouts come from: publishes adapter versions, submits batches, refills, runs one step ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.errors import RolloutError
from neuromas.growth.stage import Stage
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import Ticket
from neuromas.rollout.record import Group, Provenance
from neuromas.rollout.stats import RolloutStats
from neuromas.tasks.base import Example, Task
from neuromas.training.workplace import Workplace


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
        place: Workplace,
        stage: Stage,
        task: Task,
        export: Callable[[], Mapping[str, PlainLora]],
        cursor: int,
    ) -> None:
        """Set up a stage's sampling.

        Args:
            place: of the run; process r takes every size-th example of a step from the r-th on.
            stage: whose graph and level are sampled.
            task: draws the examples.
            export: the adapters' weights of this moment, by name.
            cursor: where the stage's examples begin.
        """
        self._spec, self._client, self._peers = place.spec, place.client, place.peers
        self._stage, self._task, self._export = stage, task, export
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
            self.cursor -= self._spec.training.prompts_per_step
            self._ahead = None

    def _begin(self, step: int) -> _Underway:
        return _Underway(step, self.version, self._submit(step, self._next(self._spec.training.prompts_per_step)))

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
        for _ in range(self._spec.training.refill_rounds):
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
        return self._task.example("train", index if size is None else index % size, self._stage.level)

    def _submit(self, step: int, examples: Sequence[Example]) -> Ticket:
        training = self._spec.training
        batch = self._batch(step, examples, training.group_size, False, self._spec.seed)
        if training.credit == "counterfactual":  # the anchor is one of each node's samples
            batch = replace(batch, group_size=1, replays=training.group_size - 1)
        return self._client.submit(batch)

    def _batch(self, step: int, examples: Sequence[Example], group_size: int, greedy: bool, seed: int) -> RolloutBatch:
        return RolloutBatch(
            topology=self._stage.topology,
            examples=tuple(examples),
            group_size=group_size,
            adapters=self.refs(),
            sampling=self._spec.sampling,
            greedy=greedy,
            seed=seed,
            provenance=Provenance(self._spec.name, self._stage.index, step),
            task=self._task,
        )

    def _refs(self, version: int) -> dict[str, AdapterRef]:
        namespace = f"{self._spec.name}/{self._stage.name}"
        return {name: AdapterRef(name, version, namespace) for name in self._stage.topology.adapters}

    def _is_useful(self, group: Group) -> bool:
        """Whether a group has a gradient: the baseline of "reinforce" is no group's mean, so equal rewards teach."""
        always = self._spec.training.estimator == "reinforce"
        return always or len({rollout.reward for rollout in group.rollouts}) > 1

    def _check_failures(self, step: int, groups: Sequence[Group]) -> None:
        """Stop when too many rollouts of all processes failed.

        Raises:
            RolloutError: they did.
        """
        failed = (rollout for group in groups for rollout in group.rollouts if rollout.failure is not None)
        mine = [f"question {rollout.example.id!r}: {rollout.failure}" for rollout in failed]
        reasons = [reason for share in self._peers.gather(mine) for reason in share]
        total = sum(self._peers.gather(sum(len(group.rollouts) for group in groups)))
        most = self._spec.training.max_failed_fraction
        if len(reasons) > most * total:
            raise RolloutError(
                f"step {step}: {len(reasons)} of {total} rollouts failed, allowed is a share of "
                f"{most} (training.max_failed_fraction); the first reason: {reasons[0]}"
            )
