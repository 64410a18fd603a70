"""The bodies of chat completions: answers, chunks of a stream, errors, in OpenAI's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from neuromas.rollout.record import FinishReason, NodeCall
from neuromas.serving.chat_request import ChatRequest
from neuromas.serving.graph_table import ServedGraph
from neuromas.serving.question import Answered
from neuromas.topology.graph import Topology

DONE = b"data: [DONE]\n\n"
"""The last event of a stream."""


class Completion:
    """The bodies that answer one request.

    Args of the constructor: the request; the seed it is sampled with; ``number``, the id of the answer; ``created_s``,
    unix time in seconds.
    """

    def __init__(self, request: ChatRequest, seed: int, number: str, created_s: int) -> None:
        self._request = request
        self._seed = seed
        self._head: dict[str, Any] = {"id": number, "created": created_s, "model": request.model}

    def body(self, answered: Answered) -> dict[str, Any]:
        """Return the answer as a whole."""
        message = {"role": "assistant", "content": answered.rollout.answer, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason(answered), "logprobs": None}
        return self._head | {
            "object": "chat.completion",
            "system_fingerprint": answered.graph.fingerprint,
            "choices": [choice],
            "usage": self._usage(answered),
            "neuromas": self._extras(answered),
        }

    def chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
        """Return one event of a stream."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return self._event({"choices": [choice]} | more)

    def last_chunks(self, answered: Answered) -> bytes:
        """Return the events behind the text: the reason it ended, the usage where it was asked for, and the end."""
        extras = {"system_fingerprint": answered.graph.fingerprint, "neuromas": self._extras(answered)}
        events = self.chunk({}, self._finish_reason(answered), **extras)
        if self._request.includes_usage:
            body = {"choices": [], "usage": self._usage(answered), "system_fingerprint": answered.graph.fingerprint}
            events += self._event(body)
        return events + DONE

    def _event(self, body: dict[str, Any]) -> bytes:
        usage = {"usage": None} if self._request.includes_usage else {}
        return event(self._head | {"object": "chat.completion.chunk"} | usage | body)

    def _extras(self, answered: Answered) -> dict[str, Any]:
        rollout, graph = answered.rollout, answered.graph
        extras: dict[str, Any] = {
            "topology_hash": rollout.topology_hash,
            "version": graph.version,
            "seed": self._seed,
            "waited_s": round(answered.waited_s, 6),
            "usage_by_node": {call.node: usage((call,)) for call in rollout.calls},
        }
        if self._request.neuromas.trace:
            extras["trace"] = [trace_entry(call, graph.topology) for call in rollout.calls]
        return extras

    def _usage(self, answered: Answered) -> dict[str, Any]:
        """Return the tokens of all Nodes; those of hidden Nodes are told apart the way OpenAI tells reasoning apart."""
        calls = answered.rollout.calls
        hidden = [call for call in calls if call.node != answered.graph.topology.output]
        reasoning = sum(len(call.completion_token_ids) for call in hidden)
        return {**usage(calls), "completion_tokens_details": {"reasoning_tokens": reasoning}}

    def _finish_reason(self, answered: Answered) -> str:
        return finish_reason(_output(answered.rollout.calls, answered.graph).finish_reason)


def usage(calls: Sequence[NodeCall]) -> dict[str, int]:
    """Return the tokens of some calls."""
    prompt = sum(len(call.prompt_token_ids) for call in calls)
    sampled = sum(len(call.completion_token_ids) for call in calls)
    return {"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled}


def trace_entry(call: NodeCall, topology: Topology) -> dict[str, Any]:
    """Return one Node's message and where it came from."""
    layer, index = topology.position(call.node)
    return {
        "node": call.node,
        "layer": layer,
        "index": index,
        "reads": list(topology.predecessors(call.node)),
        "adapter": None if call.adapter is None else str(call.adapter),
        "content": call.text,
        "finish_reason": finish_reason(call.finish_reason),
        "latency_s": round(call.latency_s, 6),
        "usage": usage((call,)),
    }


def finish_reason(reason: FinishReason) -> str:
    """Return OpenAI's word for why a message ended."""
    return "length" if reason == "length" else "stop"


def event(body: Mapping[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + encode(body) + b"\n\n"


def encode(body: Mapping[str, Any]) -> bytes:
    """Return JSON."""
    return to_json(body)


def _output(calls: Sequence[NodeCall], graph: ServedGraph) -> NodeCall:
    return next(call for call in calls if call.node == graph.topology.output)
