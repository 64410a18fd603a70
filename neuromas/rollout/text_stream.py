"""TextStream: the text of one message while its tokens arrive. Loads no torch and knows no tokenizer by name."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence

logger = logging.getLogger(__name__)
BROKEN = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer writes for bytes that are no character, or not yet."""


class Specials:
    """Finds texts to leave out, and how much at the end of a text may yet become one."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Take the texts of the special tokens; none is allowed to be empty."""
        ordered = sorted(set(texts), key=len, reverse=True)
        beginnings = {text[:length] for text in ordered for length in range(1, len(text))}
        whole = "|".join(map(re.escape, ordered)) or r"(?!)"
        begun = "|".join(map(re.escape, sorted(beginnings, key=len, reverse=True))) or r"(?!)"
        self._whole = re.compile(whole)
        # At every place the end that may yet grow goes first: "<a" of "<a>", and "<a>" itself beside "<a>b".
        self._open = re.compile(rf"(?P<begun>(?:{begun})\Z)|(?:{whole})")

    def remove(self, text: str) -> str:
        """Return ``text`` without special texts, read from left to right, the longest first."""
        return self._whole.sub("", text)

    def split(self, text: str) -> tuple[str, str]:
        """Return what is decided of ``text``, special texts removed, and the end that is not."""
        decided, begin = [], 0
        for match in self._open.finditer(text):
            decided.append(text[begin : match.start()])
            begin = match.end()
            if match["begun"] is not None:
                return "".join(decided), text[match.start() :]
        return "".join(decided) + text[begin:], ""


class TextStream:
    """Spells a message piece by piece: whole characters only, and joined exactly the message's text.

    What may still change is held back: the bytes of a half-sampled character, the beginning of a special token spelled
    out, white space that may turn out to be the end.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        special_ids: frozenset[int],
        byte_ids: frozenset[int],
        specials: Specials,
    ) -> None:
        """Begin a message.

        Args:
            decode: text of token ids, nothing stripped.
            special_ids: tokens that are no text.
            byte_ids: tokens that stand for one byte each and are read together with all neighbours of their kind: one
                that is wrong spoils the whole run.
            specials: texts that are left out when ordinary tokens spell them.
        """
        self._decode = decode
        self._special_ids = special_ids
        self._byte_ids = byte_ids
        self._specials = specials
        # A token's text may depend on the one before it, never on earlier ones: tokens from _begin on are decoded
        # with and without those that were not spelled yet, which start at _end.
        self._tokens: list[int] = []
        self._begin = self._end = 0
        self._undecided = ""
        self._blank = ""
        self._pieces: list[str] = []

    def push(self, token_ids: Sequence[int]) -> str:
        """Add tokens and return the text that is certain now, often empty."""
        self._tokens += [token_id for token_id in token_ids if token_id not in self._special_ids]
        decided, self._undecided = self._specials.split(self._undecided + self._spell())
        visible = decided.rstrip()
        if not visible:
            self._blank += decided
            return ""
        piece = self._blank + visible if self._pieces else visible.lstrip()
        self._blank = decided[len(visible) :]
        self._pieces.append(piece)
        return piece

    def finish(self, text: str) -> str:
        """Return what was held back.

        Args:
            text: of the whole message, as the renderer decodes it.
        """
        spoken = "".join(self._pieces)
        if not text.startswith(spoken):
            logger.warning("a tokenizer changes earlier text; the stream does not spell the answer")
            return ""
        return text[len(spoken) :]

    def _spell(self) -> str:
        """Return the text of tokens not spelled yet, nothing while they end inside a character."""
        if self._end == len(self._tokens) or self._tokens[-1] in self._byte_ids:
            return ""
        whole = self._decode(self._tokens[self._begin :])
        if whole.endswith(BROKEN):
            return ""
        before = self._decode(self._tokens[self._begin : self._end])
        if len(whole) <= len(before):
            return ""
        self._begin, self._end = self._end, len(self._tokens)
        return whole[len(before) :]
