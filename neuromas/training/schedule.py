"""Learning rate and entropy weight as pure functions of the step, so that a resumed stage goes on as it was."""

from __future__ import annotations

from neuromas.spec.training import EntropySpec, TrainingSpec


def learning_rate_factor(step: int, stage_steps: int, spec: TrainingSpec, *, warmup: bool, decay: bool) -> float:
    """Return the factor on ``training.learning_rate`` for optimizer step ``step`` (from 0) of a stage.

    Linear warm-up over ``warmup_steps``, constant, then linear to ``final_learning_rate_ratio`` over the last
    ``decay_fraction`` of the stage.

    Args:
        step: optimizer steps done before this one.
        stage_steps: length of the stage.
        spec: the training section.
        warmup: False for a stage that goes on where another left off.
        decay: False for a stage whose length is not known in advance.
    """
    rising = min(1.0, (step + 1) / spec.warmup_steps) if warmup and spec.warmup_steps else 1.0
    if not decay or spec.decay_fraction == 0:
        return rising
    done = (step / stage_steps - (1 - spec.decay_fraction)) / spec.decay_fraction
    return rising * (1 - (1 - spec.final_learning_rate_ratio) * min(1.0, max(0.0, done)))


def entropy_weight(step: int, stage_steps: int, spec: EntropySpec) -> float:
    """Return the weight of the entropy bonus at optimizer step ``step`` (from 0) of a stage."""
    return spec.start * max(0.0, 1 - step / (spec.until * stage_steps))
