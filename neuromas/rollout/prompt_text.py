"""The natural-language text of a prompt, the same for all bases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuromas.errors import SpecError
from neuromas.rollout.text_template import TextTemplate
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.base import Example
from neuromas.topology.graph import Topology

_INSTRUCTION = (
    "This is position {index} of layer {layer} in a network of language models that solve a task together. "
    "The network has {depth} layers and each layer reads the messages of earlier ones. "
)
_INNER_FORMAT = "Write the message that the next layer needs, in at most {max_tokens} tokens."
_OUTPUT_FORMAT = "Write the answer to the task, in at most {max_tokens} tokens."
_PLACE_FIELDS = ("layer", "index", "depth", "width", "max_tokens")
_QUESTION, _MESSAGES, _EXAMPLES = "question", "messages", "demonstrations"
_CUES = {"inner": "Message:", "output": "Answer:"}


class PromptText:
    """Writes what a Node reads, without the form that a base puts around it."""

    def __init__(self, spec: PromptSpec) -> None:
        """Take the settings.

        Raises:
            SpecError: an instruction or template uses unknown fields, or leaves out what it must show.
        """
        self._spec = spec
        self._inner, self._output = (
            TextTemplate(spec.instruction or _INSTRUCTION + ending, "prompt.instruction", _PLACE_FIELDS)
            if spec.instruction != ""
            else None
            for ending in (_INNER_FORMAT, _OUTPUT_FORMAT)
        )
        self._answer_format = f"State the answer as {spec.answer_format}." if spec.answer_format else ""
        self._template = None if spec.template is None else _whole(spec)

    def cue(self, topology: Topology, node_id: str) -> str:
        """Return the text that a completion without a chat template continues; "" for none."""
        own = self._spec.cue
        return _CUES[topology.view(node_id).role] if own is None else own

    def write(
        self,
        topology: Topology,
        node_id: str,
        example: Example,
        signals: Sequence[tuple[str, str]],
        max_tokens: int | None,
    ) -> str:
        """Return the prompt's text without the cue for the completion; signals are given as they shall appear.

        Raises:
            SpecError: the Node reads messages and ``prompt.template`` shows none.
        """
        layer, index = topology.position(node_id)
        view = topology.view(node_id)
        budget = "any number of" if max_tokens is None else max_tokens
        place = dict(zip(_PLACE_FIELDS, map(str, (layer, index, view.depth, view.width, budget)), strict=True))
        question = example.prompt if topology.node(node_id).reads_task else ""
        level = example.level if view.level is None else view.level
        examples = self._examples(example, level, self.cue(topology, node_id))
        if self._template is not None:
            return self._fill(self._template, place | {_QUESTION: question, _EXAMPLES: examples}, topology, signals)
        instruction = self._output if view.role == "output" else self._inner
        sections = [] if instruction is None else [instruction.fill(place.__getitem__)]
        if view.role == "output" and self._answer_format:
            sections.append(self._answer_format)
        if examples:
            sections.append(examples)
        if topology.node(node_id).reads_task:
            sections.append(f"Task:\n{question}")
        sections += [_message(topology, sender, text) for sender, text in signals]
        return "\n\n".join(sections)

    def _examples(self, example: Example, level: int | None, cue: str) -> str:
        """Return the worked examples of a level; the question itself is never shown with its answer."""
        shown = (
            f"Task:\n{worked.question}\n\n{cue or _CUES['output']} {worked.answer}"
            for worked in self._spec.demonstrations
            if worked.level in (None, level) and worked.question.strip() != example.prompt.strip()
        )
        return "\n\n".join(shown)

    def _fill(
        self, template: TextTemplate, known: Mapping[str, str], topology: Topology, signals: Sequence[tuple[str, str]]
    ) -> str:
        by_sender = dict(signals)
        if signals and not template.shows(_MESSAGES):
            raise SpecError("prompt.template shows no messages, and a node reads some; use {messages}")

        def value(field: str) -> str:
            if field == _MESSAGES:
                return "\n\n".join(_message(topology, sender, text) for sender, text in signals)
            if field.startswith(f"{_MESSAGES}["):
                return by_sender.get(field[len(_MESSAGES) + 1 : -1], "")
            return known[field]

        return template.fill(value)


def _message(topology: Topology, sender: str, text: str) -> str:
    layer, index = topology.position(sender)
    return f"Message from layer {layer}, position {index}:\n{text}"


def _whole(spec: PromptSpec) -> TextTemplate:
    fields = (*_PLACE_FIELDS, _QUESTION, _MESSAGES, _EXAMPLES)
    template = TextTemplate(spec.template or "", "prompt.template", fields, indexed=_MESSAGES)
    if not template.shows(_QUESTION):
        raise SpecError("prompt.template does not show the task; use {question}")
    if bool(spec.demonstrations) != template.shows(_EXAMPLES):
        raise SpecError("prompt.template uses {demonstrations} where prompt.demonstrations are given, and only there")
    return template
