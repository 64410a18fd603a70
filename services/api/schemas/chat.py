"""Wire models of answers by all of OpenAI's routes, whole and in pieces, with NeuroMAS's own fields."""

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
    given: bool = False
    """Whether the request gave it, and the node was not asked."""
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


class TopLogprob(View):
    """A token that is probable in the place of one of an answer's."""

    token: str
    """What it would add to the text; the name of an end token; empty where it only begins a character."""
    logprob: float
    bytes: list[int]


class TokenLogprob(View):
    """One token of an answer."""

    token: str
    """What it adds to the text; empty where a later token ends the character that it begins."""
    logprob: float
    """Natural log of its probability under the distribution sampled from."""
    bytes: list[int]
    top_logprobs: list[TopLogprob]
    """The most probable tokens in its place, the best first, where they were asked for."""


class ChatLogprobs(View):
    """The tokens of a message."""

    content: list[TokenLogprob]
    refusal: None = None


class TextLogprobs(View):
    """The tokens of a text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None = None
    """By text, the log probabilities of the most probable tokens in the place of each, where they were asked for."""
    text_offset: list[int]
    """Characters of the text before each."""


class AnswerMessage(View):
    """The output node's message."""

    role: Literal["assistant"]
    content: str
    refusal: None = None


class ChatChoice(View):
    """One answer."""

    index: int
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]
    logprobs: ChatLogprobs | None = None
    neuromas: AnswerExtras | None = None
    """Where there are several."""


class ChatCompletion(View):
    """Whole answers."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    """As the request named it."""
    system_fingerprint: str
    choices: list[ChatChoice] = Field(min_length=1)
    usage: ChatUsage
    neuromas: AnswerExtras | None = None
    """Where there is one answer."""


class ChunkChoice(View):
    """A piece of an answer."""

    index: int
    delta: dict[str, Any]
    """``role`` in the first chunk, ``content`` in those with text, nothing in the last."""
    finish_reason: Literal["stop", "length"] | None
    """In the last chunk only."""
    logprobs: ChatLogprobs | None = None
    """In the last chunk, where the request asked for it."""


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


class TextChoice(View):
    """One answer, or a piece of it."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None
    logprobs: TextLogprobs | None = None
    neuromas: AnswerExtras | None = None
    """Where there are several answers."""


class TextCompletion(View):
    """Whole answers to texts; in a stream a piece of one, data of one event."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    """As the request named it."""
    system_fingerprint: str | None = None
    choices: list[TextChoice]
    """At most one in an event."""
    usage: ChatUsage | None = None
    neuromas: AnswerExtras | None = None


class OutputText(View):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] = Field(max_length=0)
    logprobs: list[TokenLogprob]
    """Empty unless the request asked for it."""


class OutputMessage(View):
    """The output node's message."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class ResponseBody(View):
    """An answer of the Responses API; the settings that it was asked with come along."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    """As the request named it."""
    error: dict[str, str] | None = None
    incomplete_details: dict[str, str] | None = None
    output: list[OutputMessage] = Field(max_length=1)
    usage: dict[str, Any] | None = None
    """``input_tokens``, ``output_tokens`` and ``total_tokens`` of all nodes."""
    neuromas: AnswerExtras | None = None


class ResponseEvent(View):
    """Data of one event of a streamed response; its name is its type."""

    type: str
    sequence_number: int
    response: ResponseBody | None = None
    item: OutputMessage | None = None
    part: OutputText | None = None
    delta: str | None = None
    """The next piece of the text."""
    text: str | None = None
    """All of it, at its end."""
