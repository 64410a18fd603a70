"""The rules of a growth schedule: what follows after the stages so far. Pure; touches no weights and no graph.

The default is the schedule that beat its controls (``docs/evidence/growth.md``): once the validation accuracy on the
current level passes the threshold, the level is raised and the graph grows at the same time. It never grows from a
plateau below the threshold, since a graph that settled on a shortcut keeps it when it grows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from neuromas.errors import GrowthError
from neuromas.growth.stage import GrowthNotice, StageOutcome
from neuromas.growth.triggers import Trigger, make_trigger
from neuromas.spec.growth import GrowthSpec, PlanSpec


@dataclass(frozen=True, slots=True)
class Train:
    """Train one more stage.

    Attributes:
        number: of the scheduled stage, from 0; the arms of a trial open the stage that they are for.
        level: task level; None = the task's target.
        steps: upper bound of optimizer steps.
        is_last: whether the schedule ends with it; then the learning rate falls towards its end.
        trigger: rule that may end it earlier.
        plans: how the graph is grown before; several are candidates for a trial, in order. Empty = not at all.
        is_scratch: apply all ``plans`` to the first graph and train the result from new adapters.
        notices: what the user should read.
    """

    number: int
    level: int | None
    steps: int
    is_last: bool
    trigger: Trigger | None
    plans: tuple[PlanSpec, ...] = ()
    is_scratch: bool = False
    notices: tuple[GrowthNotice, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """The schedule is over. ``finished`` is False where it could not reach its last stage."""

    finished: bool
    notices: tuple[GrowthNotice, ...] = ()


Decision = Train | Stop


@dataclass(frozen=True, slots=True)
class Controller:
    """Decides from the history of finished stages alone, so a resumed run decides the same again.

    Attributes:
        spec: the section ``growth`` of the run spec.
        task_levels: all levels the task has, the highest last; empty when it has none.
        total_steps: the run's budget, ``training.steps``; binding where the last stage has no length of its own.

    Raises:
        GrowthError: the spec names a level that the task does not have, or ends below the task's highest.
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
        if self.spec.levels and self.spec.levels[-1] != self.task_levels[-1]:
            raise GrowthError(
                f"growth.levels end at {self.spec.levels[-1]}; the last must be the target, which results are measured "
                f"on: the task's highest level, {self.task_levels[-1]}. End at it, or give the task no higher level"
            )

    @property
    def is_bound_by_total(self) -> bool:
        """Whether ``total_steps`` bounds the whole schedule; else every stage has a length of its own."""
        return self.spec.final_steps is None and not self.spec.steps_per_level

    def decide(self, history: Sequence[StageOutcome], lost: Collection[int] = ()) -> Decision:
        """Return what comes after the finished stages.

        Args:
            history: the finished stages, oldest first; ``steps`` of each are those charged to it, of all arms of its
                trial.
            lost: numbers of those that were opened by a trial in which no growth beat the parent.
        """
        if not history:
            return self._open()
        number, last = len(history), history[-1]
        if self._is_last(number - 1, lost):
            notice = GrowthNotice("growth_done", f"schedule done after {number} stages, accuracy {last.accuracy:.3f}")
            return Stop(finished=True, notices=(notice,))
        if (obstacle := self._obstacle(last)) is not None:
            return Stop(finished=False, notices=(obstacle,))
        train = self._train(number, history, lost)
        if train.steps < 1:
            return Stop(finished=False, notices=(self._out_of_budget(history),))
        plans = self._plans(number)
        if not plans or (not self.spec.levels and number - 1 in lost):
            return train
        reached = f"accuracy {last.accuracy:.3f} after {last.steps} steps ({last.reason})"
        notice = GrowthNotice("growth_due", f"{reached}: growing for {_level_text(train.level)}")
        return replace(train, plans=plans, notices=(notice,))

    def _open(self) -> Train:
        train = self._train(0, (), ())
        if self.spec.levels:
            return train
        has_levels = (
            f"the task has levels {list(self.task_levels)}, but growth.levels names none"
            if self.task_levels
            else "the task has no levels"
        )
        advice = f"{has_levels}: on a fixed task no growth is known to beat training the full size from scratch"
        if self.spec.without_levels == "scratch":
            notice = GrowthNotice("growth_without_levels", f"{advice}, so that is what this run does")
            return replace(train, plans=self.spec.plans, is_scratch=True, notices=(notice,))
        notice = GrowthNotice(
            "growth_without_levels", f"{advice} (growth.without_levels = 'scratch'); growing as asked"
        )
        return replace(train, notices=(notice,))

    def _obstacle(self, last: StageOutcome) -> GrowthNotice | None:
        """Return why the graph must not grow now; None when it may."""
        if self.spec.trigger.type == "steps":
            return None
        if last.reason == "collapse":
            return GrowthNotice(
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

    def _train(self, number: int, history: Sequence[StageOutcome], lost: Collection[int]) -> Train:
        """Return stage ``number`` on the graph as it is; its steps are below 1 when nothing is left."""
        is_last = self._is_last(number, lost)
        level = self.spec.levels[number] if self.spec.levels else None
        steps = self._steps(number, history, is_last=is_last)
        return Train(number, level, steps, is_last, None if is_last else make_trigger(self.spec.trigger, steps))

    def _steps(self, number: int, history: Sequence[StageOutcome], *, is_last: bool) -> int:
        """Return the most steps that a stage may take; below 1 when nothing is left."""
        if self.spec.steps_per_level:
            return self.spec.steps_per_level[number]
        if self.spec.final_steps is not None:
            return self.spec.final_steps if is_last else self.spec.max_steps_per_level
        left = self.total_steps - sum(stage.steps for stage in history)
        return left if is_last else min(self.spec.max_steps_per_level, left)

    def _is_last(self, number: int, lost: Collection[int]) -> bool:
        """Whether a stage ends the schedule: by number, or, on a fixed task, after a trial without a winner."""
        if number >= self.spec.num_stages - 1:
            return True
        return not self.spec.levels and any(trial < number for trial in lost)

    def _plans(self, number: int) -> tuple[PlanSpec, ...]:
        plans = self.spec.plans
        if self.spec.trial is not None or len(plans) <= 1:
            return plans
        return (plans[number - 1],)

    def _out_of_budget(self, history: Sequence[StageOutcome]) -> GrowthNotice:
        spent = sum(stage.steps for stage in history)
        return GrowthNotice(
            "growth_refused",
            f"{spent} of training.steps = {self.total_steps} are spent after {len(history)} of {self.spec.num_stages} "
            "stages; raise training.steps or give growth.final_steps",
            {"reason": "budget", "spent": spent},
        )


def _below(setting: str, reached: float, needed: float, steps: int) -> GrowthNotice:
    return GrowthNotice(
        "growth_refused",
        f"{setting.replace('_', ' ')} {reached:.3f} after {steps} steps is below growth.trigger.{setting} = {needed}: "
        "a plateau is not grown from, because the larger graph would keep its shortcut. Raise "
        "growth.max_steps_per_level, lower the threshold, or train the full size from scratch",
        {"reason": "plateau", setting: reached, "threshold": needed},
    )


def _level_text(level: int | None) -> str:
    return "the same task" if level is None else f"level {level}"
