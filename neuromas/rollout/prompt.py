"""Prompts: what a Node reads, as token ids. Role-free: position, task and signals, never a persona. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any, Protocol

from neuromas.base.resolve import read_base
from neuromas.errors import BaseModelError, SpecError, TopologyError
from neuromas.rollout.signal import keep_end
from neuromas.rollout.text_stream import Specials, TextStream
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.base import Example
from neuromas.topology.graph import Topology

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CACHED_TEXTS = 65_536
_FIELDS = frozenset({"layer", "index", "depth", "width", "max_tokens"})
_INSTRUCTION = (
    "This is position {index} of layer {layer} in a network of language models that solve a task together. "
    "The network has {depth} layers and each layer reads the messages of earlier ones. "
)
_INNER_FORMAT = "Write the message that the next layer needs, in at most {max_tokens} tokens."
_OUTPUT_FORMAT = "Write the answer to the task, in at most {max_tokens} tokens."


class Renderer(Protocol):
    """Turns a Node's inputs into token ids, and sampled token ids into text. Deterministic, knows no engine."""

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

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the message that sampled tokens spell: special tokens and outer white space removed."""

    def text_stream(self) -> TextStream:
        """Return what spells one message while its tokens arrive; joined, its pieces are what ``decode`` gives."""


def make_renderer(spec: PromptSpec, base_folder: Path) -> Renderer:
    """Return the renderer that ``spec`` names, or the one the base declares.

    Raises:
        BaseModelError: the folder has no tokenizer, or no chat template where "chat" is asked for.
        SpecError: the instruction uses an unknown placeholder, or is set for "compact".
    """
    name: str = spec.renderer
    if name == "auto":
        name = read_base(base_folder).renderer or ("chat" if _has_chat_template(base_folder) else "plain")
    tokenizer = _load_tokenizer(base_folder)
    if name == "compact":
        if spec.instruction is not None or spec.answer_format:
            raise SpecError("prompt.instruction and prompt.answer_format are not used by the renderer 'compact'")
        return CompactRenderer(tokenizer, _token_of(base_folder, "bos_token"), spec.max_signal_tokens)
    body = PromptText(spec)
    if name == "plain":
        return TextRenderer(tokenizer, body, spec.max_signal_tokens, _plain_form(tokenizer))
    if not _has_chat_template(base_folder):
        raise BaseModelError(f"{base_folder} has no chat template; use prompt.renderer = 'plain'")
    return TextRenderer(tokenizer, body, spec.max_signal_tokens, _chat_form(tokenizer, base_folder))


class _TokenText:
    """The tokenizer's two directions, with caches: messages of small models repeat a lot."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        special = {id: token.content for id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self._special_ids = frozenset(special)
        # Tokenizers with byte fallback, such as Llama's first ones, write bytes that are in no word like this.
        names = (tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
        self._byte_ids = frozenset(token_id for token_id in names if token_id is not None)
        self._specials = Specials(special.values())
        self.encode = lru_cache(_CACHED_TEXTS)(self._encode)
        self.decode = lru_cache(_CACHED_TEXTS)(self._decode)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _decode(self, token_ids: tuple[int, ...]) -> str:
        text = self._tokenizer.decode(token_ids, skip_special_tokens=True)
        # Ordinary tokens can spell out a special one; read by the next Node it would end or open a chat turn.
        return self._specials.remove(text).strip()

    def stream(self) -> TextStream:
        """Return what spells one message while its tokens arrive."""
        return TextStream(self._tokenizer.decode, self._special_ids, self._byte_ids, self._specials)

    def last_tokens(self, text: str, limit: int | None) -> str:
        """Return the end of ``text``, at most ``limit`` tokens of it."""
        if limit is None:
            return text
        token_ids = self.encode(text)
        return text if len(token_ids) <= limit else self.decode(tuple(keep_end(token_ids, limit)))


class CompactRenderer:
    """The format of bases whose vocabulary is a list of words.

    ``<bos> {question} @ L{layer} N{index} | L{l} N{i} : {text} ... >``. Every word is one token, so a prompt is put
    together from token ids of its pieces, each of them encoded once.
    """

    def __init__(self, tokenizer: Tokenizer, bos_token: str, max_signal_tokens: int | None) -> None:
        self._text = _TokenText(tokenizer)
        self._limit = max_signal_tokens
        self._unknown = set(self._text.encode("\N{REPLACEMENT CHARACTER}"))
        self._begin = self._text.encode(bos_token)

    def render(
        self,
        topology: Topology,
        node_id: str,
        example: Example,
        signals: Sequence[tuple[str, str]],
        max_tokens: int | None = None,
    ) -> tuple[int, ...]:
        """Return the prompt of one Node; see ``Renderer.render``.

        Raises:
            TopologyError: the base has no word for a position of this graph.
        """
        encode = self._text.encode
        prompt = [*self._begin]
        if topology.node(node_id).reads_task:
            prompt += encode(example.prompt)
        prompt += self._place(topology, node_id, "@ {}")
        for sender, text in signals:
            prompt += self._place(topology, sender, "| {} :")
            prompt += keep_end(encode(text), self._limit)
        prompt += encode(">")
        return tuple(prompt)

    def _place(self, topology: Topology, node_id: str, pattern: str) -> tuple[int, ...]:
        layer, index = topology.position(node_id)
        token_ids = self._text.encode(pattern.format(f"L{layer} N{index}"))
        if not self._unknown.isdisjoint(token_ids):
            raise TopologyError(f"node {node_id!r} is at layer {layer}, position {index}; the base has no word for it")
        return token_ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the message that sampled tokens spell."""
        return self._text.decode(tuple(token_ids))

    def text_stream(self) -> TextStream:
        """Return what spells one message while its tokens arrive."""
        return self._text.stream()


class PromptText:
    """The natural-language text of a prompt, the same for all bases."""

    def __init__(self, spec: PromptSpec) -> None:
        if spec.instruction is not None:
            _check_placeholders(spec.instruction)
        self._inner = spec.instruction if spec.instruction is not None else _INSTRUCTION + _INNER_FORMAT
        self._output = spec.instruction if spec.instruction is not None else _INSTRUCTION + _OUTPUT_FORMAT
        self._answer_format = f"State the answer as {spec.answer_format}." if spec.answer_format else ""

    def write(
        self,
        topology: Topology,
        node_id: str,
        example: Example,
        signals: Sequence[tuple[str, str]],
        max_tokens: int | None,
    ) -> str:
        """Return the prompt's text without the cue for the completion; signals are given as they shall appear."""
        layer, index = topology.position(node_id)
        view = topology.view(node_id)
        is_output = view.role == "output"
        places = {
            "layer": layer,
            "index": index,
            "depth": view.depth,
            "width": view.width,
            "max_tokens": "any number of" if max_tokens is None else max_tokens,
        }
        sections = [(self._output if is_output else self._inner).format(**places)]
        if is_output and self._answer_format:
            sections.append(self._answer_format)
        if topology.node(node_id).reads_task:
            sections.append(f"Task:\n{example.prompt}")
        for sender, text in signals:
            sender_layer, sender_index = topology.position(sender)
            sections.append(f"Message from layer {sender_layer}, position {sender_index}:\n{text}")
        return "\n\n".join(sections)


Tokenize = Callable[[str, bool], Sequence[int]]
"""From a prompt's text, and whether it is the output Node's, to token ids with the cue for the completion."""


class TextRenderer:
    """Natural-language prompts: the text is the same for all bases, the form around it is the base's."""

    def __init__(self, tokenizer: Tokenizer, body: PromptText, max_signal_tokens: int | None, form: Tokenize) -> None:
        self._text = _TokenText(tokenizer)
        self._body = body
        self._limit = max_signal_tokens
        self._form = form

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
        return tuple(self._form(text, topology.view(node_id).role == "output"))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the message that sampled tokens spell."""
        return self._text.decode(tuple(token_ids))

    def text_stream(self) -> TextStream:
        """Return what spells one message while its tokens arrive."""
        return self._text.stream()


def _plain_form(tokenizer: Tokenizer) -> Tokenize:
    """Return the form for models without a chat template: plain text, ended by ``Answer:`` or ``Message:``."""

    def form(text: str, is_output: bool) -> Sequence[int]:
        ids: Sequence[int] = tokenizer.encode(f"{text}\n\n{'Answer:' if is_output else 'Message:'}").ids
        return ids

    return form


def _chat_form(tokenizer: Tokenizer, base_folder: Path) -> Tokenize:
    """Return the form of chat models: one user message in the base's own template, with the generation prompt."""
    # Imports torch, which an engine's process has loaded anyway.
    from transformers import AutoTokenizer

    template = AutoTokenizer.from_pretrained(base_folder, local_files_only=True)

    def form(text: str, is_output: bool) -> Sequence[int]:
        message = {"role": "user", "content": text}
        written = template.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        ids: Sequence[int] = tokenizer.encode(written, add_special_tokens=False).ids
        return ids

    return form


def _check_placeholders(instruction: str) -> None:
    try:
        used = {field for _, field, _, _ in Formatter().parse(instruction) if field is not None}
    except ValueError as e:
        raise SpecError(f"prompt.instruction is not a valid template: {e}; write {{{{ and }}}} for braces") from e
    if not used <= _FIELDS:
        unknown = ", ".join(f"{{{field}}}" for field in sorted(used - _FIELDS))
        allowed = ", ".join(f"{{{field}}}" for field in sorted(_FIELDS))
        raise SpecError(f"prompt.instruction uses {unknown}; allowed are {allowed}")


def _load_tokenizer(base_folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = base_folder / "tokenizer.json"
    if not path.is_file():
        raise BaseModelError(f"{path} is missing; a base needs a fast tokenizer (tokenizer.json)")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _tokenizer_config(base_folder: Path) -> Mapping[str, Any]:
    path = base_folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    document: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _has_chat_template(base_folder: Path) -> bool:
    return (base_folder / "chat_template.jinja").is_file() or "chat_template" in _tokenizer_config(base_folder)


def _token_of(base_folder: Path, key: str) -> str:
    value = _tokenizer_config(base_folder).get(key)
    content = value.get("content") if isinstance(value, dict) else value
    if not isinstance(content, str):
        raise BaseModelError(f"{base_folder / 'tokenizer_config.json'} names no {key}")
    return content
