"""An engine that answers from a function: for tests of schedulers and clients, and for dry runs without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.engines.versions import VersionTable
from neuromas.errors import EngineError
from neuromas.rollout.engine import EngineCall, EngineResult, Partial
from neuromas.rollout.record import FinishReason


def _one_step(_call: EngineCall) -> int:
    return 1


@dataclass(slots=True)
class _StreamedCall:
    """The answer of a streamed call: ``steps`` steps from ``begin`` on all of it has been shown."""

    result: EngineResult
    begin: int
    steps: int
    num_seen: int = 0

    def take_new(self, step: int) -> Partial:
        """Return what has come up to a step and was not seen yet."""
        seen, self.num_seen = self.num_seen, len(self.result.token_ids) * (step - self.begin) // self.steps
        new = slice(seen, self.num_seen)
        result = self.result
        return Partial(result.id, result.token_ids[new], result.logprobs[new], result.tops[new])


def _stopped(token_ids: tuple[int, ...], stop_token_ids: frozenset[int]) -> tuple[int, ...]:
    """Return the tokens up to and with the first that ends a completion."""
    end = next((place for place, token_id in enumerate(token_ids) if token_id in stop_token_ids), len(token_ids) - 1)
    return token_ids[: end + 1]


class ScriptedEngine:
    """Answers each call with ``respond(call)`` after ``delay(call)`` steps; keeps a history of what it was asked.

    A streamed call shows its tokens evenly over these steps. A response is the completion without its end-of-sequence
    token, which the engine appends; what exceeds the budget is cut off and finishes with "length". Log-probabilities
    are 0: the script is certain.
    """

    def __init__(
        self,
        respond: Callable[[EngineCall], Sequence[int]],
        delay: Callable[[EngineCall], int] = _one_step,
        stop_token_id: int = 2,
        max_model_len: int | None = None,
        max_adapters: int = 64,
        max_rank: int = 512,
    ) -> None:
        """Make the engine.

        Args:
            respond: gives the completion tokens of a call; an EngineError raised in it becomes an "error" result.
            delay: number of steps, at least 1, from submission to result.
            stop_token_id: appended to every completion that fits its budget.
            max_model_len: longest prompt + completion in tokens; None = no limit.
            max_adapters: adapter versions held at a time.
            max_rank: largest rank that may be published.
        """
        self._respond = respond
        self._delay = delay
        self._stop_token_id = stop_token_id
        self._max_model_len = max_model_len
        self._versions = VersionTable(max_adapters, max_rank)
        self._due: dict[str, tuple[int, EngineCall]] = {}
        self._streams: dict[str, _StreamedCall] = {}
        self._step = 0
        self.history: list[tuple[int, EngineCall]] = []
        """(step at which it was submitted, call), in order of submission."""

    @property
    def max_model_len(self) -> int | None:
        """Longest prompt + completion, in tokens."""
        return self._max_model_len

    def submit(self, calls: Sequence[EngineCall]) -> None:
        """Queue calls; see ``Engine.submit``."""
        for call in calls:
            if call.id in self._due:
                raise EngineError(f"call id {call.id!r} is already under way")
            self.history.append((self._step, call))
            self._versions.enter(call.adapter)
            steps = max(1, self._delay(call))
            self._due[call.id] = self._step + steps, call
            if call.is_streamed:
                self._streams[call.id] = _StreamedCall(self._answer(call), self._step, steps)

    def step(self) -> list[EngineResult]:
        """Let one step pass and return the calls that are due."""
        self._step += 1
        finished = [call for due, call in self._due.values() if due <= self._step]
        results = []
        for call in finished:
            del self._due[call.id]
            self._versions.leave(call.adapter)
            stream = self._streams.pop(call.id, None)
            results.append(self._answer(call) if stream is None else stream.result)
        return results

    def partials(self) -> list[Partial]:
        """Return the new tokens of the unfinished streamed calls; see ``Engine.partials``."""
        partials = [stream.take_new(self._step) for stream in self._streams.values()]
        return [partial for partial in partials if partial.token_ids]

    def has_unfinished(self) -> bool:
        """Whether any submitted call has not been returned yet."""
        return bool(self._due)

    def abort(self, ids: Sequence[str]) -> None:
        """Forget calls."""
        for call_id in ids:
            if call_id in self._due:
                self._versions.leave(self._due.pop(call_id)[1].adapter)
                self._streams.pop(call_id, None)

    def publish(self, adapters: Mapping[AdapterRef, PlainLora], retire: Sequence[AdapterRef] = ()) -> None:
        """Hold new versions; their weights play no part."""
        self._versions.check(adapters, retire)
        self._versions.exchange(list(adapters), retire)

    def close(self) -> None:
        """Forget all calls."""
        self.abort(list(self._due))

    def _answer(self, call: EngineCall) -> EngineResult:
        if call.adapter is not None and call.adapter not in self._versions:
            return EngineResult(call.id, (), (), "error", f"adapter {call.adapter} is not published")
        room = call.sampling.max_tokens
        if self._max_model_len is not None:
            room = min(room, self._max_model_len - len(call.prompt_token_ids))
        if room < 1:
            return EngineResult(call.id, (), (), "error", f"prompt of {len(call.prompt_token_ids)} tokens is too long")
        try:
            token_ids = _stopped((*self._respond(call), self._stop_token_id), call.stop_token_ids)
        except EngineError as e:
            return EngineResult(call.id, (), (), "error", str(e))
        kept = token_ids[:room]
        reason: FinishReason = "stop" if len(kept) == len(token_ids) else "length"
        tops = tuple(((token_id, 0.0),) for token_id in kept) if call.sampling.num_top else ()
        return EngineResult(call.id, kept, (0.0,) * len(kept), reason, tops=tops)
