"""What the Nodes of a graph say, and how much of the right answer is in it. Pure numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuromas.rollout.record import Group, NodeCall

_SHUFFLES = 50


@dataclass(frozen=True, slots=True)
class Messages:
    """The messages of one Node over all examples.

    Attributes:
        node: id of the Node.
        distinct: different messages.
        common: the most frequent message.
        common_share: share of all messages that are the most frequent one.
        entropy_bits: Shannon entropy of the messages as observed.
        answer_bits: mutual information with the right answer above what shuffled answers give, at least 0.
        tokens: mean length.
        cut_share: share of messages that ended at the token budget.
    """

    node: str
    distinct: int
    common: str
    common_share: float
    entropy_bits: float
    answer_bits: float
    tokens: float
    cut_share: float


def messages(groups: Sequence[Group], nodes: Sequence[str], seed: int = 0) -> list[Messages]:
    """Return what each Node says in groups of one rollout; a Node without a single message is left out."""
    found = []
    for node in nodes:
        said = [(group.example.answer, call) for group in groups for call in _calls(group, node)]
        if said:
            found.append(_messages(node, [answer for answer, _ in said], [call for _, call in said], seed))
    return found


def entropy_bits(values: Sequence[str]) -> float:
    """Return the Shannon entropy of the observed frequencies, bits."""
    shares = np.array(list(Counter(values).values())) / len(values)
    return float(-(shares * np.log2(shares)).sum())


def information_bits(first: Sequence[str], second: Sequence[str], seed: int = 0) -> float:
    """Return the mutual information of two columns above chance, bits, at least 0.

    The plain estimate from frequencies grows with the number of different values even where the columns have nothing
    to do with each other. What it gives on average when one column is shuffled is therefore taken off.
    """
    generator = np.random.default_rng(seed)
    shuffled = [_mutual_bits(first, [second[k] for k in generator.permutation(len(second))]) for _ in range(_SHUFFLES)]
    return max(0.0, _mutual_bits(first, second) - float(np.mean(shuffled)))


def _mutual_bits(first: Sequence[str], second: Sequence[str]) -> float:
    pairs = [f"{one}\x1f{other}" for one, other in zip(first, second, strict=True)]
    return entropy_bits(first) + entropy_bits(second) - entropy_bits(pairs)


def _messages(node: str, answers: Sequence[str], calls: Sequence[NodeCall], seed: int) -> Messages:
    texts = [call.text for call in calls]
    common, count = Counter(texts).most_common(1)[0]
    return Messages(
        node=node,
        distinct=len(set(texts)),
        common=common,
        common_share=count / len(texts),
        entropy_bits=entropy_bits(texts),
        answer_bits=information_bits(texts, answers, seed),
        tokens=sum(len(call.completion_token_ids) for call in calls) / len(calls),
        cut_share=sum(call.finish_reason == "length" for call in calls) / len(calls),
    )


def _calls(group: Group, node: str) -> list[NodeCall]:
    return [call for rollout in group.rollouts for call in rollout.calls if call.node == node]
