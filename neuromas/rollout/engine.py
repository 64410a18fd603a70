"""The Engine protocol: token ids in, sampled token ids and logprobs out, one adapter version per call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.rollout.record import FinishReason, Top


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one call is sampled.

    Attributes:
        max_tokens: token budget of the completion, >= 1.
        temperature: 0 is greedy.
        top_p: nucleus mass in (0, 1]; 1 keeps the whole distribution.
        seed: makes the call reproducible; None draws from the engine's own stream.
        num_top: how many of the most probable tokens come with each sampled one.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    num_top: int = 0


@dataclass(frozen=True, slots=True)
class EngineCall:
    """One request: ``id`` is unique among the unfinished calls; ``adapter`` None is the bare base.

    ``stop_token_ids`` end the completion beside the base's own end tokens, and are its last token like those. With
    ``is_streamed`` the tokens can be had while they are sampled, see ``Engine.partials``; that costs a little.
    """

    id: str
    prompt_token_ids: tuple[int, ...]
    sampling: Sampling
    adapter: AdapterRef | None = None
    is_streamed: bool = False
    stop_token_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class EngineResult:
    """A finished call. With ``finish_reason`` "error" the token lists are empty and ``error`` says why.

    ``cached_tokens`` counts the prompt tokens that were not prefilled again; ``tops`` has, per token, what the call's
    ``num_top`` asks for, and is empty where that is 0.
    """

    id: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    error: str | None = None
    cached_tokens: int = 0
    tops: tuple[Top, ...] = ()


@dataclass(frozen=True, slots=True)
class Partial:
    """What an unfinished streamed call has sampled since it was last looked at; at least one token."""

    id: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    tops: tuple[Top, ...] = ()


class Engine(Protocol):
    """Serves calls of many adapters in one continuous batch; the caller drives it with ``step``."""

    @property
    def max_model_len(self) -> int | None:
        """Longest prompt + completion, in tokens; None = no limit."""

    def submit(self, calls: Sequence[EngineCall]) -> None:
        """Queue calls. A call that cannot run (too long, unknown adapter version) comes back as an "error" result."""

    def step(self) -> list[EngineResult]:
        """Advance the batch by one engine step and return the calls that finished in it."""

    def partials(self) -> list[Partial]:
        """Return the new tokens of the unfinished streamed calls, those with any, in no particular order.

        Each token is returned once. The result of a finished call brings all its tokens, whether they were seen or not.
        """

    def has_unfinished(self) -> bool:
        """Whether any submitted call has not been returned yet."""

    def abort(self, ids: Sequence[str]) -> None:
        """Forget calls; they are never returned. Unknown ids are ignored."""

    def publish(self, adapters: Mapping[AdapterRef, PlainLora], retire: Sequence[AdapterRef] = ()) -> None:
        """Make new adapter versions servable, after forgetting the retired ones.

        Raises:
            AdapterError: a version exists already, a rank or shape does not fit, or no slot is left.
        """

    def close(self) -> None:
        """Release the engine's memory and processes. Safe to call twice."""
