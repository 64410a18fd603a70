"""Rollouts under way: the nodes of a batch's graph, and how far each pass through them has come."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from neuromas.adapters.ref import AdapterRef
from neuromas.errors import RolloutError, TaskError
from neuromas.rollout.answer import AnswerSettings, StreamedAnswer
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.engine import EngineResult, Partial, Sampling
from neuromas.rollout.record import NodeCall, Rollout, Top
from neuromas.rollout.renderer import Renderer
from neuromas.rollout.signal import Signal
from neuromas.tasks.base import Example, Score, Task
from neuromas.tasks.judge import judge


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """One Node of a batch's graph with all that does not change from rollout to rollout.

    ``stated_tokens`` is the budget that its prompt states: the graph's own, whatever a client asks of the answer.
    """

    id: str
    place: int
    predecessors: tuple[str, ...]
    successors: tuple[str, ...]
    adapter: AdapterRef | None
    sampling: Sampling
    stated_tokens: int


@dataclass(slots=True)
class BatchPlan:
    """A batch, its scorer, its renderer and its nodes in topological order.

    ``replaced`` holds, by (sender, reader), what is read in place of messages, by example id.
    ``packed`` is the task for a scorer, None where answers are scored in place.
    """

    batch: RolloutBatch
    task: Task
    renderer: Renderer
    settings: AnswerSettings
    nodes: dict[str, PlannedNode]
    topology_hash: str
    replaced: Mapping[tuple[str, str], Mapping[str, str]]
    packed: bytes | None = None

    @classmethod
    def of(cls, batch: RolloutBatch, task: Task, renderer: Renderer, settings: AnswerSettings) -> BatchPlan:
        """Return the plan of a batch."""
        topology = batch.topology
        nodes = {}
        for place, node_id in enumerate(topology.order):
            node = topology.node(node_id)
            stated = budget = batch.sampling.max_tokens if node.max_tokens is None else node.max_tokens
            if node_id == topology.output and settings.max_tokens is not None:
                budget = settings.max_tokens
            temperature = batch.sampling.temperature if node.temperature is None else node.temperature
            nodes[node_id] = PlannedNode(
                id=node_id,
                place=place,
                predecessors=topology.predecessors(node_id),
                successors=topology.successors(node_id),
                adapter=batch.adapters[topology.adapter_of(node_id)],
                sampling=Sampling(
                    max_tokens=budget,
                    temperature=0.0 if batch.greedy else temperature,
                    top_p=1.0 if batch.greedy else batch.sampling.top_p,
                    num_top=settings.num_top if node_id == topology.output else 0,
                ),
                stated_tokens=stated,
            )
        replaced = {(entry.sender, entry.reader): entry.texts for entry in batch.substitutions}
        return cls(batch, task, renderer, settings, nodes, topology.content_hash, replaced)

    def missing(self, known: Container[str]) -> dict[str, int]:
        """Return how many messages each Node still lacks when some Nodes' are known; these Nodes are left out."""
        return {
            node.id: sum(sender not in known for sender in node.predecessors)
            for node in self.nodes.values()
            if node.id not in known
        }

    def answer(self) -> StreamedAnswer | None:
        """Return what follows the answer of one rollout, None when nobody wants to."""
        if not self.settings.is_watched:
            return None
        return StreamedAnswer(self.renderer.text_stream(), (*self.settings.stop, *self.renderer.stops.texts))


