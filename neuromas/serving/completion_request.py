"""The body of a text completion request, OpenAI's older form: the question is a text, not a conversation."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from typing_extensions import override

from neuromas.serving.ask_request import MAX_ANSWERS, MAX_TOP, AskRequest, Budget, Samples
from neuromas.serving.wire import Text, only


def _read_prompt(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(item, int | list) for item in value):
        raise ValueError("is not supported as token ids; send a text, or a list of texts")
    return [value] if isinstance(value, str) else value


def _read_logprobs(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"got {value}; send a number from 0 to {MAX_TOP}, or leave it out")
    return value


_Prompts = Annotated[list[Text], Field(max_length=MAX_ANSWERS)]


class CompletionRequest(AskRequest):
    """Body of ``POST /v1/completions``. Temperature and top-p act on every Node that sets none of its own."""

    prompt: Annotated[
        tuple[Text, ...],
        Field(min_length=1, max_length=MAX_ANSWERS),
        BeforeValidator(_read_prompt, json_schema_input_type=Text | _Prompts),
    ]
    """A question, or several; the answers to one after the other."""
    max_tokens: Budget = None
    """Budget of the answer, the output Node's message; None = the graph's. Other Nodes keep theirs."""
    n: Samples = 1
    """Answers to each question, each with a seed of its own."""
    best_of: int | None = Field(default=None, ge=1, le=MAX_ANSWERS)
    """Nothing, or ``n``: all answers are told."""
    logprobs: Annotated[int | None, Field(ge=0, le=MAX_TOP), BeforeValidator(_read_logprobs)] = None
    """Tell the log probability of every token of the answer, and so many of the most probable ones in its place; in a
    stream they come with its end. None = tell nothing."""
    # What clients send although it asks for nothing.
    echo: Annotated[Any, only(False)] = None
    suffix: Annotated[Any, only("")] = None

    @field_validator("n")
    @classmethod
    def _are_not_too_many(cls, value: int, info: ValidationInfo) -> int:
        num_prompts = len(info.data.get("prompt", ()))
        if value * num_prompts > MAX_ANSWERS:
            raise ValueError(f"got {value} answers to each of {num_prompts} prompts; allowed are {MAX_ANSWERS} in all")
        return value

    @field_validator("best_of")
    @classmethod
    def _is_n(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value not in (None, info.data.get("n")):
            raise ValueError(f"is not supported; leave it out, or send n = {info.data.get('n')}")
        return value

    @property
    @override
    def texts(self) -> tuple[str, ...]:
        return self.prompt

    @property
    @override
    def samples(self) -> int:
        return self.n

    @property
    @override
    def budget(self) -> int | None:
        return self.max_tokens

    @property
    @override
    def wants_logprobs(self) -> bool:
        return self.logprobs is not None

    @property
    @override
    def num_top(self) -> int:
        return self.logprobs or 0
