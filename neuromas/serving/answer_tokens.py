"""The tokens that an answer is made of, with the log probabilities that the engine sampled them with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neuromas.rollout.record import NodeCall
from neuromas.serving.question import Answered


@dataclass(frozen=True, slots=True)
class AnswerToken:
    """One token of an answer.

    Attributes:
        text: what it adds; "" where a later token ends the character that it begins.
        logprob: natural log of its probability under the distribution sampled from.
        offset: characters of the answer before it.
    """

    text: str
    logprob: float
    offset: int

    @property
    def entry(self) -> dict[str, Any]:
        """The token as chat completions and responses tell it."""
        known = {"token": self.text, "logprob": self.logprob, "bytes": list(self.text.encode())}
        return known | {"top_logprobs": []}


def answer_tokens(answered: Answered) -> tuple[AnswerToken, ...]:
    """Return the tokens of an answer: none that are no text, and none behind its end."""
    call = output_call(answered)
    texts = answered.graph.renderer.token_texts(call.completion_token_ids)
    whole = "".join(text or "" for text in texts)
    begin = len(whole) - len(whole.lstrip())
    end = begin + len(answered.rollout.answer)
    tokens, place = [], 0
    for text, logprob in zip(texts, call.logprobs, strict=True):
        if text is not None and place < end:
            tokens.append(AnswerToken(text, logprob, max(0, place - begin)))
        place += len(text or "")
    return tuple(tokens)


def output_call(answered: Answered) -> NodeCall:
    """Return the output Node's call, whose message is the answer."""
    output = answered.graph.topology.output
    return next(call for call in answered.rollout.calls if call.node == output)
