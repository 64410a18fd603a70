"""Stop texts: what ends every message of a run, in training and in serving."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_MARGIN = 8
"""Tokens looked at beside as many as a stop text has bytes: some tokens spell nothing."""


class Stops:
    """The stop texts of a run and the tokens they are spelled by."""

    def __init__(
        self,
        texts: Sequence[str] = (),
        decode: Callable[[Sequence[int]], str] = lambda _: "",
        vocab_size: int = 0,
    ) -> None:
        """Take the texts.

        Args:
            texts: none of them empty.
            decode: text of token ids, nothing stripped.
            vocab_size: number of token ids that can be decoded.
        """
        self.texts = tuple(texts)
        self._decode = decode
        self._reach = _MARGIN + max((len(text.encode()) for text in texts), default=0)
        self.token_ids = frozenset(token for token in range(vocab_size) if texts and self._holds(decode((token,))))
        """Tokens that hold a whole stop text; an engine ends a message with the first of them."""

    @property
    def is_watched(self) -> bool:
        """Whether several tokens together may spell a stop text, so that messages are watched while they come."""
        return any(len(text.encode()) > 1 for text in self.texts)

    def is_met(self, token_ids: Sequence[int]) -> bool:
        """Whether the last tokens of a message hold a stop text."""
        return bool(self.texts) and self._holds(self._decode(tuple(token_ids[-self._reach :])))

    def cut(self, text: str) -> str:
        """Return what stands before the first stop text."""
        return text[: min((begin for stop in self.texts if (begin := text.find(stop)) >= 0), default=len(text))]

    def _holds(self, text: str) -> bool:
        return any(stop in text for stop in self.texts)
