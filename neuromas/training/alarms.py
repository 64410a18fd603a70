"""Alarms: notices that a stage, as its steps go, cannot learn."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import fmean
from typing import Final

from neuromas.journal.events import Notice

PATIENCE: Final = 5
"""Steps in a row after which missing gradients and cut messages are told."""
CHANCE_STEPS: Final = 60
"""Steps without progress from chance after which that is told; graphs that learn after all have waited for 50."""
RECENT_STEPS: Final = 10
"""Steps whose mean reward tells whether a stage is leaving chance just then."""
PROGRESS: Final = 0.05
"""Share of the way from chance to a reward of 1 that counts as progress."""
SOLVED: Final = 0.9
"""Mean reward from which on a stage that has had gradients needs no more of them."""
CUT: Final = 0.95
"""Share of the messages that end at their token budget, from which on it is as good as all."""


class Alarms:
    """Looks at each step's metrics and tells once per kind and stage what keeps the stage from learning.

    - gradient: no group had a gradient for ``PATIENCE`` steps in a row, and the questions are not solved: the mean
      reward is below ``SOLVED``, or no step of the stage has had a gradient at all.
    - truncation: at least ``CUT`` of the messages were cut at their token budget for ``PATIENCE`` steps in a row.
    - chance: the mean reward of the last ``CHANCE_STEPS`` steps, and that of the last ``RECENT_STEPS`` of them, is at
      most ``PROGRESS`` of the way from chance to 1. Only where the task knows its chance, and guesses are not always
      right.

    Steps on the rollouts of an earlier one (training.num_iterations) do not count. A resumed stage counts afresh.
    """

    def __init__(self, stage: int, chance: float | None) -> None:
        """Watch one stage.

        Args:
            stage: index of the stage.
            chance: reward of an answer that follows from no work on the question, 0 to 1; None = unknown.
        """
        self._stage, self._chance = stage, chance
        self._told: set[str] = set()
        self._flat = self._cut = 0
        self._has_learned = False
        self._rewards: deque[float] = deque(maxlen=CHANCE_STEPS)

    def after_step(self, step: int, metrics: Mapping[str, float]) -> list[Notice]:
        """Return what is to be told after a step, given its metrics (``training.metrics``)."""
        if "rollout/rollouts" not in metrics:
            return []
        kept, reward = metrics["train/groups_kept"], metrics["rollout/reward_mean"]
        self._has_learned |= kept > 0
        self._flat = self._flat + 1 if kept == 0 and not (self._has_learned and reward >= SOLVED) else 0
        self._cut = self._cut + 1 if metrics.get("rollout/truncated_fraction", 0.0) >= CUT else 0
        self._rewards.append(reward)
        found = {"gradient": self._gradient(), "truncation": self._truncation(), "chance": self._at_chance()}
        fresh = {kind: text for kind, text in found.items() if text is not None and kind not in self._told}
        self._told |= set(fresh)
        return [
            Notice(
                message=f"stage {self._stage}, step {step}: {text}",
                severity="warning",
                source=kind,
                data={"stage": self._stage, "step": step},
            )
            for kind, text in fresh.items()
        ]

    def _gradient(self) -> str | None:
        if self._flat < PATIENCE:
            return None
        reward = self._rewards[-1]
        advice = (
            "look in rollouts.jsonl whether the task accepts any answer; else take harder questions"
            if reward >= SOLVED
            else "look in rollouts.jsonl whether the task reads the answers; else try easier questions (a lower level, "
            "or growth.levels), a larger training.group_size or training.prompts_per_step, or training.refill_rounds"
        )
        return (
            f"no group had a gradient for {PATIENCE} steps in a row: all rollouts of a question are rewarded alike "
            f"(mean {reward:.3f}). To try: {advice}"
        )

    def _truncation(self) -> str | None:
        if self._cut < PATIENCE:
            return None
        return (
            f"at least {100 * CUT:.0f} % of the messages were cut at their token budget for {PATIENCE} steps in a row. "
            "To try: a larger sampling.max_tokens (or max_tokens of the nodes), a lower training.entropy, or a base "
            "that ends its messages"
        )

    def _at_chance(self) -> str | None:
        chance, rewards = self._chance, list(self._rewards)
        if chance is None or chance >= 1 or len(rewards) < CHANCE_STEPS:
            return None
        line = chance + PROGRESS * (1 - chance)
        if max(fmean(rewards), fmean(rewards[-RECENT_STEPS:])) > line:
            return None
        return (
            f"the mean reward of the last {CHANCE_STEPS} steps is {fmean(rewards):.3f}, a guess is worth {chance:.3f}. "
            "To try: an easier level first (growth.levels), a larger training.prompts_per_step, another "
            "training.learning_rate, or a base that can do one node's part"
        )
