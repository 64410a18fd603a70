"""What a batch of rollouts cost."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(slots=True)
class RolloutStats:
    """Counts and seconds of one or more batches; seconds are wall-clock of the process that drove the engine.

    Attributes:
        rollouts: finished rollouts, failed ones included.
        failed_rollouts: rollouts in which a call failed.
        calls: finished calls.
        truncated_calls: calls that hit their token budget.
        prompt_tokens: tokens given to the engine.
        cached_tokens: those of them that the prefix cache spared.
        generated_tokens: tokens sampled.
        engine_steps: steps the engine was driven.
        total_s: from the first submission to the last result.
        engine_s: inside the engine (submit and step).
        render_s: making prompts from texts.
        decode_s: making texts from sampled tokens.
    """

    rollouts: int = 0
    failed_rollouts: int = 0
    calls: int = 0
    truncated_calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    engine_steps: int = 0
    total_s: float = 0.0
    engine_s: float = 0.0
    render_s: float = 0.0
    decode_s: float = 0.0

    def __add__(self, other: RolloutStats) -> RolloutStats:
        return RolloutStats(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))
