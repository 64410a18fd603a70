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
        tops: the most probable tokens in its place, the best first, as (text, log probability); as many as were asked
            for and have any probability.
    """

    text: str
    logprob: float
    offset: int
    tops: tuple[tuple[str, float], ...] = ()

    @property
    def entry(self) -> dict[str, Any]:
        """The token as chat completions and responses tell it."""
        return _told(self.text, self.logprob) | {"top_logprobs": [_told(*top) for top in self.tops]}


def answer_tokens(answered: Answered) -> tuple[AnswerToken, ...]:
    """Return the tokens of an answer: none that are no text, and none behind its end."""
    call = output_call(answered)
    texts = answered.graph.renderer.token_texts(call.completion_token_ids)
    whole = "".join(text or "" for text in texts)
    begin = len(whole) - len(whole.lstrip())
    end = begin + len(answered.rollout.answer)
    tokens, place = [], 0
    for text, logprob, tops in zip(texts, call.logprobs, _tops(answered, call), strict=True):
        if text is not None and place < end:
            tokens.append(AnswerToken(text, logprob, max(0, place - begin), tops))
        place += len(text or "")
    return tuple(tokens)


def _tops(answered: Answered, call: NodeCall) -> list[tuple[tuple[str, float], ...]]:
    if not call.tops:
        return [()] * len(call.completion_token_ids)
    others = [[token_id for token_id, _ in top] for top in call.tops]
    texts = answered.graph.renderer.other_texts(call.completion_token_ids, others)
    return [
        tuple((text, logprob) for text, (_, logprob) in zip(there, top, strict=True))
        for there, top in zip(texts, call.tops, strict=True)
    ]


def _told(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def output_call(answered: Answered) -> NodeCall:
    """Return the output Node's call, whose message is the answer."""
    output = answered.graph.topology.output
    return next(call for call in answered.rollout.calls if call.node == output)
