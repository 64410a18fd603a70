"""PromptFacts: what a node's prompt says about the graph around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["inner", "output"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """The facts about a graph that natural-language prompts mention.

    Attributes:
        role: "output" is asked for the answer, "inner" for a message.
        depth: layers of the graph, from 1.
        width: nodes of its largest layer, from 1.
        level: of the worked examples that it reads, whatever the question's; None = the question's.
    """

    role: Role
    depth: int
    width: int
    level: int | None = None

    def to_document(self) -> dict[str, object]:
        """Return the view as it is written in a topology document."""
        document: dict[str, object] = {"role": self.role, "depth": self.depth, "width": self.width}
        return document if self.level is None else document | {"level": self.level}
