"""The body of a chat completion request, as OpenAI's clients send it, with NeuroMAS's own fields under ``neuromas``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import FailFast, Field, ValidationInfo, field_validator
from typing_extensions import override

from neuromas.serving.ask_request import AskRequest, Budget, NumTop, Samples
from neuromas.serving.conversation_text import conversation_text
from neuromas.serving.wire import MAX_TEXT, Note, Wire, not_null, only, text_of

_MAX_MESSAGES = 2048
Role = Literal["system", "developer", "user", "assistant"]


class ChatMessage(Wire):
    """One message of the conversation."""

    role: Role
    content: Annotated[str, Field(max_length=MAX_TEXT), text_of("text")]
    name: Note | None = None
    # What clients copy from an earlier answer into the conversation.
    refusal: Annotated[Any, only()] = None
    annotations: Annotated[Any, only([])] = None
    audio: Annotated[Any, only()] = None
    function_call: Annotated[Any, only()] = None
    tool_calls: Annotated[Any, only([])] = None


class ChatRequest(AskRequest):
    """Body of ``POST /v1/chat/completions``. Temperature and top-p act on every Node that sets none of its own."""

    messages: Annotated[tuple[ChatMessage, ...], FailFast(), Field(min_length=1, max_length=_MAX_MESSAGES)]
    max_tokens: Budget = None
    """Budget of the answer, the output Node's message; None = the graph's. Other Nodes keep theirs."""
    max_completion_tokens: Budget = None
    n: Samples = 1
    """Answers to the same question, each with a seed of its own."""
    logprobs: Annotated[bool, not_null(False)] = False
    """Tell the log probability of every token of the answer; in a stream they come with its end."""
    top_logprobs: NumTop = 0
    """With ``logprobs``: how many of the most probable tokens to tell in the place of each."""
    # What clients send although it asks for nothing.
    best_of: Annotated[Any, only(1)] = None
    echo: Annotated[Any, only(False)] = None
    response_format: Annotated[Any, only({"type": "text"})] = None
    tools: Annotated[Any, only([])] = None
    tool_choice: Annotated[Any, only("none", "auto")] = None
    parallel_tool_calls: Annotated[Any, only(True, False)] = None
    functions: Annotated[Any, only([])] = None
    function_call: Annotated[Any, only("none", "auto")] = None
    modalities: Annotated[Any, only(["text"])] = None

    @field_validator("top_logprobs")
    @classmethod
    def _come_with_the_others(cls, value: int, info: ValidationInfo) -> int:
        if value and not info.data.get("logprobs"):
            raise ValueError("only allowed with logprobs = true")
        return value

    @property
    @override
    def texts(self) -> tuple[str, ...]:
        return (conversation_text((message.role, message.content) for message in self.messages),)

    @property
    @override
    def samples(self) -> int:
        return self.n

    @property
    @override
    def budget(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    @override
    def wants_logprobs(self) -> bool:
        return self.logprobs

    @property
    @override
    def num_top(self) -> int:
        return self.top_logprobs
