"""Prompts: what a Node reads, as token ids. Role-free: position, task and signals, never a persona. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from neuromas.base.chat_template import TOKENIZER_CONFIG, TurnFrame, read_chat_template, token_text
from neuromas.base.documents import read_json
from neuromas.base.resolve import RendererName, declared_renderer
from neuromas.errors import BaseModelError, SpecError
from neuromas.rollout.compact import CompactRenderer
from neuromas.rollout.prompt_text import PromptText
from neuromas.rollout.stops import Stops
from neuromas.rollout.text_stream import TextStream
from neuromas.rollout.token_text import TokenText, load_tokenizer
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.base import Example
from neuromas.topology.graph import Topology

_CHAT_ONLY = ("system", "template_kwargs")
_TEXT_ONLY = ("instruction", "answer_format", "template", "demonstrations", "drawn_demonstrations", "cue")


class Renderer(Protocol):
    """Turns a Node's inputs into token ids, and sampled token ids into text. Deterministic, knows no engine."""

    @property
    def stops(self) -> Stops:
        """What ends every message beside the base's end tokens."""

    def render(
        self,
        topology: Topology,
        node_id: str,
        example: Example,
        signals: Sequence[tuple[str, str]],
        max_tokens: int | None = None,
    ) -> tuple[int, ...]:
        """Return the prompt of one Node.

        Args:
            topology: the graph; gives the Node's position and those of its predecessors.
            node_id: the Node that will read the prompt.
            example: the question, shown only to Nodes that read the task.
            signals: (sender id, text) of every predecessor, in the order of ``topology.predecessors``.
            max_tokens: budget of the completion, for instructions that state it.
        """

    def fits(self, text: str, limit: int) -> bool:
        """Whether a text may have as few as ``limit`` tokens. Costs what so many tokens do, however long it is."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the message that sampled tokens spell, up to a stop text: no special tokens, no outer white space."""

    def token_texts(self, token_ids: Sequence[int]) -> tuple[str | None, ...]:
        """Return what each sampled token adds to the text; None for special tokens."""

    def text_stream(self) -> TextStream:
        """Return what spells one message while its tokens arrive; joined, its pieces are what ``decode`` gives."""


def renderer_name(spec: PromptSpec, base_folder: Path) -> RendererName:
    """Return the renderer that ``spec`` names, or the one the base declares or is made for."""
    if spec.renderer != "auto":
        return spec.renderer
    return declared_renderer(base_folder) or ("plain" if read_chat_template(base_folder) is None else "chat")


def make_renderer(spec: PromptSpec, base_folder: Path) -> Renderer:
    """Return the renderer of a base's prompts.

    Raises:
        BaseModelError: the base has no tokenizer, or a chat template that is missing or does not fit the settings.
        SpecError: a text uses an unknown field, or a setting is not used by the renderer.
    """
    name = renderer_name(spec, base_folder)
    unused = (*_TEXT_ONLY, *_CHAT_ONLY) if name == "compact" else _CHAT_ONLY if name == "plain" else ()
    if idle := [f"prompt.{setting}" for setting in unused if not spec.is_default(setting)]:
        raise SpecError(f"{', '.join(idle)}: not used by the renderer {name!r}")
    text = TokenText(load_tokenizer(base_folder), spec.stop)
    if name == "compact":
        return CompactRenderer(text, _bos_token(base_folder), spec.max_signal_tokens)
    body = PromptText(spec)
    if name == "plain":
        return TextRenderer(text, body, spec.max_signal_tokens, None)
    template = read_chat_template(base_folder)
    if template is None:
        raise BaseModelError(f"{base_folder} has no chat template; use prompt.renderer = 'plain'")
    frame = template.frame(spec.system, spec.template_kwargs)
    return TextRenderer(text, body, spec.max_signal_tokens, TurnFrame(frame.before, frame.after + (spec.cue or "")))


class TextRenderer:
    """Natural-language prompts: the text is the same for all bases, the form around it is the base's.

    Plain text begins with what the tokenizer puts first and ends with a cue. In a chat it is one user turn in the
    base's own template, with the beginning of the assistant's.
    """

    def __init__(
        self, text: TokenText, body: PromptText, max_signal_tokens: int | None, turn: TurnFrame | None
    ) -> None:
        self._text = text
        self._body = body
        self._limit = max_signal_tokens
        self._turn = turn

    @property
    def stops(self) -> Stops:
        """What ends every message beside the base's end tokens."""
        return self._text.stops

    def render(
        self,
        topology: Topology,
        node_id: str,
        example: Example,
        signals: Sequence[tuple[str, str]],
        max_tokens: int | None = None,
    ) -> tuple[int, ...]:
        """Return the prompt of one Node; see ``Renderer.render``."""
        signals = [(sender, self._text.last_tokens(text, self._limit)) for sender, text in signals]
        text = self._body.write(topology, node_id, example, signals, max_tokens)
        if self._turn is not None:
            return self._text.framed(self._turn.before, text.strip(), self._turn.after)
        cue = self._body.cue(topology, node_id)
        return (*self._text.begin, *self._text.framed("", f"{text}\n\n{cue}" if cue else text, ""))

    def fits(self, text: str, limit: int) -> bool:
        """Whether a text may have as few as ``limit`` tokens; see ``Renderer.fits``."""
        return self._text.fits(text, limit)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the message that sampled tokens spell."""
        return self._text.decode(tuple(token_ids))

    def token_texts(self, token_ids: Sequence[int]) -> tuple[str | None, ...]:
        """Return what each sampled token adds to the text; None for special tokens."""
        return self._text.token_texts(token_ids)

    def text_stream(self) -> TextStream:
        """Return what spells one message while its tokens arrive."""
        return self._text.stream()


def _bos_token(base_folder: Path) -> str:
    bos = token_text(read_json(base_folder / TOKENIZER_CONFIG, optional=True).get("bos_token"))
    if bos is None:
        raise BaseModelError(f"{base_folder / TOKENIZER_CONFIG} names no bos_token")
    return bos
