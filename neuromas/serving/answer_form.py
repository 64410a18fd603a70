"""How answers are told: what the bodies and events of all of OpenAI's routes have in common."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, ClassVar

from pydantic_core import to_json

from neuromas.rollout.record import FinishReason, NodeCall
from neuromas.serving.answer_tokens import output_call
from neuromas.serving.ask_request import AskRequest
from neuromas.serving.endpoint_error import EndpointError
from neuromas.serving.question import Answered, Question
from neuromas.topology.graph import Topology

_IDS = Random()  # as for seeds: the kernel's numbers cost a wait for the interpreter


class AnswerForm(ABC):
    """The bodies that answer one request."""

    id_prefix: ClassVar[str]

    def __init__(self, asked: AskRequest, questions: Sequence[Question]) -> None:
        """Begin to answer a request; ``questions`` are its own, one for each answer."""
        self.asked = asked
        self.questions = tuple(questions)
        self.id = f"{self.id_prefix}{_IDS.getrandbits(128):032x}"
        self.created_s = int(time.time())

    @abstractmethod
    def whole(self, answers: Sequence[Answered]) -> dict[str, Any]:
        """Return the body that tells all answers."""

    @abstractmethod
    def begin(self) -> bytes:
        """Return the events before any text."""

    @abstractmethod
    def piece(self, place: int, text: str) -> bytes:
        """Return the events of the next piece of an answer."""

    @abstractmethod
    def end(self, place: int, answered: Answered) -> bytes:
        """Return the events that end an answer."""

    @abstractmethod
    def close(self, answers: Sequence[Answered]) -> bytes:
        """Return the events behind all answers."""

    @abstractmethod
    def failed(self, refusal: EndpointError) -> bytes:
        """Return the events that say why a stream breaks off."""

    def extras(self, place: int, answered: Answered) -> dict[str, Any]:
        """Return what only NeuroMAS tells of an answer."""
        rollout, graph = answered.rollout, answered.graph
        extras: dict[str, Any] = {
            "topology_hash": rollout.topology_hash,
            "version": graph.version,
            "seed": self.questions[place].seed,
            "waited_s": round(answered.waited_s, 6),
            "usage_by_node": {call.node: usage((call,)) for call in rollout.calls},
        }
        if self.asked.neuromas.trace:
            extras["trace"] = [
                trace_entry(call, graph.topology) | {"given": call.node in self.asked.neuromas.messages}
                for call in rollout.calls
            ]
        return extras


def usage(calls: Sequence[NodeCall]) -> dict[str, int]:
    """Return the tokens of some calls."""
    prompt = sum(len(call.prompt_token_ids) for call in calls)
    sampled = sum(len(call.completion_token_ids) for call in calls)
    return {"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled}


def all_calls(answers: Sequence[Answered]) -> list[NodeCall]:
    """Return the calls behind all answers."""
    return [call for answered in answers for call in answered.rollout.calls]


def hidden_tokens(answers: Sequence[Answered]) -> int:
    """Return how many tokens hidden Nodes sampled, which are told apart the way OpenAI tells reasoning apart."""
    shown = sum(len(output_call(answered).completion_token_ids) for answered in answers)
    return sum(len(call.completion_token_ids) for call in all_calls(answers)) - shown


def trace_entry(call: NodeCall, topology: Topology) -> dict[str, Any]:
    """Return one Node's message and where it came from."""
    layer, index = topology.position(call.node)
    return {
        "node": call.node,
        "layer": layer,
        "index": index,
        "reads": list(topology.predecessors(call.node)),
        "adapter": None if call.adapter is None else str(call.adapter),
        "content": call.text,
        "finish_reason": finish_reason(call.finish_reason),
        "latency_s": round(call.latency_s, 6),
        "usage": usage((call,)),
    }


def finish_reason(reason: FinishReason) -> str:
    """Return OpenAI's word for why a message ended."""
    return "length" if reason == "length" else "stop"


def event(body: Mapping[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + encode(body) + b"\n\n"


def encode(body: Mapping[str, Any]) -> bytes:
    """Return JSON."""
    return to_json(body)