@dataclass(slots=True)
class ActiveRollout:
    """One rollout under way. ``missing`` counts, per Node that is asked, the predecessors without a message."""

    key: int
    plan: BatchPlan
    example: Example
    index: int
    seed: int
    missing: dict[str, int]
    answer: StreamedAnswer | None
    calls: dict[str, NodeCall] = field(default_factory=dict)
    in_engine: set[str] = field(default_factory=set)
    failure: str | None = None
    replayed: str | None = None

    def signals(self, node: PlannedNode) -> list[Signal]:
        """Return what ``node`` reads: what its predecessors have said, or what the batch puts in its place."""
        return [Signal(sender, self._heard(sender, node.id)) for sender in node.predecessors]

    def _heard(self, sender: str, reader: str) -> str:
        text = self.calls[sender].text
        texts = self.plan.replaced.get((sender, reader))
        return text if texts is None else texts.get(self.example.id, text)

    def prompt(self, node: PlannedNode) -> tuple[int, ...]:
        """Return what ``node`` reads, as token ids.

        Raises:
            RolloutError: the renderer, or the tokenizer under it, cannot write it: a fault of this question alone.
        """
        batch = self.plan.batch
        try:
            return self.plan.renderer.render(
                batch.topology, node.id, self.example, self.signals(node), max_tokens=node.stated_tokens
            )
        except Exception as error:
            raise RolloutError(f"its prompt cannot be written: {type(error).__name__}: {error}") from error

    def refuse(self, node: PlannedNode, reason: str) -> None:
        """End the rollout at a call that the engine is not given."""
        self.calls[node.id] = NodeCall(node.id, node.adapter, (), (), (), "error", "", error=reason)
        self.failure = f"node {node.id!r}: {reason}"

    def unlock(self, node: PlannedNode) -> list[PlannedNode]:
        """Return the successors of ``node`` whose last missing input was its message."""
        nodes = []
        for node_id in node.successors:
            if node_id not in self.missing:  # its message was given
                continue
            self.missing[node_id] -= 1
            if not self.missing[node_id]:
                nodes.append(self.plan.nodes[node_id])
        return nodes

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.failure is not None or len(self.calls) == len(self.plan.nodes)

    @property
    def answer_text(self) -> str:
        """What the output Node has said; empty where the rollout has failed."""
        output = self.calls.get(self.plan.batch.topology.output)
        return output.text if output is not None and self.failure is None else ""

    def judge(self) -> Score:
        """Return what the answer is worth; raises TaskError where that cannot be said."""
        return judge(self.plan.task, self.example, self.answer_text)

    def finish(self, score: Callable[[], Score]) -> Rollout:
        """Return the record of the rollout; ``score`` returns what its answer is worth, or raises TaskError."""
        batch, answer = self.plan.batch, self.answer_text
        worth = Score(0.0)
        if self.failure is None:
            try:
                worth = score()
            except TaskError as error:
                self.failure = str(error)
        return Rollout(
            topology_hash=self.plan.topology_hash,
            provenance=batch.provenance,
            example=self.example,
            index=self.index,
            seed=self.seed,
            calls=tuple(self.calls[node_id] for node_id in self.plan.nodes if node_id in self.calls),
            answer=answer,
            reward=worth.reward,
            parts=worth.parts,
            failure=self.failure,
            replayed=self.replayed,
        )


def given_call(node_id: str, text: str) -> NodeCall:
    """Return the record of a message that no engine was asked for: it has no tokens."""
    return NodeCall(node_id, None, (), (), (), "stop", text)


@dataclass(slots=True)
class ActiveCall:
    """A call that is in the engine, with the tokens that have been seen of it where it is watched."""

    rollout: ActiveRollout
    node: PlannedNode
    prompt: tuple[int, ...]
    entered_s: float
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    tops: list[Top] = field(default_factory=list)

    def take(self, partial: Partial) -> None:
        """Add tokens that have come."""
        self.token_ids += partial.token_ids
        self.logprobs += partial.logprobs
        self.tops += partial.tops

    def stopped(self, call_id: str) -> EngineResult:
        """Return the result of a call that ends with the tokens that have come."""
        return EngineResult(call_id, tuple(self.token_ids), tuple(self.logprobs), "stop", tops=tuple(self.tops))

    @property
    def is_watched(self) -> bool:
        """Whether its tokens must be seen before it has ended."""
        return self.answer is not None or self.rollout.plan.renderer.stops.is_watched

    @property
    def is_stopped(self) -> bool:
        """Whether a stop text has come: one of the run's, or of whoever asked for the answer."""
        is_answered = self.answer is not None and self.answer.is_stopped
        return is_answered or self.rollout.plan.renderer.stops.is_met(self.token_ids)

    @property
    def answer(self) -> StreamedAnswer | None:
        """The followed answer that this call gives."""
        rollout = self.rollout
        return rollout.answer if self.node.id == rollout.plan.batch.topology.output else None
