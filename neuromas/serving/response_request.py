"""The body of a request to OpenAI's Responses API: a text or a conversation, nothing of which is kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, FailFast, Field, ValidationInfo, field_validator
from typing_extensions import override

from neuromas.serving.ask_request import AskRequest, Budget, NumTop
from neuromas.serving.chat_request import Role
from neuromas.serving.conversation_text import conversation_text
from neuromas.serving.wire import MAX_TEXT, Note, Text, Wire, not_null, only, text_of

LOGPROBS = "message.output_text.logprobs"
_MAX_ITEMS = 2048


class InputMessage(Wire):
    """One message of the conversation; answers of before are sent back as they came."""

    role: Role
    content: Annotated[str, Field(max_length=MAX_TEXT), text_of("input_text", "output_text", "text")]
    type: Literal["message"] = "message"
    id: Note | None = None
    status: Note | None = None
    phase: Note | None = None


def _read_input(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


_Messages = Annotated[list[InputMessage], Field(max_length=_MAX_ITEMS)]


class ResponseRequest(AskRequest):
    """Body of ``POST /v1/responses``. Temperature and top-p act on every Node that sets none of its own."""

    input: Annotated[
        tuple[InputMessage, ...],
        FailFast(),
        Field(min_length=1, max_length=_MAX_ITEMS),
        BeforeValidator(_read_input, json_schema_input_type=Text | _Messages),
    ]
    """A question, or the messages of a conversation."""
    instructions: str | None = Field(default=None, max_length=MAX_TEXT)
    """Read before the input, as a system message is."""
    max_output_tokens: Budget = None
    """Budget of the answer, the output Node's message; None = the graph's. Other Nodes keep theirs."""
    include: Annotated[tuple[Literal["message.output_text.logprobs"], ...], not_null(())] = Field(
        default=(), max_length=1
    )
    """``message.output_text.logprobs`` = tell the log probability of every token; a stream has them at its end."""
    top_logprobs: NumTop = 0
    """With the log probabilities: how many of the most probable tokens to tell in the place of each."""
    # What clients send although it asks for nothing.
    background: Annotated[Any, only(False)] = None
    conversation: Annotated[Any, only()] = None
    parallel_tool_calls: Annotated[Any, only(True, False)] = None
    previous_response_id: Annotated[Any, only()] = None
    text: Annotated[Any, only({}, {"format": {"type": "text"}})] = None
    tools: Annotated[Any, only([])] = None
    tool_choice: Annotated[Any, only("none", "auto")] = None
    truncation: Annotated[Any, only("disabled")] = None

    @field_validator("top_logprobs")
    @classmethod
    def _come_with_the_others(cls, value: int, info: ValidationInfo) -> int:
        if value and not info.data.get("include"):
            raise ValueError(f"only allowed with include = [{LOGPROBS!r}]")
        return value

    @property
    @override
    def texts(self) -> tuple[str, ...]:
        turns = [("system", self.instructions or ""), *((item.role, item.content) for item in self.input)]
        return (conversation_text(turns),)

    @property
    @override
    def budget(self) -> int | None:
        return self.max_output_tokens

    @property
    @override
    def wants_logprobs(self) -> bool:
        return LOGPROBS in self.include

    @property
    @override
    def num_top(self) -> int:
        return self.top_logprobs
