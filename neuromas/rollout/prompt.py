"""Prompts: what a Node reads, as token ids. Role-free: position, task and signals, never a persona. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from typing_extensions import override

from neuromas.base.chat_template import TOKENIZER_CONFIG, TurnFrame, read_chat_template, token_text
from neuromas.base.documents import read_json
from neuromas.base.resolve import RendererName, declared_renderer
from neuromas.errors import BaseModelError, SpecError
from neuromas.rollout.compact import CompactRenderer
from neuromas.rollout.prompt_text import PromptText
from neuromas.rollout.renderer import Renderer
from neuromas.rollout.token_text import TokenText, load_tokenizer
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.base import Example
from neuromas.topology.graph import Topology

_CHAT_ONLY = ("system", "template_kwargs")
_TEXT_ONLY = ("instruction", "answer_format", "template", "demonstrations", "drawn_demonstrations", "cue")


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


class TextRenderer(Renderer):
    """Natural-language prompts: the text is the same for all bases, the form around it is the base's.

    Plain text begins with what the tokenizer puts first and ends with a cue. In a chat it is one user turn in the
    base's own template, with the beginning of the assistant's.
    """

    def __init__(
        self, text: TokenText, body: PromptText, max_signal_tokens: int | None, turn: TurnFrame | None
    ) -> None:
        super().__init__(text)
        self._body = body
        self._limit = max_signal_tokens
        self._turn = turn

    @override
    def render(
        self,
        topology: Topology,
        node_id: str,
        example: Example,
        signals: Sequence[tuple[str, str]],
        max_tokens: int | None = None,
    ) -> tuple[int, ...]:
        signals = [(sender, self._text.last_tokens(text, self._limit)) for sender, text in signals]
        text = self._body.write(topology, node_id, example, signals, max_tokens)
        if self._turn is not None:
            return self._text.framed(self._turn.before, text.strip(), self._turn.after)
        cue = self._body.cue(topology, node_id)
        return (*self._text.begin, *self._text.framed("", f"{text}\n\n{cue}" if cue else text, ""))


def _bos_token(base_folder: Path) -> str:
    bos = token_text(read_json(base_folder / TOKENIZER_CONFIG, optional=True).get("bos_token"))
    if bos is None:
        raise BaseModelError(f"{base_folder / TOKENIZER_CONFIG} names no bos_token")
    return bos
