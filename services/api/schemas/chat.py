"""Wire models of answers to chat completions, whole and in chunks: OpenAI's, with NeuroMAS's own fields."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from neuromas.services.api.schemas.view import View


class TokenUsage(View):
    """Tokens of some node calls."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ReasoningTokens(View):
    """What the sampled tokens are made of."""

    reasoning_tokens: int
    """Tokens of hidden nodes, told apart as OpenAI tells reasoning apart."""


class ChatUsage(TokenUsage):
    """Tokens of all nodes."""

    completion_tokens_details: ReasoningTokens


class TraceEntry(View):
    """One node's message and where it came from."""

    node: str
    layer: int
    index: int
    reads: list[str]
    """Nodes whose messages it has read."""
    adapter: str | None
    """Version of its weights; null for the bare base."""
    content: str
    finish_reason: Literal["stop", "length"]
    latency_s: float
    usage: TokenUsage


class AnswerExtras(View):
    """What only NeuroMAS tells of an answer."""

    topology_hash: str
    version: str
    seed: int
    """The answer is sampled with; the same seed and weights give it again."""
    waited_s: float
    """Seconds before the engine took the question up."""
    usage_by_node: dict[str, TokenUsage]
    trace: list[TraceEntry] | None = None
    """Every node's message, where the request asked for it."""


class AnswerMessage(View):
    """The output node's message."""

    role: Literal["assistant"]
    content: str
    refusal: None = None


class ChatChoice(View):
    """The one answer."""

    index: Literal[0]
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class ChatCompletion(View):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    """As the request named it."""
    system_fingerprint: str
    choices: list[ChatChoice] = Field(min_length=1, max_length=1)
    usage: ChatUsage
    neuromas: AnswerExtras


class ChunkChoice(View):
    """A piece of the one answer."""

    index: Literal[0]
    delta: dict[str, Any]
    """``role`` in the first chunk, ``content`` in those with text, nothing in the last."""
    finish_reason: Literal["stop", "length"] | None
    """In the last chunk only."""
    logprobs: None = None


class ChatChunk(View):
    """A piece of an answer, data of one event of its stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    """As the request named it."""
    system_fingerprint: str | None = None
    """In the last chunks only."""
    choices: list[ChunkChoice] = Field(max_length=1)
    """None in the chunk that carries the usage."""
    usage: ChatUsage | None = None
    """In the last chunk, where ``stream_options.include_usage`` asked for it."""
    neuromas: AnswerExtras | None = None
    """In the chunk with the ``finish_reason``."""
