"""The body of a chat completion request, as OpenAI's clients send it, with NeuroMAS's own fields under ``neuromas``.

What stock clients send by default is accepted. A setting that would change the answer and is not supported is refused
by name, unless it asks for what happens anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator

from neuromas.rollout.answer import AnswerSettings
from neuromas.serving.question import Question
from neuromas.topology.graph import MIN_TEMPERATURE, MIN_TOP_P

_SEED_MASK = 2**63 - 1
_DRAWN_BITS = 53
"""Of a drawn seed: what readers of JSON that keep numbers as floats, as browsers do, can send back unchanged."""
_SEEDS = Random()  # not the kernel's numbers: whoever asks it beside a busy engine waits for the interpreter again
_SPEAKERS = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}
_MAX_STOPS = 4
_MAX_STOP = 256
_MAX_MESSAGES = 2048
_MAX_TEXT = 4 * 2**20
_MAX_NOTE = 1024
_MAX_NOTES = 64
_MAX_BUDGET = 2**31 - 1
MAX_MODEL = 256
"""Characters of a model's name."""
MAX_DEADLINE_S = 86_400.0


def _only(*allowed: Any) -> BeforeValidator:
    """Return the check of a setting that may be absent, null or one of ``allowed``, and does nothing."""

    def check(value: Any) -> None:
        if value is not None and value not in allowed:
            listed = ", ".join(map(repr, allowed))
            raise ValueError(f"is not supported; leave it out, or send {listed or 'null'}")

    return BeforeValidator(check)


def _not_null(default: Any) -> Callable[[Any], Any]:
    """Return what turns null into ``default``, as OpenAI's API does."""
    return lambda value: default if value is None else value


def _read_content(value: Any) -> Any:
    """Return the text of a message's content: a text, null, or a list of text parts."""
    if value is None:
        return ""
    if not isinstance(value, list):
        return value
    texts = []
    for place, part in enumerate(value):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ValueError(f"part {place} is of type {kind!r}; only parts of type 'text' can be read")
        texts.append(part["text"])
    return "".join(texts)


def _read_stop(value: Any) -> Any:
    """Return stop texts as a list; null and an empty list are none."""
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if isinstance(stops, list) and "" in stops:
        raise ValueError("holds an empty text, which is everywhere")
    return stops


def _zero_or_warm(value: float | None) -> float | None:
    """Refuse temperatures at which probabilities overflow; engines would quietly take another."""
    if value is not None and 0 < value < MIN_TEMPERATURE:
        raise ValueError(f"got {value}; allowed are 0, which is greedy, and {MIN_TEMPERATURE} to 2")
    return value


Stop = Annotated[str, Field(max_length=_MAX_STOP)]
Note = Annotated[str, Field(max_length=_MAX_NOTE)]


class Wire(BaseModel):
    """A body from outside: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Message(Wire):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=_MAX_TEXT), BeforeValidator(_read_content)]
    name: str | None = Field(default=None, max_length=_MAX_NOTE)
    # What clients copy from an earlier answer into the conversation.
    refusal: Annotated[Any, _only()] = None
    annotations: Annotated[Any, _only([])] = None
    audio: Annotated[Any, _only()] = None
    function_call: Annotated[Any, _only()] = None
    tool_calls: Annotated[Any, _only([])] = None


class Extras(Wire):
    """Fields that only NeuroMAS knows."""

    trace: bool = False
    """Return every Node's message beside the answer."""
    deadline_s: float | None = Field(default=None, gt=0, le=MAX_DEADLINE_S)
    """Give the request up after this many seconds; the server's own limit holds as well."""


class StreamOptions(Wire):
    """What a stream carries besides text."""

    include_usage: Annotated[bool, BeforeValidator(_not_null(False))] = False
    include_obfuscation: bool | None = None
    """Accepted and not needed: pieces are whole words of the vocabulary, padding would hide nothing."""


