"""The prompt format of bases whose vocabulary is a list of words."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from neuromas.errors import TopologyError
from neuromas.rollout.renderer import Renderer
from neuromas.rollout.signal import keep_end
from neuromas.rollout.token_text import TokenText
from neuromas.tasks.base import Example
from neuromas.topology.graph import Topology


class CompactRenderer(Renderer):
    """``<bos> {question} @ L{layer} N{index} | L{l} N{i} : {text} ... >``.

    Every word is one token, so a prompt is put together from token ids of its pieces, each of them encoded once.
    """

    def __init__(self, text: TokenText, bos_token: str, max_signal_tokens: int | None) -> None:
        super().__init__(text)
        self._limit = max_signal_tokens
        self._unknown = set(self._text.encode("\N{REPLACEMENT CHARACTER}"))
        self._begin = self._text.frame(bos_token)

    @override
    def render(
        self,
        topology: Topology,
        node_id: str,
        example: Example,
        signals: Sequence[tuple[str, str]],
        max_tokens: int | None = None,
    ) -> tuple[int, ...]:
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
