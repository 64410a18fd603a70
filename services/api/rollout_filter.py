"""Which rollouts are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from neuromas.services.store.base import Document


@dataclass(frozen=True, slots=True)
class RolloutFilter:
    """What a rollout must be like; the page's own, for reports, is in ``report/assets/rollouts.js``.

    Attributes:
        stage: index of its stage; None = any.
        from_step: first step of a stage.
        to_step: last step of a stage.
        result: "right" = reward 1, "wrong" = any other; None = any.
        contains: in small letters, is in the named node's message; without a node in any message, the question, the
            answer or the right answer.
        node: id of a node that has spoken; None = any.
    """

    stage: int | None
    from_step: int
    to_step: int
    result: Literal["right", "wrong"] | None
    contains: str
    node: str | None

    def fits(self, rollout: Document) -> bool:
        """Whether a rollout is as asked for."""
        if self.stage is not None and rollout["stage"] != self.stage:
            return False
        if not self.from_step <= rollout["step"] <= self.to_step:
            return False
        if self.result is not None and (rollout["reward"] >= 1) != (self.result == "right"):
            return False
        said = [message for message in rollout["messages"] if self.node in (None, message["node"])]
        if self.node is not None and not said:
            return False
        texts = [message["text"] for message in said]
        if self.node is None:
            texts += [rollout["question"], rollout["answer"], rollout["expected"]]
        return any(self.contains in text.lower() for text in texts)
