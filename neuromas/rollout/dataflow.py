"""The DAG scheduler: every call enters the engine the moment its inputs exist.

All examples, all rollouts and all Nodes share one continuous batch; there is no barrier between layers. The order of
submission follows from the order in which the engine returns results and from nothing else, so the same batch on the
same engine gives the same calls in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from time import perf_counter

from neuromas.adapters.ref import AdapterRef
from neuromas.errors import RolloutError
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.engine import Engine, EngineCall, EngineResult, Sampling
from neuromas.rollout.prompt import Renderer
from neuromas.rollout.record import Group, NodeCall, Provenance, Rollout
from neuromas.rollout.signal import Signal
from neuromas.rollout.stats import RolloutStats
from neuromas.tasks.base import Example, Task

_SEED_MASK = 2**63 - 1


def rollout_seed(seed: int, provenance: Provenance, example_id: str, index: int) -> int:
    """Return the 63-bit seed of one rollout, the same in every process and on every machine."""
    return _hash63(seed, provenance.stage, provenance.step, example_id, index)


def call_seed(seed_of_rollout: int, node_id: str) -> int:
    """Return the 63-bit seed of one Node's call in the rollout."""
    return _hash63(seed_of_rollout, node_id)


def _hash63(*parts: int | str) -> int:
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") & _SEED_MASK


def run_dataflow(engine: Engine, renderer: Renderer, task: Task, batch: RolloutBatch) -> list[Group]:
    """Return the Groups of ``batch``, one per example, in the order of its examples.

    A call that fails ends its rollout, which keeps the calls made so far, reward 0 and the reason. Whatever else
    stops the work (an interrupt, a crash of the engine) takes the unfinished calls out of the engine again.
    """
    return Dataflow(engine, renderer).run(task, batch)


@dataclass(frozen=True, slots=True)
class _Seat:
    """One Node of a batch's graph with all that does not change from rollout to rollout."""

    id: str
    place: int
    predecessors: tuple[str, ...]
    successors: tuple[str, ...]
    adapter: AdapterRef | None
    sampling: Sampling


@dataclass(slots=True)
class _Plan:
    """A batch, its scorer and its seats in topological order."""

    batch: RolloutBatch
    task: Task
    seats: dict[str, _Seat]
    topology_hash: str

    @classmethod
    def of(cls, batch: RolloutBatch, task: Task) -> _Plan:
        topology = batch.topology
        seats = {}
        for place, node_id in enumerate(topology.order):
            node = topology.node(node_id)
            temperature = batch.sampling.temperature if node.temperature is None else node.temperature
            seats[node_id] = _Seat(
                id=node_id,
                place=place,
                predecessors=topology.predecessors(node_id),
                successors=topology.successors(node_id),
                adapter=batch.adapters[topology.adapter_of(node_id)],
                sampling=Sampling(
                    max_tokens=batch.sampling.max_tokens if node.max_tokens is None else node.max_tokens,
                    temperature=0.0 if batch.greedy else temperature,
                    top_p=1.0 if batch.greedy else batch.sampling.top_p,
                ),
            )
        return cls(batch, task, seats, topology.content_hash)


@dataclass(slots=True)
class _Pass:
    """One rollout under way. ``missing`` counts, per Node not yet called, the predecessors without a message."""

    key: int
    plan: _Plan
    example: Example
    index: int
    seed: int
    missing: dict[str, int]
    calls: dict[str, NodeCall] = field(default_factory=dict)
    in_engine: set[str] = field(default_factory=set)
    failure: str | None = None

    def signals(self, seat: _Seat) -> list[Signal]:
        return [Signal(sender, self.calls[sender].text) for sender in seat.predecessors]

    def unlock(self, seat: _Seat) -> list[_Seat]:
        """Return the successors of ``seat`` whose last missing input was its message."""
        seats = []
        for node_id in seat.successors:
            self.missing[node_id] -= 1
            if not self.missing[node_id]:
                seats.append(self.plan.seats[node_id])
        return seats

    @property
    def is_finished(self) -> bool:
        return self.failure is not None or len(self.calls) == len(self.plan.seats)

    def finish(self) -> Rollout:
        batch = self.plan.batch
        output = self.calls.get(batch.topology.output)
        answer = output.text if output is not None and self.failure is None else ""
        return Rollout(
            topology_hash=self.plan.topology_hash,
            provenance=batch.provenance,
            example=self.example,
            index=self.index,
            seed=self.seed,
            calls=tuple(self.calls[node_id] for node_id in self.plan.seats if node_id in self.calls),
            answer=answer,
            reward=0.0 if self.failure is not None else self.plan.task.score(self.example, answer),
            failure=self.failure,
        )


