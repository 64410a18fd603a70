"""What is asked of a GraphServer, what comes back, and why nothing does."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from neuromas.errors import EngineError, NeuroMASError
from neuromas.rollout.answer import AS_TRAINED, AnswerSettings
from neuromas.rollout.record import Rollout
from neuromas.serving.graph_table import GraphVersion


@dataclass(frozen=True, slots=True)
class Question:
    """One request.

    Attributes:
        graph: name of the graph that shall answer.
        text: what Nodes that read the task see.
        temperature: of Nodes that set none of their own; 0 takes the most probable token everywhere; None = 0, or the
            graph's own where ``top_p`` or ``is_sampled`` asks for sampling.
        top_p: nucleus mass in (0, 1]; None = the graph's own.
        is_sampled: whether the answer is to be one of several samples.
        seed: makes a sampled answer reproducible.
        answer: settings of the output Node's message.
        messages: of Nodes that are not asked; all others are.
        deadline_s: seconds from now after which nobody waits any more; None = the server's limit, which is never
            exceeded.
    """

    graph: str
    text: str
    temperature: float | None = None
    top_p: float | None = None
    is_sampled: bool = False
    seed: int = 0
    answer: AnswerSettings = AS_TRAINED
    messages: Mapping[str, str] = field(default_factory=dict, hash=False)
    deadline_s: float | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything of it that Nodes may read."""
        return (self.text, *self.messages.values())

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is taken everywhere."""
        unsaid = self.temperature is None and self.top_p is None and not self.is_sampled
        return self.temperature == 0 or unsaid


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of a request: the pass through the graph, and the version of the graph that all of it went through.

    ``waited_s`` is the time before the first Node was called, seconds.
    """

    rollout: Rollout
    graph: GraphVersion
    waited_s: float


class Reply(Protocol):
    """Is told what becomes of a question, in the engine's thread; must not block, nor raise."""

    def piece(self, text: str) -> None:
        """Take the next piece of a streamed answer."""

    def done(self, answered: Answered) -> None:
        """Take the answer; nothing follows."""

    def failed(self, error: NeuroMASError) -> None:
        """Take the reason why there is no answer; nothing follows."""


@dataclass(slots=True, eq=False)
class Request:
    """A question under way; ``key`` is its rollout's once it has begun, ``deadline`` a time of the monotonic clock."""

    question: Question
    reply: Reply
    arrived: float
    deadline: float
    graph: GraphVersion | None = None
    key: int | None = None
    started: float = 0.0


class FutureReply:
    """The reply of a caller in another thread, who waits for the whole answer."""

    def __init__(self) -> None:
        self.future: Future[Answered] = Future()
        self.future.set_running_or_notify_cancel()  # what the engine works on cannot be cancelled this way

    def piece(self, text: str) -> None:
        """Ignore it: the whole answer comes."""

    def done(self, answered: Answered) -> None:
        """Hand the answer over."""
        self.future.set_result(answered)

    def failed(self, error: NeuroMASError) -> None:
        """Hand the reason over."""
        self.future.set_exception(error)


class UnknownGraphError(NeuroMASError, LookupError):
    """No graph of this name is served, or not any more."""

    code = "model_not_found"


class TooLongError(NeuroMASError, ValueError):
    """The question does not fit the model's context."""

    code = "context_length_exceeded"


class QueueFullError(NeuroMASError, RuntimeError):
    """Too many requests are under way; ``retry_after_s`` is when there may be room."""

    code = "queue_full"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type[QueueFullError], tuple[str, int]]:
        return type(self), (str(self), self.retry_after_s)


class DeadlineError(NeuroMASError, TimeoutError):
    """The answer was not there in time; its calls were taken out of the engine."""

    code = "deadline_exceeded"


class ServerStoppedError(EngineError):
    """The server is shutting down, or its engine has failed."""

    code = "stopped"
