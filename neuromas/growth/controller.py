"""The rules of a growth schedule: what follows after the stages so far. Pure; touches no weights and no graph.

The default is the schedule that beat its controls (``docs/evidence/growth.md``): once the validation accuracy on the
current level passes the threshold, the level is raised and the graph grows at the same time. It never grows from a
plateau below the threshold, since a graph that settled on a shortcut keeps it when it grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuromas.errors import GrowthError
from neuromas.growth.request import Notice
from neuromas.growth.triggers import Reason, Trigger, make_trigger
from neuromas.spec.growth import GrowthSpec, PlanSpec


@dataclass(frozen=True, slots=True)
class Ended:
    """What the controller reads of a finished stage.

    Attributes:
        steps: optimizer steps charged to it, those of all arms of its trial included.
        reason: what ended it.
        accuracy: greedy held-out accuracy on its level at its end.
        rolled_back: True where it was opened by a trial in which no growth beat the parent.
        sampled_accuracy: that of sampled answers.
    """

    steps: int
    reason: Reason
    accuracy: float
    rolled_back: bool = False
    sampled_accuracy: float = 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """Length and level of the next stage; see ``StageRequest`` for the fields."""

    index: int
    level: int | None
    steps: int
    decay: bool
    trigger: Trigger | None


@dataclass(frozen=True, slots=True)
class Continue:
    """Train the same graph for one more stage."""

    budget: Budget
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Grow:
    """Grow the graph, then train the stage. Several ``plans`` are candidates for a trial, in order."""

    plans: tuple[PlanSpec, ...]
    budget: Budget
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Scratch:
    """Apply all ``plans`` to the first graph and train the result from new adapters."""

    plans: tuple[PlanSpec, ...]
    budget: Budget
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """The schedule is over. ``finished`` is False where it could not reach its last stage."""

    finished: bool
    notices: tuple[Notice, ...] = ()


Decision = Continue | Grow | Scratch | Stop


@dataclass(frozen=True, slots=True)
class Controller:
    """Decides from the history of finished stages alone, so a resumed run decides the same again.

    Attributes:
        spec: the section ``growth`` of the run spec.
        task_levels: all levels the task has; empty when it has none.
        total_steps: the run's budget, ``training.steps``; binding where the last stage has no length of its own.

    Raises:
        GrowthError: the spec names a level that the task does not have.
    """

    spec: GrowthSpec
    task_levels: tuple[int, ...]
    total_steps: int

    def __post_init__(self) -> None:
        unknown = [level for level in self.spec.levels if level not in self.task_levels]
        if unknown:
            allowed = (
                f"the task's levels {list(self.task_levels)}" if self.task_levels else "none: the task has no levels"
            )
            raise GrowthError(f"growth.levels: got {unknown}, allowed are {allowed}")

    @property
    def is_bound_by_total(self) -> bool:
        """Whether ``total_steps`` bounds the whole schedule; else every stage has a length of its own."""
        return self.spec.final_steps is None and not self.spec.steps_per_level

    def decide(self, history: Sequence[Ended]) -> Decision:
        """Return what comes after the finished stages, oldest first."""
        if not history:
            return self._open()
        index, last = len(history), history[-1]
        if self._is_last(index - 1, history):
            notice = Notice("growth_done", f"schedule done after {index} stages, accuracy {last.accuracy:.3f}")
            return Stop(finished=True, notices=(notice,))
        if (obstacle := self._obstacle(last)) is not None:
            return Stop(finished=False, notices=(obstacle,))
        steps = self._steps(index, history)
        if steps < 1:
            return Stop(finished=False, notices=(self._out_of_budget(history),))
        budget = self._budget(index, steps, history)
        plans = self._plans(index)
        if not plans or (not self.spec.levels and last.rolled_back):
            return Continue(budget)
        reached = f"accuracy {last.accuracy:.3f} after {last.steps} steps ({last.reason})"
        return Grow(plans, budget, (Notice("growth_due", f"{reached}: growing for {_level_text(budget.level)}"),))

    def _open(self) -> Decision:
        budget = self._budget(0, self._steps(0, ()), ())
        if self.spec.levels:
            return Continue(budget)
        has_levels = (
            f"the task has levels {list(self.task_levels)}, but growth.levels names none"
            if self.task_levels
            else "the task has no levels"
        )
        advice = f"{has_levels}: on a fixed task no growth is known to beat training the full size from scratch"
        if self.spec.without_levels == "scratch":
            notice = Notice("growth_without_levels", f"{advice}, so that is what this run does")
            return Scratch(self.spec.plans, budget, (notice,))
        notice = Notice("growth_without_levels", f"{advice} (growth.without_levels = 'scratch'); growing as asked")
        return Continue(budget, (notice,))

    def _obstacle(self, last: Ended) -> Notice | None:
        """Return why the graph must not grow now; None when it may."""
        if self.spec.trigger.type == "steps":
            return None
        if last.reason == "collapse":
            return Notice(
                "growth_refused",
                f"the stage collapsed to accuracy {last.accuracy:.3f}; nothing is grown from it. "
                "Lower training.learning_rate, or start again from its best checkpoint",
                {"reason": "collapse", "accuracy": last.accuracy},
            )
        if last.reason == "threshold":
            return None
        trigger = self.spec.trigger
        for setting, reached, needed in (
            ("accuracy", last.accuracy, trigger.accuracy),
            ("sampled_accuracy", last.sampled_accuracy, trigger.sampled_accuracy),
        ):
            if reached < needed:
                return _below(setting, reached, needed, last.steps)
        return None

    def _budget(self, index: int, steps: int, history: Sequence[Ended]) -> Budget:
        last = self._is_last(index, history)
        level = self.spec.levels[index] if self.spec.levels else None
        trigger = None if last else make_trigger(self.spec.trigger, steps)
        return Budget(index, level, steps, decay=last, trigger=trigger)

    def _steps(self, index: int, history: Sequence[Ended]) -> int:
        """Return the most steps that stage ``index`` may take; below 1 when nothing is left."""
        if self.spec.steps_per_level:
            return self.spec.steps_per_level[index]
        last = self._is_last(index, history)
        if self.spec.final_steps is not None:
            return self.spec.final_steps if last else self.spec.max_steps_per_level
        left = self.total_steps - sum(stage.steps for stage in history)
        return left if last else min(self.spec.max_steps_per_level, left)

    def _is_last(self, index: int, history: Sequence[Ended]) -> bool:
        """Whether stage ``index`` ends the schedule: by number, or, on a fixed task, after a trial without a winner."""
        if index >= self.spec.num_stages - 1:
            return True
        return not self.spec.levels and any(stage.rolled_back for stage in history[:index])

    def _plans(self, index: int) -> tuple[PlanSpec, ...]:
        plans = self.spec.plans
        if self.spec.trial is not None or len(plans) <= 1:
            return plans
        return (plans[index - 1],)

    def _out_of_budget(self, history: Sequence[Ended]) -> Notice:
        spent = sum(stage.steps for stage in history)
        return Notice(
            "growth_refused",
            f"{spent} of training.steps = {self.total_steps} are spent after {len(history)} of {self.spec.num_stages} "
            "stages; raise training.steps or give growth.final_steps",
            {"reason": "budget", "spent": spent},
        )


def _below(setting: str, reached: float, needed: float, steps: int) -> Notice:
    return Notice(
        "growth_refused",
        f"{setting.replace('_', ' ')} {reached:.3f} after {steps} steps is below growth.trigger.{setting} = {needed}: "
        "a plateau is not grown from, because the larger graph would keep its shortcut. Raise "
        "growth.max_steps_per_level, lower the threshold, or train the full size from scratch",
        {"reason": "plateau", setting: reached, "threshold": needed},
    )


def _level_text(level: int | None) -> str:
    return "the same task" if level is None else f"level {level}"