@dataclass(frozen=True, slots=True)
class _Flight:
    """A call that is in the engine."""

    rollout: _Pass
    seat: _Seat
    prompt: tuple[int, ...]
    entered_s: float


class Dataflow:
    """Passes through graphs on one engine: added at any time, advanced one engine step at a time."""

    def __init__(self, engine: Engine, renderer: Renderer) -> None:
        self._engine = engine
        self._renderer = renderer
        self._flights: dict[str, _Flight] = {}
        self._ready: list[tuple[_Pass, _Seat]] = []
        self._num_passes = 0
        self._num_unfinished = 0
        self._stats = RolloutStats()

    @property
    def stats(self) -> RolloutStats:
        """Counts and seconds since this object was made."""
        return self._stats

    @property
    def has_unfinished(self) -> bool:
        """Whether a rollout that was added has not been returned."""
        return self._num_unfinished > 0

    def run(self, task: Task, batch: RolloutBatch) -> list[Group]:
        """Return the Groups of ``batch``; see ``run_dataflow``. Nothing else may be under way."""
        first = self.add(task, batch)
        rollouts: dict[int, Rollout] = {}
        try:
            while self.has_unfinished:
                rollouts.update(self.advance())
        finally:
            self.abort()
        size = batch.group_size
        return [
            Group(example, tuple(rollouts[first + place * size + index] for index in range(size)))
            for place, example in enumerate(batch.examples)
        ]

    def add(self, task: Task, batch: RolloutBatch) -> int:
        """Begin all rollouts of a batch.

        Returns:
            The key of its first rollout; the others count on from it, example by example.
        """
        plan = _Plan.of(batch, task)
        missing = {seat.id: len(seat.predecessors) for seat in plan.seats.values()}
        sources = [plan.seats[node_id] for node_id, count in missing.items() if not count]
        first = self._num_passes
        for example in batch.examples:
            for index in range(batch.group_size):
                seed = rollout_seed(batch.seed, batch.provenance, example.id, index)
                rollout = _Pass(self._num_passes, plan, example, index, seed, dict(missing))
                self._num_passes += 1
                self._ready += [(rollout, seat) for seat in sources]
        self._num_unfinished += self._num_passes - first
        return first

    def advance(self) -> list[tuple[int, Rollout]]:
        """Submit what is ready, advance the engine by one step and return (key, rollout) of what finished.

        Raises:
            RolloutError: rollouts are under way and the engine says it has nothing to do.
        """
        began = perf_counter()
        self._submit()
        if self._num_unfinished and not self._engine.has_unfinished():
            raise RolloutError(f"{self._num_unfinished} rollouts wait for an engine that has no call under way")
        before_step = perf_counter()
        results = self._engine.step()
        step_s = perf_counter() - before_step
        finished = [rollout for rollout in self._absorb(results) if rollout.is_finished]
        self._num_unfinished -= len(finished)
        done = [(rollout.key, rollout.finish()) for rollout in sorted(finished, key=lambda rollout: rollout.key)]
        self._stats += RolloutStats(
            rollouts=len(done),
            failed_rollouts=sum(rollout.failure is not None for _, rollout in done),
            engine_steps=1,
            engine_s=step_s,
            total_s=perf_counter() - began,
        )
        return done

    def abort(self) -> None:
        """Forget everything under way and take its calls out of the engine."""
        if self._flights:
            self._engine.abort(list(self._flights))
        self._flights.clear()
        self._ready.clear()
        self._num_unfinished = 0

    def _submit(self) -> None:
        # Node by node: neighbours in the batch then share their adapter, and rollouts of a group their prefix.
        self._ready.sort(key=lambda item: (item[1].place, item[0].key))
        began = perf_counter()
        calls = [self._call(rollout, seat) for rollout, seat in self._ready]
        self._ready.clear()
        rendered = perf_counter()
        if calls:
            self._engine.submit(calls)
        self._stats += RolloutStats(
            prompt_tokens=sum(len(call.prompt_token_ids) for call in calls),
            render_s=rendered - began,
            engine_s=perf_counter() - rendered,
        )

    def _call(self, rollout: _Pass, seat: _Seat) -> EngineCall:
        topology, sampling = rollout.plan.batch.topology, seat.sampling
        prompt = self._renderer.render(
            topology, seat.id, rollout.example, rollout.signals(seat), max_tokens=sampling.max_tokens
        )
        if sampling.temperature > 0:
            seed = call_seed(rollout.seed, seat.id)
            sampling = Sampling(sampling.max_tokens, sampling.temperature, sampling.top_p, seed)
        call_id = f"{rollout.key}.{seat.id}"
        self._flights[call_id] = _Flight(rollout, seat, prompt, perf_counter())
        rollout.in_engine.add(call_id)
        return EngineCall(call_id, prompt, sampling, seat.adapter)

    def _absorb(self, results: Sequence[EngineResult]) -> list[_Pass]:
        """Record results, make their successors ready and return the rollouts they belong to, each once."""
        began = perf_counter()
        landed = [(self._flights.pop(result.id), result, self._renderer.decode(result.token_ids)) for result in results]
        now = perf_counter()
        landed.sort(key=lambda item: (item[0].seat.place, item[0].rollout.key))
        for flight, result, _ in landed:
            flight.rollout.in_engine.discard(result.id)
        touched: dict[int, _Pass] = {}
        for flight, result, text in landed:
            rollout, seat = flight.rollout, flight.seat
            if rollout.failure is not None:  # failed in this very step: what came with it is not recorded
                continue
            touched[rollout.key] = rollout
            rollout.calls[seat.id] = _node_call(flight, result, text, now)
            if result.finish_reason == "error":
                self._fail(rollout, f"node {seat.id!r}: {result.error}")
            else:
                self._ready += [(rollout, successor) for successor in rollout.unlock(seat)]
        self._stats += RolloutStats(
            calls=len(results),
            truncated_calls=sum(result.finish_reason == "length" for result in results),
            cached_tokens=sum(result.cached_tokens for result in results),
            generated_tokens=sum(len(result.token_ids) for result in results),
            decode_s=now - began,
        )
        return list(touched.values())

    def _fail(self, rollout: _Pass, reason: str) -> None:
        """End a rollout at its first failed call; its other calls leave the engine unrecorded."""
        rollout.failure = reason
        call_ids = sorted(rollout.in_engine)
        rollout.in_engine.clear()
        self._ready = [item for item in self._ready if item[0] is not rollout]
        if call_ids:
            self._engine.abort(call_ids)
        for call_id in call_ids:
            del self._flights[call_id]


def _node_call(flight: _Flight, result: EngineResult, text: str, now_s: float) -> NodeCall:
    return NodeCall(
        node=flight.seat.id,
        adapter=flight.seat.adapter,
        prompt_token_ids=flight.prompt,
        completion_token_ids=tuple(result.token_ids),
        logprobs=tuple(result.logprobs),
        finish_reason=result.finish_reason,
        text=text,
        latency_s=now_s - flight.entered_s,
        error=result.error,
    )
