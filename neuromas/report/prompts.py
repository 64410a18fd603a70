"""What the nodes read, for the rollouts of a report, as far as there is room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from neuromas.errors import NeuroMASError
from neuromas.report.data import Document, RunData

MAX_CHARACTERS: Final = 1_000_000
"""Of the prompts of one part of a report."""


def read_prompts(data: RunData, rollouts: Sequence[Document]) -> tuple[list[Mapping[str, str]], str]:
    """Return, for each rollout, what its nodes read, by node; and what a reader must know of what is missing.

    Prompts of the last rollouts come first where there is no room for all.
    """
    graphs = {stage.index: stage.topology for stage in data.stages}
    found: list[Mapping[str, str]] = [{} for _ in rollouts]
    room = MAX_CHARACTERS
    for place in range(len(rollouts) - 1, -1, -1):
        rollout = rollouts[place]
        graph = graphs.get(rollout["stage"])
        if graph is None:
            continue
        asked = [message["node"] for message in rollout["messages"] if message.get("prompt_tokens")]
        try:
            texts = {node: data.prompts.text(graph, rollout, node) for node in asked}
        except NeuroMASError as error:
            return [{} for _ in rollouts], f" What the nodes read is not shown: {error}."
        room -= sum(map(len, texts.values()))
        if room < 0:
            return found, f" What the nodes read is shown of the last {len(rollouts) - 1 - place}."
        found[place] = texts
    return found, ""
