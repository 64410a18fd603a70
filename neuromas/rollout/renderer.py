"""Renderer: what turns a Node's inputs into token ids, and sampled tokens into text. Deterministic, knows no engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from neuromas.rollout.stops import Stops
from neuromas.rollout.text_stream import TextStream
from neuromas.rollout.token_text import TokenText
from neuromas.tasks.base import Example
from neuromas.topology.graph import Topology


class Renderer(ABC):
    """Prompts of one form. What a base's tokens spell is the same for all forms."""

    def __init__(self, text: TokenText) -> None:
        self._text = text

    @abstractmethod
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

        Raises:
            TopologyError: the base has no word for a position of this graph.
        """

    @property
    def stops(self) -> Stops:
        """What ends every message beside the base's end tokens."""
        return self._text.stops

    def fits(self, text: str, limit: int) -> bool:
        """Whether a text may have as few as ``limit`` tokens. Costs what so many tokens do, however long it is."""
        return self._text.fits(text, limit)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the message that sampled tokens spell, up to a stop text: no special tokens, no outer white space."""
        return self._text.decode(tuple(token_ids))

    def spell(self, token_ids: Sequence[int]) -> str:
        """Return what the tokens of a prompt spell, control tokens by their names."""
        return self._text.spell(token_ids)

    def token_texts(self, token_ids: Sequence[int]) -> tuple[str | None, ...]:
        """Return what each sampled token adds to the text; None for special tokens."""
        return self._text.token_texts(token_ids)

    def other_texts(self, token_ids: Sequence[int], others: Sequence[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
        """Return what other tokens would have added in place of each sampled one; of special tokens their names."""
        return self._text.other_texts(token_ids, others)

    def text_stream(self) -> TextStream:
        """Return what spells one message while its tokens arrive; joined, its pieces are what ``decode`` gives."""
        return self._text.stream()
