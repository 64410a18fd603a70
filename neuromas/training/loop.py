"""Ties the training loop of transformers to a stage: where it begins, its gradients, its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback

StepHook = Callable[[int, Mapping[str, float]], bool]
"""Called after each optimizer step with the steps done and the metrics; returns whether to stop."""


class LoopHooks(TrainerCallback):  # type: ignore[misc]
    """The callback of a stage's trainer."""

    def __init__(
        self,
        first_step: int,
        finish_gradients: Callable[[], None],
        metrics: Callable[[], Mapping[str, float]],
        on_step: StepHook,
    ) -> None:
        """Set up the hooks.

        Args:
            first_step: optimizer steps of the stage that were done before.
            finish_gradients: called between the backward pass and the optimizer's step.
            metrics: our metrics of the step that was just logged; TRL's own are added as ``trl/<name>``.
            on_step: see ``StepHook``.
        """
        self._first_step, self._finish_gradients = first_step, finish_gradients
        self._metrics, self._on_step = metrics, on_step

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count steps from where the stage stands, so that schedules and trackers go on."""
        state.global_step = self._first_step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Clip, mask and check the gradients."""
        self._finish_gradients()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        """End a step: it is logged exactly once, after its optimizer step."""
        if "loss" not in logs:  # the summary at the end of training
            return
        ours = self._metrics()
        theirs = {f"trl/{key}": value for key, value in logs.items() if key not in ours and value is not None}
        if self._on_step(state.global_step, {**ours, **theirs}):
            control.should_training_stop = True
