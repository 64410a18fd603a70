"""The wire format of chat completions, as OpenAI's clients speak it, with NeuroMAS's own fields under ``neuromas``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from neuromas.rollout.record import FinishReason, NodeCall, Rollout
from neuromas.topology.graph import Topology


class Wire(BaseModel):
    """A body from outside: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPart(Wire):
    """One piece of a message's content."""

    type: Literal["text"]
    text: str


class Message(Wire):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | tuple[TextPart, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class Extras(Wire):
    """Fields that only NeuroMAS knows."""

    trace: bool = False
    """Return every Node's message beside the answer."""


class StreamOptions(Wire):
    """What a stream carries besides text."""

    include_usage: bool = False


class ChatRequest(Wire):
    """Body of ``POST /v1/chat/completions``. Sampling settings act on every Node that sets none of its own."""

    model: str
    messages: tuple[Message, ...] = Field(min_length=1)
    temperature: float = Field(default=0.0, ge=0, le=4)
    """0, the default, is greedy: what the graph's accuracy was measured with."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    """Budget per Node; None = the graph's."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    n: Literal[1] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    neuromas: Extras = Extras()

    @property
    def question(self) -> str:
        """What the graph is asked: the last message of the user, after system messages. Earlier turns are context."""
        if len(self.messages) == 1:
            return self.messages[0].text
        return "\n\n".join(message.text for message in self.messages)


class ApiError(Exception):
    """A request that cannot be answered, in OpenAI's shape."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def completion(
    request: ChatRequest, rollout: Rollout, topology: Topology, *, number: str, created_s: int
) -> dict[str, Any]:
    """Return the body of an answer.

    Args:
        request: what was asked.
        rollout: the pass through the graph.
        topology: the graph.
        number: id of the answer.
        created_s: unix time in seconds.
    """
    output = next(call for call in rollout.calls if call.node == topology.output)
    body: dict[str, Any] = {
        "id": number,
        "object": "chat.completion",
        "created": created_s,
        "model": request.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": rollout.answer},
                "finish_reason": _finish(output.finish_reason),
                "logprobs": None,
            }
        ],
        "usage": usage(rollout.calls),
    }
    extras: dict[str, Any] = {
        "topology_hash": rollout.topology_hash,
        "usage_by_node": {call.node: usage((call,)) for call in rollout.calls},
    }
    if request.neuromas.trace:
        extras["trace"] = [trace_entry(call, topology) for call in rollout.calls]
    return body | {"neuromas": extras}


def chunks(body: dict[str, Any], *, include_usage: bool) -> list[dict[str, Any]]:
    """Return an answer as the chunks of a stream: the text in one, then the reason it ended, then the usage."""
    head = {key: body[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    choice = body["choices"][0]
    delta = {"role": "assistant", "content": choice["message"]["content"]}
    stream = [
        head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        head
        | {
            "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}],
            "neuromas": body["neuromas"],
        },
    ]
    return [*stream, head | {"choices": [], "usage": body["usage"]}] if include_usage else stream


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
        "finish_reason": _finish(call.finish_reason),
        "latency_s": round(call.latency_s, 6),
        "usage": usage((call,)),
    }


def _finish(reason: FinishReason) -> str:
    return "length" if reason == "length" else "stop"
