"""The DAG scheduler: every call enters the engine the moment its inputs exist.

All examples, all rollouts and all Nodes share one continuous batch; there is no barrier between layers. The order of
submission follows from the order in which the engine returns results and from nothing else, so the same batch on the
same engine gives the same calls in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from hashlib import blake2b
from time import perf_counter

from neuromas.errors import RolloutError
from neuromas.rollout.active_rollout import ActiveCall, ActiveRollout, BatchPlan, PlannedNode, given_call
from neuromas.rollout.answer import AS_TRAINED, AnswerSettings, StreamedAnswer
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.engine import Engine, EngineCall, EngineResult
from neuromas.rollout.record import Group, NodeCall, Provenance, Rollout
from neuromas.rollout.renderer import Renderer
from neuromas.rollout.scorer import Scorer, pack
from neuromas.rollout.stats import RolloutStats
from neuromas.tasks.base import Example, Score, Task

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


class Dataflow:
    """Passes through graphs on one engine: added at any time, advanced one engine step at a time."""

    def __init__(self, engine: Engine, renderer: Renderer | None = None, scorer: Scorer | None = None) -> None:
        """Set up a dataflow with nothing under way.

        Args:
            engine: samples the calls.
            renderer: None means that every batch brings its own.
            scorer: judges the answers of tasks that want it; None scores all in place.
        """
        self._engine = engine
        self._scorer = scorer
        self._scoring: dict[int, tuple[ActiveRollout, Future[Score]]] = {}
        self._renderer = renderer
        self._active: dict[str, ActiveCall] = {}
        self._ready: list[tuple[ActiveRollout, PlannedNode]] = []
        self._rollouts: dict[int, ActiveRollout] = {}
        self._num_rollouts = 0
        self._num_watched = 0
        self._pieces: list[tuple[int, str]] = []
        self._stats = RolloutStats()

    @property
    def stats(self) -> RolloutStats:
        """Counts and seconds since this object was made, up to now."""
        return replace(self._stats)

    @property
    def has_unfinished(self) -> bool:
        """Whether a rollout that was added has not been returned."""
        return bool(self._rollouts or self._scoring)

    def run(self, task: Task, batch: RolloutBatch) -> list[Group]:
        """Return the Groups of ``batch``, one per example, in the order of its examples. Nothing else may be under way.

        A call that fails ends its rollout, which keeps the calls made so far, reward 0 and the reason. Whatever else
        stops the work (an interrupt, a crash of the engine) takes the unfinished calls out of the engine again.
        """
        first = self.add(task, batch)
        rollouts: dict[int, Rollout] = {}
        try:
            while self.has_unfinished:
                rollouts.update(self.advance())
        finally:
            self.abort()
        size = batch.rollouts_per_example
        starts = range(first, first + size * len(batch.examples), size)
        return [
            Group(example, tuple(rollouts[key] for key in range(start, start + size) if key in rollouts))
            for example, start in zip(batch.examples, starts, strict=True)
        ]

    def add(
        self,
        task: Task,
        batch: RolloutBatch,
        *,
        renderer: Renderer | None = None,
        settings: AnswerSettings = AS_TRAINED,
    ) -> int:
        """Begin all rollouts of a batch.

        Args:
            task: scores the answers.
            batch: the order.
            renderer: writes its prompts and reads its messages; None = the dataflow's own.
            settings: of the answers.

        Returns:
            The key of its first rollout; the others count on from it, example by example. Those of replays are kept
            free where they never come, as their anchor failed.
        """
        renderer = renderer or self._renderer
        if renderer is None:
            raise RolloutError("the batch brings no renderer, and the dataflow was made without one")
        plan = BatchPlan.of(batch, task, renderer, settings)
        if self._scorer is not None and task.scoring_timeout_s is not None:
            plan.packed = pack(task)
        given = {node: given_call(node, text) for node, text in batch.given.items()}
        first, size = self._num_rollouts, batch.rollouts_per_example
        self._num_rollouts += size * len(batch.examples)
        for place, example in enumerate(batch.examples):
            self._begin(plan, example, first + place * size, range(batch.group_size), given)
        return first

    def _begin(
        self,
        plan: BatchPlan,
        example: Example,
        first: int,
        indices: range,
        known: Mapping[str, NodeCall],
        replayed: str | None = None,
    ) -> None:
        """Begin some rollouts of an example's Group, whose first has the key ``first``; some calls are known before."""
        batch, missing = plan.batch, plan.missing(known)
        sources = [plan.nodes[node_id] for node_id, count in missing.items() if not count]
        for index in indices:
            seed = rollout_seed(batch.seed, batch.provenance, example.id, index)
            rollout = ActiveRollout(
                first + index,
                plan,
                example,
                index,
                seed,
                dict(missing),
                plan.answer(),
                dict(known),
                replayed=replayed,
            )
            self._rollouts[rollout.key] = rollout
            self._ready += [(rollout, node) for node in sources]

    def _replay(self, anchor: ActiveRollout) -> None:
        """Begin the replays of a finished rollout: of each Node, with every message that it does not reach kept."""
        plan = anchor.plan
        batch = plan.batch
        for place, node_id in enumerate(plan.nodes):
            anew = {node_id, *batch.topology.downstream(node_id)}
            kept = {node: given_call(node, call.text) for node, call in anchor.calls.items() if node not in anew}
            begin = batch.group_size + place * batch.replays
            self._begin(plan, anchor.example, anchor.key, range(begin, begin + batch.replays), kept, node_id)

    def advance(self) -> list[tuple[int, Rollout]]:
        """Submit what is ready, advance the engine by one step and return (key, rollout) of what finished.

        Raises:
            RolloutError: rollouts are under way and the engine says it has nothing to do.
        """
        began = perf_counter()
        done = self._finish(self._submit())
        step_s = 0.0
        if self._rollouts:
            before_step = perf_counter()
            results = self._step()
            step_s = perf_counter() - before_step
            if self._num_watched:
                results += self._watch()
            done += self._finish([rollout for rollout in self._absorb(results) if rollout.is_finished])
        elif self._scoring and not done:
            wait([score for _, score in self._scoring.values()], return_when=FIRST_COMPLETED)
        done = sorted(done + self._scored(), key=lambda item: item[0])
        stats = self._stats
        stats.rollouts += len(done)
        stats.failed_rollouts += sum(rollout.failure is not None for _, rollout in done)
        stats.engine_steps += 1
        stats.engine_s += step_s
        stats.total_s += perf_counter() - began
        return done

    def _step(self) -> list[EngineResult]:
        if not self._engine.has_unfinished():
            raise RolloutError(f"{len(self._rollouts)} rollouts wait for an engine that has no call under way")
        return self._engine.step()

    def _finish(self, finished: Sequence[ActiveRollout]) -> list[tuple[int, Rollout]]:
        """Score what has finished, or have it scored; return what is done with."""
        done = []
        for rollout in finished:
            del self._rollouts[rollout.key]
            plan = rollout.plan
            if plan.batch.replays and rollout.replayed is None and rollout.failure is None:
                self._replay(rollout)
            if rollout.failure is None and self._scorer is not None and plan.packed is not None:
                score = self._scorer.submit(plan.task, plan.packed, rollout.example, rollout.answer_text)
                self._scoring[rollout.key] = rollout, score
            else:
                done.append((rollout.key, rollout.finish(rollout.judge)))
        return done

    def _scored(self) -> list[tuple[int, Rollout]]:
        """Return the rollouts whose scores have come."""
        ready = [key for key, (_, score) in self._scoring.items() if score.done()]
        scored = [(key, *self._scoring.pop(key)) for key in ready]
        return [(key, rollout.finish(score.result)) for key, rollout, score in scored]

    def pieces(self) -> list[tuple[int, str]]:
        """Return (key, text) of what streamed answers have gained since this was last called, in order.

        An answer's last piece comes with the step in which its rollout finishes; joined they are the answer.
        """
        pieces, self._pieces = self._pieces, []
        return pieces

    def cancel(self, keys: Sequence[int]) -> None:
        """Forget rollouts and take their calls out of the engine; keys of finished or unknown ones are ignored."""
        for rollout in [self._rollouts.pop(key) for key in dict.fromkeys(keys) if key in self._rollouts]:
            self._leave_engine(rollout)
        for key in keys:
            if key in self._scoring:
                self._scoring.pop(key)[1].cancel()

    def abort(self) -> None:
        """Forget everything under way and take its calls out of the engine."""
        if self._active:
            self._engine.abort(list(self._active))
        self._active.clear()
        self._ready.clear()
        for _, score in self._scoring.values():
            score.cancel()
        self._scoring.clear()
        self._rollouts.clear()
        self._pieces.clear()
        self._num_watched = 0

    def _submit(self) -> list[ActiveRollout]:
        """Give the engine what is ready; return the rollouts that failed because a prompt could not be written."""
        # Node by node: neighbours in the batch then share their adapter, and rollouts of a group their prefix.
        ready = sorted(self._ready, key=lambda item: (item[1].place, item[0].key))
        self._ready.clear()
        began = perf_counter()
        prompts: list[tuple[ActiveRollout, PlannedNode, tuple[int, ...]]] = []
        failed = []
        for rollout, node in ready:
            try:
                prompts.append((rollout, node, rollout.prompt(node)))
            except RolloutError as error:
                if rollout.failure is None:
                    failed.append(rollout)
                    rollout.refuse(node, str(error))
                    self._leave_engine(rollout)
        calls = [self._call(*written) for written in prompts if written[0].failure is None]
        rendered = perf_counter()
        if calls:
            self._engine.submit(calls)
        self._stats.prompt_tokens += sum(len(call.prompt_token_ids) for call in calls)
        self._stats.render_s += rendered - began
        self._stats.engine_s += perf_counter() - rendered
        return failed

    def _call(self, rollout: ActiveRollout, node: PlannedNode, prompt: tuple[int, ...]) -> EngineCall:
        sampling = node.sampling
        if sampling.temperature > 0:
            seed = call_seed(rollout.seed, node.id)
            sampling = replace(sampling, seed=seed)
        call_id = f"{rollout.key}.{node.id}"
        active = self._active[call_id] = ActiveCall(rollout, node, prompt, perf_counter())
        rollout.in_engine.add(call_id)
        self._num_watched += active.is_watched
        stops = rollout.plan.renderer.stops.token_ids
        return EngineCall(call_id, prompt, sampling, node.adapter, active.is_watched, stops)

    def _watch(self) -> list[EngineResult]:
        """Follow the messages that are being sampled and return the results of those that met a stop text."""
        stopped = []
        for partial in self._engine.partials():
            active = self._active[partial.id]
            active.take(partial)
            answer = active.answer
            if answer is not None:
                self._tell(active.rollout, answer.push(partial.token_ids))
            if active.is_stopped:
                stopped.append(active.stopped(partial.id))
        if stopped:
            self._engine.abort([result.id for result in stopped])
        return stopped

    def _tell(self, rollout: ActiveRollout, piece: str) -> None:
        if piece and rollout.plan.settings.is_streamed:
            self._pieces.append((rollout.key, piece))

    def _absorb(self, results: Sequence[EngineResult]) -> list[ActiveRollout]:
        """Record results, make their successors ready and return the rollouts they belong to, each once."""
        began = perf_counter()
        finished = []
        for result in results:
            active = self._active.pop(result.id)
            self._num_watched -= active.is_watched
            finished.append((active, result, active.rollout.plan.renderer.decode(result.token_ids)))
        now = perf_counter()
        finished.sort(key=lambda item: (item[0].node.place, item[0].rollout.key))
        for active, result, _ in finished:
            active.rollout.in_engine.discard(result.id)
        touched: dict[int, ActiveRollout] = {}
        for active, sampled, decoded in finished:
            rollout, node = active.rollout, active.node
            if rollout.failure is not None:  # failed in this very step: what came with it is not recorded
                continue
            touched[rollout.key] = rollout
            is_stopped = rollout.plan.renderer.stops.is_met(sampled.token_ids)
            result, text = replace(sampled, finish_reason="stop") if is_stopped else sampled, decoded
            if active.answer is not None:
                result, text = self._end_answer(rollout, active.answer, result, text)
            rollout.calls[node.id] = _node_call(active, result, text, now)
            if result.finish_reason == "error":
                self._fail(rollout, f"node {node.id!r}: {result.error}")
            else:
                self._ready += [(rollout, successor) for successor in rollout.unlock(node)]
        stats = self._stats
        stats.calls += len(results)
        stats.truncated_calls += sum(result.finish_reason == "length" for result in results)
        stats.cached_tokens += sum(result.cached_tokens for result in results)
        stats.generated_tokens += sum(len(result.token_ids) for result in results)
        stats.decode_s += now - began
        return list(touched.values())

    def _end_answer(
        self, rollout: ActiveRollout, answer: StreamedAnswer, result: EngineResult, text: str
    ) -> tuple[EngineResult, str]:
        """Tell the end of a followed answer; return its call and its text, cut where a stop text appeared."""
        if result.finish_reason == "error":
            return result, text
        piece, text = answer.finish(text)
        self._tell(rollout, piece)
        return (replace(result, finish_reason="stop") if answer.is_stopped else result), text

    def _fail(self, rollout: ActiveRollout, reason: str) -> None:
        """End a rollout at its first failed call; its other calls leave the engine unrecorded."""
        rollout.failure = reason
        self._leave_engine(rollout)

    def _leave_engine(self, rollout: ActiveRollout) -> None:
        call_ids = sorted(rollout.in_engine)
        rollout.in_engine.clear()
        self._ready = [item for item in self._ready if item[0] is not rollout]
        if call_ids:
            self._engine.abort(call_ids)
        for call_id in call_ids:
            self._num_watched -= self._active.pop(call_id).is_watched


def _node_call(active: ActiveCall, result: EngineResult, text: str, now_s: float) -> NodeCall:
    return NodeCall(
        node=active.node.id,
        adapter=active.node.adapter,
        prompt_token_ids=active.prompt,
        completion_token_ids=tuple(result.token_ids),
        logprobs=tuple(result.logprobs),
        finish_reason=result.finish_reason,
        text=text,
        latency_s=now_s - active.entered_s,
        error=result.error,
        tops=result.tops,
    )