class ChatRequest(Wire):
    """Body of ``POST /v1/chat/completions``. Temperature and top-p act on every Node that sets none of its own."""

    model: str = Field(max_length=MAX_MODEL)
    messages: Annotated[tuple[Message, ...], FailFast(), Field(min_length=1, max_length=_MAX_MESSAGES)]
    temperature: Annotated[float | None, AfterValidator(_zero_or_warm)] = Field(default=None, ge=0, le=2)
    """0, the default, is greedy: what the graph's accuracy was measured with. Else at least 0.01."""
    top_p: float | None = Field(default=None, ge=MIN_TOP_P, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=_MAX_BUDGET)
    """Budget of the answer, the output Node's message; None = the graph's. Other Nodes keep theirs."""
    max_completion_tokens: int | None = Field(default=None, ge=1, le=_MAX_BUDGET)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    """None draws one; the answer says which under ``neuromas``."""
    stop: Annotated[tuple[Stop, ...], Field(max_length=_MAX_STOPS), BeforeValidator(_read_stop)] = ()
    """Texts that end the answer; they are not part of it."""
    stream: Annotated[bool, BeforeValidator(_not_null(False))] = False
    stream_options: StreamOptions | None = None
    neuromas: Annotated[Extras, BeforeValidator(_not_null(Extras()))] = Extras()
    # Notes of the client to itself.
    user: str | None = Field(default=None, max_length=_MAX_NOTE)
    safety_identifier: str | None = Field(default=None, max_length=_MAX_NOTE)
    prompt_cache_key: str | None = Field(default=None, max_length=_MAX_NOTE)
    metadata: dict[Note, Note] | None = Field(default=None, max_length=_MAX_NOTES)
    # What clients send although it asks for nothing.
    n: Annotated[Any, _only(1)] = None
    logprobs: Annotated[Any, _only(False)] = None
    top_logprobs: Annotated[Any, _only(0)] = None
    frequency_penalty: Annotated[Any, _only(0)] = None
    presence_penalty: Annotated[Any, _only(0)] = None
    logit_bias: Annotated[Any, _only({})] = None
    response_format: Annotated[Any, _only({"type": "text"})] = None
    tools: Annotated[Any, _only([])] = None
    tool_choice: Annotated[Any, _only("none", "auto")] = None
    parallel_tool_calls: Annotated[Any, _only(True, False)] = None
    functions: Annotated[Any, _only([])] = None
    function_call: Annotated[Any, _only("none", "auto")] = None
    modalities: Annotated[Any, _only(["text"])] = None
    service_tier: Annotated[Any, _only("auto", "default")] = None
    store: Annotated[Any, _only(False)] = None
    # Of other servers, in the form in which they ask for nothing.
    best_of: Annotated[Any, _only(1)] = None
    echo: Annotated[Any, _only(False)] = None
    ignore_eos: Annotated[Any, _only(False)] = None
    length_penalty: Annotated[Any, _only(1)] = None
    min_p: Annotated[Any, _only(0)] = None
    min_tokens: Annotated[Any, _only(0)] = None
    repetition_penalty: Annotated[Any, _only(1)] = None
    skip_special_tokens: Annotated[Any, _only(True)] = None
    top_k: Annotated[Any, _only(-1, 0)] = None
    use_beam_search: Annotated[Any, _only(False)] = None

    @model_validator(mode="before")
    @classmethod
    def _null_asks_for_nothing(cls, value: Any) -> Any:
        """Leave out keys without a value, known or not: clients that know more settings send null for those."""
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if item is not None or key in cls.model_fields}

    @property
    def text(self) -> str:
        """What the graph is asked: the one message's text, or all that have one, each with who said it."""
        said = [message for message in self.messages if message.content]
        if len(said) == 1:
            return said[0].content
        return "\n\n".join(f"{_SPEAKERS[message.role]}: {message.content}" for message in said)

    @property
    def includes_usage(self) -> bool:
        """Whether a stream shall end with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def question(self) -> Question:
        """Return the question that is asked; where it names no seed, one is drawn."""
        return Question(
            graph=self.model,
            text=self.text,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=_SEEDS.getrandbits(_DRAWN_BITS) if self.seed is None else self.seed & _SEED_MASK,
            answer=AnswerSettings(self.stream, self.stop, self.max_completion_tokens or self.max_tokens),
            deadline_s=self.neuromas.deadline_s,
        )
