"""Ties the training loop of transformers to our trainer: where it begins, its gradients, its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from neuromas.training.trainer import JointTrainer


class LoopHooks(TrainerCallback):  # type: ignore[misc]
    """The loop's callback: tells the trainer what the loop has come to."""

    def __init__(self, trainer: JointTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count steps from where the stage stands, so that schedules and trackers go on."""
        self._trainer.begin(state)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Clip, mask and check the gradients."""
        self._trainer.finish_gradients()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        """End a step: it is logged exactly once, after its optimizer step."""
        if "loss" in logs and self._trainer.end_step(logs):  # without: the summary at the end of training
            control.should_training_stop = True
