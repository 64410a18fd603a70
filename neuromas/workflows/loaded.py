"""load(): a trained graph in this process, to be asked."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from neuromas.checkpoints.trained import TrainedCheckpoint, find_trained
from neuromas.errors import RolloutError
from neuromas.serving.endpoint import open_server
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.load import ServerLimits
from neuromas.serving.question import Question
from neuromas.spec.machine import EngineType
from neuromas.spec.run import RunSpec
from neuromas.topology.graph import Topology
from neuromas.topology.svg import draw_svg
from neuromas.workflows.answer import Answer

_LIMITS: Final = ServerLimits(max_waiting=sys.maxsize, deadline_s=math.inf)
"""A caller of this process waits for the answers that it asked for, however many they are."""


def load(source: Path | str, *, engine: EngineType | None = None) -> TrainedGraph:
    """Return the trained graph of a run folder (its last checkpoint) or of a checkpoint.

    Args:
        source: the folder.
        engine: what answers; None = the run's own.

    Raises:
        CheckpointError: there is no checkpoint, or it is altered.
    """
    return TrainedGraph(find_trained(Path(source)).on_machine(engine))


class TrainedGraph:
    """A trained graph that answers questions in this process.

    Its engine starts with the first question and ends with ``close``, a ``with`` block or the process.
    """

    def __init__(self, trained: TrainedCheckpoint) -> None:
        self._trained = trained
        self._server: GraphServer | None = None

    @property
    def checkpoint(self) -> Path:
        """Folder of its weights."""
        return self._trained.checkpoint

    @property
    def topology(self) -> Topology:
        """The graph, which growth may have made larger than the spec's."""
        return self._trained.topology

    @property
    def spec(self) -> RunSpec:
        """What its run was trained with."""
        return self._trained.spec

    def ask(self, question: str, *, temperature: float = 0.0, seed: int = 0) -> Answer:
        """Return the answer to a question, with the message of every node.

        Args:
            question: what nodes that read the task see.
            temperature: of nodes that set none of their own; 0 takes the most probable token everywhere.
            seed: makes a sampled answer reproducible.

        Raises:
            TooLongError: the question does not fit the engine's context.
            RolloutError: a call failed.
            NeuroMASError: the engine did not start.
        """
        return self.ask_all([question], temperature=temperature, seed=seed)[0]

    def ask_all(self, questions: Sequence[str], *, temperature: float = 0.0, seed: int = 0) -> list[Answer]:
        """Return the answers to several questions, which share the engine's batches; see ``ask``."""
        server, name = self._open(), self.spec.name
        asked = [Question(name, text, temperature=temperature, seed=seed) for text in questions]
        for question in asked:
            server.check_length(question)
        answers = []
        for future in [server.ask(question) for question in asked]:
            answered = future.result()
            if answered.rollout.failure is not None:
                raise RolloutError(answered.rollout.failure)
            answers.append(Answer.of(answered.rollout, answered.graph.topology, answered.graph.renderer))
        return answers

    def close(self) -> None:
        """Stop the engine. Safe to call twice; a later question starts another."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TrainedGraph({str(self.checkpoint)!r}, {len(self.topology.nodes)} nodes)"

    def _repr_html_(self) -> str:
        """Return the drawing that a notebook shows."""
        return draw_svg(self.topology)

    def _open(self) -> GraphServer:
        if self._server is None:
            self._server = open_server(self._trained, self.spec.name, limits=_LIMITS)
            weakref.finalize(self, self._server.close)
        return self._server
