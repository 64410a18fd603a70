"""Answer: what a trained graph says to a question, with the message of every node on the way."""

from __future__ import annotations

from dataclasses import dataclass

from neuromas.report.markup import Markup, element
from neuromas.rollout.record import NodeCall, Rollout
from neuromas.rollout.renderer import Renderer
from neuromas.topology.graph import Topology
from neuromas.topology.svg import draw_svg


@dataclass(frozen=True, slots=True)
class Message:
    """What one node said.

    Attributes:
        node: its id.
        text: its message.
        tokens: length of the message.
        is_cut: whether it ended at the node's token budget.
        logprob: natural log of the probability of the whole message.
        prompt: what the node read, special tokens removed.
    """

    node: str
    text: str
    tokens: int
    is_cut: bool
    logprob: float
    prompt: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The output node's message to a question, which is also its ``str``.

    Attributes:
        question: what was asked.
        text: the answer.
        trace: the message of every node, in topological order; the last one is the answer.
        topology: the graph.
    """

    question: str
    text: str
    trace: tuple[Message, ...]
    topology: Topology

    @classmethod
    def of(cls, rollout: Rollout, topology: Topology, renderer: Renderer) -> Answer:
        """Return the answer of a rollout that went well."""
        trace = tuple(_message(call, renderer) for call in rollout.calls)
        return cls(rollout.example.prompt, rollout.answer, trace, topology)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        """Return the graph with what every node said, and the messages in full with the prompts behind them."""
        drawing = Markup(draw_svg(self.topology, {message.node: message.text for message in self.trace}))
        rows = [
            element("tr", element("th", message.node), element("td", element("code", message.text), _prompt(message)))
            for message in self.trace
        ]
        return element("div", element("p", self.question), drawing, element("table", rows))


def _message(call: NodeCall, renderer: Renderer) -> Message:
    return Message(
        node=call.node,
        text=call.text,
        tokens=len(call.completion_token_ids),
        is_cut=call.finish_reason == "length",
        logprob=sum(call.logprobs),
        prompt=renderer.decode(call.prompt_token_ids),
    )


def _prompt(message: Message) -> Markup:
    return element("details", element("summary", "prompt"), element("pre", message.prompt))
