"""What nodes of kept rollouts read: prompts are not kept, they are rendered again from what is. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from neuromas.errors import BaseModelError, NeuroMASError, RolloutError, SpecError
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.renderer import Renderer
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.tasks.base import Example
from neuromas.topology.graph import Topology

Document = Mapping[str, Any]


class PromptReader:
    """Renders the prompts of a run's kept rollouts."""

    def __init__(self, renderer: Renderer, max_tokens: int) -> None:
        """Take what a run writes its prompts with.

        Args:
            renderer: of its base and settings.
            max_tokens: budget of nodes without one of their own.
        """
        self._renderer = renderer
        self._max_tokens = max_tokens

    @classmethod
    def of(cls, spec: Document, base_folder: Path) -> PromptReader:
        """Return the reader of a run.

        Args:
            spec: resolved, as a document; its sections ``prompt`` and ``sampling`` are read.
            base_folder: of the base it was trained on.

        Raises:
            BaseModelError: the base cannot be read.
            SpecError: the sections are not those of a run of this version.
        """
        try:
            prompt = PromptSpec.model_validate(spec.get("prompt", {}))
            sampling = SamplingSpec.model_validate(spec.get("sampling", {}))
        except ValidationError as error:
            raise SpecError("the run's settings of prompts are not those of this version of NeuroMAS") from error
        return cls(make_renderer(prompt, base_folder), sampling.max_tokens)

    def text(self, topology: Topology, rollout: Document, node_id: str) -> str:
        """Return what a node read: all of its prompt, control tokens by their names.

        Args:
            topology: the graph of the rollout's stage.
            rollout: a line of ``rollouts.jsonl`` or ``questions.jsonl``.
            node_id: of the node.

        Raises:
            RolloutError: the node was not asked.
            BaseModelError: the prompt has another length than it had, so the base is not the one that read it.
        """
        messages = {message["node"]: message for message in rollout["messages"]}
        read = messages[node_id].get("prompt_tokens", 0) if node_id in messages else 0
        if not read:
            raise RolloutError(f"node {node_id!r} was not asked in this rollout")
        example = Example(rollout["example"], rollout["question"], rollout["expected"], rollout.get("level"))
        budget = topology.node(node_id).max_tokens or self._max_tokens
        try:
            signals = [(sender, messages[sender]["text"]) for sender in topology.predecessors(node_id)]
            prompt = self._renderer.render(topology, node_id, example, signals, budget)
        except (NeuroMASError, KeyError) as error:
            raise BaseModelError(f"the prompt of node {node_id!r} cannot be written again: {error}") from error
        if len(prompt) != read:
            raise BaseModelError(
                f"the prompt of node {node_id!r} had {read} tokens and has {len(prompt)} when it is written again: "
                "the base is not the one that the run was trained on"
            )
        return self._renderer.spell(prompt)
