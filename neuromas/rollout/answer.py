"""What a caller may ask of the answer of a rollout, and the answer while its tokens arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuromas.rollout.text_stream import TextStream


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """Settings of the output Node's message alone.

    Attributes:
        is_streamed: its text is wanted piece by piece.
        stop: texts that end it; the first one to appear is cut off together with what follows.
        max_tokens: its token budget; None = the graph's own.
        num_top: how many of the most probable tokens come with each of its own.
    """

    is_streamed: bool = False
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    num_top: int = 0

    @property
    def is_watched(self) -> bool:
        """Whether the tokens of the answer must be seen before it has ended."""
        return self.is_streamed or bool(self.stop)


AS_TRAINED = AnswerSettings()


class StreamedAnswer:
    """The answer of one rollout under way: its text so far, and the end that a stop text makes of it."""

    def __init__(self, stream: TextStream, stop: Sequence[str]) -> None:
        self._stream = stream
        self._stop = stop
        self._longest_stop = max(map(len, stop), default=0)
        self._told: list[str] = []
        self._open = ""
        self._cut: str | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether a stop text has appeared."""
        return self._cut is not None

    def push(self, token_ids: Sequence[int]) -> str:
        """Add tokens and return the text that is certain now. Not called any more when the answer has stopped."""
        return self._tell(self._stream.push(token_ids))

    def finish(self, text: str) -> tuple[str, str]:
        """Return the last piece and the whole text of the answer.

        Args:
            text: of all sampled tokens, as the renderer decodes it.
        """
        piece = "" if self._cut is not None else self._tell(self._stream.finish(text))
        return (piece + self._open, text) if self._cut is None else (piece, self._cut)

    def _tell(self, piece: str) -> str:
        """Return what of the text up to and with ``piece`` can be told; behind a stop text that is nothing."""
        if not self._stop or not piece:
            return piece
        text = self._open + piece
        ends = [(begin + len(stop), begin) for stop in self._stop if (begin := text.find(stop)) >= 0]
        if ends:
            _, begin = min(ends)  # the first to be complete, whatever pieces the text came in
            told, self._open = text[:begin], ""
            self._cut = "".join(self._told) + told
        else:
            held = self._num_held(text)
            told, self._open = text[: len(text) - held], text[len(text) - held :]
        self._told.append(told)
        return told

    def _num_held(self, text: str) -> int:
        """Return how many characters at the end of ``text`` may be the beginning of a stop text."""
        for length in range(min(len(text), self._longest_stop - 1), 0, -1):
            if any(len(stop) > length and stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0
