"""Text to token ids and back. No text of a question or a message becomes a control token. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from neuromas.base.end_tokens import TOKENIZER
from neuromas.errors import BaseModelError
from neuromas.rollout.signal import keep_end
from neuromas.rollout.stops import Stops
from neuromas.rollout.text_stream import BROKEN, Specials, TextStream

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CACHED_TEXTS = 65_536
_PIECE = 4096
"""Characters that are read at a time where a text may be far too long."""
_CUT = 16
"""Tokens that a cut between two pieces may add: a word is then read as two halves."""


class _Spelled:
    """A message as far as its tokens have been spelled, in which the next one adds its text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._before: list[int] = []
        self._begun: list[int] = []

    def text(self, token_id: int) -> str | None:
        """Return what a token would add; None where a character has begun and is not whole with it."""
        whole = self._tokenizer.decode([*self._before, *self._begun, token_id])
        return None if whole.endswith(BROKEN) else whole[len(self._tokenizer.decode(self._before)) :]

    def add(self, token_id: int) -> str:
        """Add a token and return its text."""
        text = self.text(token_id)
        self._begun.append(token_id)
        if text is None:
            return ""
        self._before, self._begun = self._begun, []
        return text


class TokenText:
    """The tokenizer's two directions, with caches: messages of small models repeat a lot."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        """Take a tokenizer; ``stop`` are the texts that end a message."""
        self._tokenizer = tokenizer
        special = {id: token.content for id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self._special_ids = frozenset(special)
        # What stands for words outside the vocabulary controls nothing.
        unknown = json.loads(tokenizer.to_str())["model"].get("unk_token")
        self._control_ids = self._special_ids - {tokenizer.token_to_id(unknown) if isinstance(unknown, str) else None}
        # Tokenizers with byte fallback, such as Llama's first ones, write bytes that are in no word like this.
        names = (tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
        self._byte_ids = frozenset(token_id for token_id in names if token_id is not None)
        self._specials = Specials(special.values())
        self.stops = Stops(stop, tokenizer.decode, tokenizer.get_vocab_size())
        self.encode = lru_cache(_CACHED_TEXTS)(self._encode)
        self.decode = lru_cache(_CACHED_TEXTS)(self._decode)
        self._frame_ids = lru_cache(_CACHED_TEXTS)(self.frame)

    @cached_property
    def begin(self) -> tuple[int, ...]:
        """Control tokens that the tokenizer puts before a text by itself."""
        encoded = self._tokenizer.encode("a")
        return tuple(encoded.ids[: encoded.special_tokens_mask.index(0)])

    def frame(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text of the base's own, in which control tokens are meant."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def framed(self, before: str, text: str, after: str) -> tuple[int, ...]:
        """Return the ids of ``before + text + after`` in which ``text`` holds no control token, whatever it spells.

        Where nothing in the text looks like one they are the tokenizer's ids of the whole. Else the parts are read one
        by one, and what spells a control token is read as the characters that it is made of.
        """
        ids = self.frame(before + text + after)
        if self._num_controls(ids) == self._num_controls((*self._frame_ids(before), *self._frame_ids(after))):
            return ids
        return (*self._frame_ids(before), *self.encode(text), *self._frame_ids(after))

    def fits(self, text: str, limit: int) -> bool:
        """Whether a text may have as few as ``limit`` tokens; it is read piece by piece and no further than needed."""
        if len(text) > limit * (self._longest_token + 1):  # and a space before each
            return False
        num_tokens = 0
        for begin in range(0, len(text), _PIECE):
            num_tokens += len(self.frame(text[begin : begin + _PIECE]))
            if num_tokens > limit + _CUT * (begin // _PIECE):
                return False
        return True

    @cached_property
    def _longest_token(self) -> int:
        return max(map(len, self._tokenizer.get_vocab()))

    def stream(self) -> TextStream:
        """Return what spells one message while its tokens arrive."""
        return TextStream(self._tokenizer.decode, self._special_ids, self._byte_ids, self._specials)

    def spell(self, token_ids: Sequence[int]) -> str:
        """Return what tokens spell, control tokens by their names."""
        return self._tokenizer.decode(list(token_ids), skip_special_tokens=False)

    def token_texts(self, token_ids: Sequence[int]) -> tuple[str | None, ...]:
        """Return what each token adds to a message's text; None for special tokens, which are no text.

        A character that several tokens spell is added by the last of them.
        """
        spelled = _Spelled(self._tokenizer)
        return tuple(None if token_id in self._special_ids else spelled.add(token_id) for token_id in token_ids)

    def other_texts(self, token_ids: Sequence[int], others: Sequence[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
        """Return what other tokens would have added in place of each token; of special ones their names.

        Args:
            token_ids: of a message.
            others: for each of these, the tokens that could have stood there.
        """
        spelled, texts = _Spelled(self._tokenizer), []
        for token_id, there in zip(token_ids, others, strict=True):
            texts.append(
                tuple(
                    str(self._tokenizer.id_to_token(other)) if other in self._special_ids else spelled.text(other) or ""
                    for other in there
                )
            )
            if token_id not in self._special_ids:
                spelled.add(token_id)
        return tuple(texts)

    def last_tokens(self, text: str, limit: int | None) -> str:
        """Return the end of ``text``, at most ``limit`` tokens of it."""
        if limit is None:
            return text
        token_ids = self.encode(text)
        return text if len(token_ids) <= limit else self.decode(tuple(keep_end(token_ids, limit)))

    @cached_property
    def _literal(self) -> Tokenizer:
        """The tokenizer as it reads text without looking for control tokens; made only where a text spells one."""
        literal = type(self._tokenizer).from_str(self._tokenizer.to_str())
        literal.encode_special_tokens = True
        return literal

    def _num_controls(self, token_ids: Sequence[int]) -> int:
        return sum(map(self._control_ids.__contains__, token_ids))

    def _encode(self, text: str) -> tuple[int, ...]:
        token_ids = self.frame(text)
        if self._control_ids.isdisjoint(token_ids):
            return token_ids
        literal = self._literal.encode(text, add_special_tokens=False).ids
        # A vocabulary of words may hold a control token as a word as well; that one is left out.
        return tuple(token_id for token_id in literal if token_id not in self._control_ids)

    def _decode(self, token_ids: tuple[int, ...]) -> str:
        text = self.stops.cut(self._tokenizer.decode(token_ids, skip_special_tokens=True))
        # Ordinary tokens can spell out a special one; read by the next Node it would end or open a chat turn.
        return self._specials.remove(text).strip()


def load_tokenizer(base_folder: Path) -> Tokenizer:
    """Return the fast tokenizer of a base.

    Raises:
        BaseModelError: the base has none.
    """
    from tokenizers import Tokenizer

    path = base_folder / TOKENIZER
    if not path.is_file():
        raise BaseModelError(f"{path} is missing; a base needs a fast tokenizer (tokenizer.json)")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
