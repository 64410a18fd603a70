"""What came out of a run, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuromas.report.numbers import percent, share

Document = Mapping[str, Any]


def verdict(result: Document) -> str:
    """Return the sentence for a ``result.json``.

    Greedy decoding alone can flatter an untrained graph, so a gain counts where greedy and sampled answers agree on it:
    neither is worse, and one is better by more than both 95 % intervals.
    """
    accuracy = result["accuracy"]
    texts = [f"{share(accuracy['greedy'])} right"]
    if "untrained" in accuracy:
        texts.append(f"untrained {percent(accuracy['untrained']['value'])}")
    if "sampled" in accuracy:
        texts.append(f"sampled {percent(accuracy['sampled']['value'])}")
    if "untrained_sampled" in accuracy:
        texts.append(f"untrained and sampled {percent(accuracy['untrained_sampled']['value'])}")
    return f"{_OPENINGS[gain(result)]}: {', '.join(texts)}."


def gain(result: Document) -> int:
    """Return 1 where the graph has learned, -1 where training made it worse, 0 where neither is certain."""
    accuracy = result["accuracy"]
    pairs = [(accuracy[mode], accuracy[before]) for mode, before in _PAIRS.items() if before in accuracy]
    signs = {_sign(after, before) for after, before in pairs} - {0}
    return signs.pop() if len(signs) == 1 else 0


_PAIRS = {"greedy": "untrained", "sampled": "untrained_sampled"}
_OPENINGS = {
    1: "The graph has learned",
    0: "It is not certain that the graph has learned",
    -1: "Training made the graph worse",
}


def _sign(after: Document, before: Document) -> int:
    """Return how two figures differ, by their 95 % intervals; 0 where these meet."""
    return int(after["low"] > before["high"]) - int(after["high"] < before["low"])
