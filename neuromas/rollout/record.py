"""What one pass through a graph leaves behind. Tokens and sampler logprobs are kept, never re-derived from text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from neuromas.adapters.ref import AdapterRef
from neuromas.tasks.base import Example

FinishReason = Literal["stop", "length", "error"]
Top = tuple[tuple[int, float], ...]
"""The most probable tokens of one place, the best first, each with the natural log of its probability under the
distribution sampled from; those that it gives no probability are left out."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a rollout belongs: the run's id, the index of its stage, the optimizer step it was sampled for."""

    run: str
    stage: int
    step: int


@dataclass(frozen=True, slots=True)
class NodeCall:
    """One sampled completion of one Node.

    Attributes:
        node: id of the Node.
        adapter: version that sampled; None is the bare base.
        prompt_token_ids: what the engine was given.
        completion_token_ids: what it sampled, the end-of-sequence token included when ``finish_reason`` is "stop".
        logprobs: natural log of the probability of each completion token under the distribution sampled from.
        finish_reason: "stop" ended by itself, "length" hit the token budget, "error" produced nothing usable.
        text: the message that travels along the Node's out-edges, special tokens removed.
        latency_s: seconds from entering the engine to the last token.
        error: reason when ``finish_reason`` is "error", else None.
        tops: the most probable tokens of each place, where they were asked for; else empty.
    """

    node: str
    adapter: AdapterRef | None
    prompt_token_ids: tuple[int, ...]
    completion_token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    text: str
    latency_s: float = 0.0
    error: str | None = None
    tops: tuple[Top, ...] = ()


@dataclass(frozen=True, slots=True)
class Rollout:
    """One pass of a Topology on one Example.

    Attributes:
        topology_hash: content hash of the Topology that ran.
        provenance: run, stage and step.
        example: the question.
        index: position of the rollout in its Group, from 0.
        seed: seed from which every call's own seed was derived.
        calls: one NodeCall per Node in topological order.
        answer: text of the output Node.
        reward: terminal reward, shared by all calls.
        failure: first reason a call or the scoring failed; None when all went well. A failed rollout has reward 0.
        parts: figures that the task gives beside the reward.
        replayed: the Node that was asked anew in the context of the Group's first rollout, and all that its message
            reaches with it; the other calls are recorded without tokens. None where every Node was asked.
    """

    topology_hash: str
    provenance: Provenance
    example: Example
    index: int
    seed: int
    calls: tuple[NodeCall, ...]
    answer: str
    reward: float
    failure: str | None = None
    parts: Mapping[str, float] = field(default_factory=dict, hash=False)
    replayed: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The rollouts of one Example, in the order of their ``index``.

    With replays the first one is their anchor; they follow Node by Node in topological order, and are left out where
    the anchor failed.
    """

    example: Example
    rollouts: tuple[Rollout, ...]
