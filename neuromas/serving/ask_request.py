"""What every request for an answer may say, whichever of OpenAI's routes it comes by.

What stock clients send by default is accepted. A setting that would change the answer and is not supported is refused
by name, unless it asks for what happens anyway.
"""

from __future__ import annotations

from abc import abstractmethod
from random import Random
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from neuromas.rollout.answer import AnswerSettings
from neuromas.serving.question import Question
from neuromas.serving.wire import MAX_BUDGET, MAX_STOPS, MAX_TEXT, Note, Stops, Temperature, Wire, not_null, only
from neuromas.topology.graph import MAX_NODES, MIN_TOP_P

_SEED_MASK = 2**63 - 1
_DRAWN_BITS = 53
"""Of a drawn seed: what readers of JSON that keep numbers as floats, as browsers do, can send back unchanged."""
_SEEDS = Random()  # not the kernel's numbers: whoever asks it beside a busy engine waits for the interpreter again
_MAX_NOTES = 64
MAX_MODEL = 256
"""Characters of a model's name."""
MAX_ANSWERS = 16
"""Answers that one request may ask for."""
MAX_TOP = 5
"""Most probable tokens that come with each token of an answer."""
MAX_DEADLINE_S = 86_400.0


class Extras(Wire):
    """Fields that only NeuroMAS knows."""

    trace: bool = False
    """Return every Node's message beside the answer."""
    messages: dict[Note, Annotated[str, Field(max_length=MAX_TEXT)]] = Field(default_factory=dict, max_length=MAX_NODES)
    """Messages by Node: these Nodes are not asked, the others go on from what they say here. Not the output's."""
    deadline_s: float | None = Field(default=None, gt=0, le=MAX_DEADLINE_S)
    """Give the request up after this many seconds; the server's own limit holds as well."""


class StreamOptions(Wire):
    """What a stream carries besides text."""

    include_usage: Annotated[bool, not_null(False)] = False
    include_obfuscation: bool | None = None
    """Accepted and not needed: pieces are whole words of the vocabulary, padding would hide nothing."""


class AskRequest(Wire):
    """A request for answers. Temperature and top-p act on every Node that sets none of its own."""

    model: str = Field(max_length=MAX_MODEL)
    temperature: Temperature = Field(default=None, ge=0, le=2)
    """None = 0, which is greedy: what the graph's accuracy was measured with; the graph's own where ``top_p`` or ``n``
    asks for sampling. Else at least 0.01."""
    top_p: float | None = Field(default=None, ge=MIN_TOP_P, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    """Of the first answer, the others count on from it. None draws one; answers say theirs under ``neuromas``."""
    stop: Stops = Field(default=(), max_length=MAX_STOPS)
    """Texts that end the answer; they are not part of it."""
    stream: Annotated[bool, not_null(False)] = False
    stream_options: StreamOptions | None = None
    neuromas: Annotated[Extras, not_null(Extras())] = Extras()
    # Notes of the client to itself.
    user: Note | None = None
    safety_identifier: Note | None = None
    prompt_cache_key: Note | None = None
    metadata: dict[Note, Note] | None = Field(default=None, max_length=_MAX_NOTES)
    # What clients send although it asks for nothing.
    frequency_penalty: Annotated[Any, only(0)] = None
    presence_penalty: Annotated[Any, only(0)] = None
    logit_bias: Annotated[Any, only({})] = None
    service_tier: Annotated[Any, only("auto", "default")] = None
    store: Annotated[Any, only(False)] = None
    # Of other servers, in the form in which they ask for nothing.
    ignore_eos: Annotated[Any, only(False)] = None
    length_penalty: Annotated[Any, only(1)] = None
    min_p: Annotated[Any, only(0)] = None
    min_tokens: Annotated[Any, only(0)] = None
    repetition_penalty: Annotated[Any, only(1)] = None
    skip_special_tokens: Annotated[Any, only(True)] = None
    top_k: Annotated[Any, only(-1, 0)] = None
    use_beam_search: Annotated[Any, only(False)] = None

    @model_validator(mode="before")
    @classmethod
    def _null_asks_for_nothing(cls, value: Any) -> Any:
        """Leave out keys without a value, known or not: clients that know more settings send null for those."""
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if item is not None or key in cls.model_fields}

    @field_validator("stream_options")
    @classmethod
    def _are_of_a_stream(cls, value: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        if value is not None and not info.data.get("stream"):
            raise ValueError("only allowed with stream = true")
        return value

    @property
    @abstractmethod
    def texts(self) -> tuple[str, ...]:
        """What the graph is asked, one question after the other."""

    @property
    def samples(self) -> int:
        """Answers to each question."""
        return 1

    @property
    def num_answers(self) -> int:
        """Answers in all, each of which is a question to the engine."""
        return len(self.texts) * self.samples

    @property
    @abstractmethod
    def budget(self) -> int | None:
        """Tokens of an answer, the output Node's message; None = the graph's. Other Nodes keep theirs."""

    @property
    @abstractmethod
    def wants_logprobs(self) -> bool:
        """Whether the answers come with the log probability of each token."""

    @property
    def num_top(self) -> int:
        """How many of the most probable tokens come with each token of the answer."""
        return 0

    @property
    def includes_usage(self) -> bool:
        """Whether a stream shall end with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def questions(self) -> tuple[Question, ...]:
        """Return the questions that are asked: each text so often as it shall be answered, with seeds of their own."""
        seed = _SEEDS.getrandbits(_DRAWN_BITS) if self.seed is None else self.seed
        asked = [text for text in self.texts for _ in range(self.samples)]
        return tuple(
            Question(
                graph=self.model,
                text=text,
                temperature=self.temperature,
                top_p=self.top_p,
                is_sampled=self.samples > 1,
                seed=(seed + place) & _SEED_MASK,
                answer=AnswerSettings(self.stream, self.stop, self.budget, self.num_top),
                messages=self.neuromas.messages,
                deadline_s=self.neuromas.deadline_s,
            )
            for place, text in enumerate(asked)
        )


NumTop = Annotated[int, Field(ge=0, le=MAX_TOP), not_null(0)]
Budget = Annotated[int | None, Field(ge=1, le=MAX_BUDGET)]
Samples = Annotated[int, Field(ge=1, le=MAX_ANSWERS), not_null(1)]
