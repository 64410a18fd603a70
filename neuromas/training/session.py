"""StageSession: one stage from its first step to its last checkpoint.

A step, in order:

 1. publish the adapters as they are, under new names         StepSampler.publish
 2. sample the rollouts of the step's examples                StepSampler.sample, called by StageSession.sample
 3. rewards -> advantages, against the group or a mean        advantage.call_advantages
 4. choose the calls to train on, pack them into buckets      step_plan.plan_step
 5. score them under the base or the old policy, if asked     JointTrainer._generate_and_score_completions (TRL)
 6. per bucket: forward, loss, backward                       JointTrainer._compute_loss, losses.registry
 7. average the gradients over the processes                  in the last backward pass (DDP); of a sharded base: Passes
 8. pull, freeze, clip each adapter on its own                JointTrainer.finish_gradients, Restraint, Budget
 9. move the adapters that made a call                        NodeAdamW.step
10. add the metrics up over the processes                     JointTrainer.log
11. held-out check of the trigger, evaluation where due       StageSession.after_step
12. report, ask the followed questions, write a checkpoint    StageSession.after_step

With ``training.overlap`` the rollouts of 2 were submitted one step before, on the weights of then, and 1 follows them.
With ``training.num_iterations`` above 1 only every so many steps begin with 1 to 5; the others use the same batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from neuromas.adapters.bank import AdapterBank
from neuromas.checkpoints.checkpoint import Checkpoint, CheckpointWriter, read_checkpoint
from neuromas.checkpoints.location import resolve_checkpoint
from neuromas.growth.ledger import Spending
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.growth.triggers import Check, Reason, Trigger
from neuromas.journal.events import CheckpointWritten, Evaluated, Phase, QuestionsAsked, RolloutsSampled, StepDone
from neuromas.rollout.record import Group, Rollout
from neuromas.tasks.base import Task
from neuromas.tasks.held_out import held_out
from neuromas.training.alarms import Alarms
from neuromas.training.budget import Budget
from neuromas.training.data_starts import start_from_rollouts, start_needs
from neuromas.training.evaluate import Accuracy, accuracy
from neuromas.training.restraint import Restraint
from neuromas.training.sampler import StepRollouts, StepSampler
from neuromas.training.start import all_new, check_resume, keep_all, load_moments, load_start
from neuromas.training.trainer import JointTrainer
from neuromas.training.workplace import Workplace

if TYPE_CHECKING:
    from peft import PeftModel

FOLLOWED = 3
"""Validation questions, the first ones of the level, that a stage asks before it begins, with every checkpoint and with
every evaluation: three lines of questions.jsonl each time."""


@dataclass(slots=True)
class StageProgress:
    """What changes from step to step beside the weights."""

    step: int = 0
    reason: Reason = "budget"
    is_over: bool = False
    checks: tuple[Check, ...] = ()
    spending: Spending = field(default_factory=Spending)
    written: Path | None = None
    sampled: StepRollouts | None = None


class StageSession:
    """Trains one stage.

    Attributes:
        first_step: steps done before this session (a resumed stage).
        restraint: which adapters may move, and what pulls them back.
        budget: which parts of them may.
    """

    def __init__(
        self,
        place: Workplace,
        stage: Stage,
        resume: Path | None,
        model: PeftModel,
        bank: AdapterBank,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        writer: CheckpointWriter | None,
    ) -> None:
        """Load the stage's weights and set its trainer up.

        Args:
            place: of the run.
            stage: what to train.
            resume: checkpoint of this very stage to go on from; ``stage.start`` then tells where pulled adapters began.
            model: the base with fresh adapters for the stage's graph.
            bank: the adapters.
            task: draws and scores examples.
            tokenizer: of the base.
            writer: writes checkpoints; None in data-parallel processes other than the first.

        Raises:
            CheckpointError: ``stage.start`` or ``resume`` cannot be used.
        """
        self._place, self._stage, self._bank = place, stage, bank
        self._task, self._writer = task, writer
        self._modules = () if stage.grown is None else tuple(map(resolve_checkpoint, stage.grown.modules))
        start = None if stage.start is None else read_checkpoint(stage.start)
        resumed = None if resume is None else read_checkpoint(resume)
        sources = all_new(bank) if start is None else keep_all(bank) if stage.grown is None else stage.grown.sources
        if start is not None:
            modules = tuple(map(read_checkpoint, self._modules))
            load_start(bank, start, modules, sources, place.spec.seed)
        self.restraint = Restraint(bank, stage)
        self._chance = task.chance(stage.level)
        self._alarms = Alarms(stage.index, self._chance)
        self._progress = StageProgress()
        cursor = 0 if start is None else int(start.state["cursor"])
        if resumed is not None:
            cursor = self._resume(resumed)
        self.first_step = self._progress.step
        self._sampler = StepSampler(place, stage, task, bank.export_all, cursor)
        if place.sharding is not None:
            place.sharding.share(model)
        self._trainer = JointTrainer(model, bank, tokenizer, place, stage, self)
        optimizer = self._trainer.create_optimizer()
        self.budget = Budget(bank, stage.steps)
        if resumed is not None:
            optimizer.restore(resumed.moments, resumed.counts)
            if self._progress.step:
                self.budget.restore(resumed.moments)
            self._trainer.running.restore(resumed.state["baseline"])
            return
        if start is not None and stage.keeps_moments:
            load_moments(optimizer, start, sources)
        if needs := start_needs(bank, sources):
            self._progress.spending += start_from_rollouts(place, stage, task, model, bank, needs, cursor)

    def run(self) -> StageOutcome:
        """Train to the end, evaluate and write the last checkpoint."""
        if self._progress.step < self._stage.steps and not self._progress.is_over:
            if not self._progress.step:
                self._follow()
            self._trainer.train()
        self._progress.is_over = self._progress.reason != "interrupted"
        self._sampler.drain()
        greedy = sampled = None
        if self._progress.is_over:  # who asks to stop wants the checkpoint, soon
            self._sampler.publish(self._progress.step)
            greedy = self._evaluate("greedy", self._place.spec.evaluation.examples, "evaluation")
            sampled = self._evaluate("sampled", self._place.spec.evaluation.examples, "evaluation")
        self._write(greedy.value if greedy is not None else None)
        return StageOutcome(
            name=self._stage.name,
            stage=self._stage.index,
            nodes=len(self._stage.topology.nodes),
            level=self._stage.level,
            steps=self._progress.step,
            reason=self._progress.reason,
            accuracy=greedy.value if greedy is not None else float("nan"),
            sampled_accuracy=sampled.value if sampled is not None else float("nan"),
            examples=len(greedy.rewards) if greedy is not None else 0,
            spending=self._progress.spending,
            checkpoint=self._progress.written or self._place.folder,
            checks=self._progress.checks,
        )

    def close(self) -> None:
        """Make the workers forget the stage's adapters."""
        if self._place.peers.rank == 0 and self._sampler.version >= 0:
            self._place.client.publish({}, sorted(self._sampler.refs().values()))

    # -- set-up

    def _resume(self, checkpoint: Checkpoint) -> int:
        """Take over weights and progress of the stage's own checkpoint; returns the cursor."""
        check_resume(checkpoint, self._stage.name, self._stage.topology)
        self._bank.load_all(checkpoint.adapters)
        state = checkpoint.state
        self._progress.step = int(state["step"])
        self._progress.checks = tuple(Check(int(step), *values) for step, *values in state["checks"])
        self._progress.spending = Spending(**state["spending"])
        if state["ended"] is not None:  # by a trigger, or at its full length; only its record was not written yet
            self._progress.reason, self._progress.is_over = state["ended"], True
        return int(state["cursor"])

    # -- what the trainer calls

    def sample(self, step: int) -> StepRollouts:
        """Return a step's rollouts; those of the next are begun unless a checkpoint lies between the two.

        A checkpoint holds one version of the weights, so the step after it starts afresh: then a resumed stage and
        one that was never interrupted do the same.
        """
        spec = self._place.spec
        more = step + 1 < self._stage.steps
        ahead = bool(spec.training.overlap) and more and not self._is_checkpoint(step + 1)
        self._progress.sampled = self._sampler.sample(step, ahead)
        return self._progress.sampled

    def after_step(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Check, evaluate, report and save after an optimizer step; returns whether the stage ends."""
        progress, spec = self._progress, self._place.spec
        progress.step = step
        progress.spending += _spent(metrics)
        held: dict[str, float] = {}
        reason = self._check(step, held)
        if spec.evaluation.every and step % spec.evaluation.every == 0 and step < self._stage.steps and reason is None:
            self._sampler.publish(step)
            for mode in ("greedy", "sampled"):
                found = self._evaluate(mode, spec.evaluation.examples, "evaluation")
                held[f"eval/accuracy_{mode}"] = found.value if found is not None else 0.0
        if reason is None and any(self._place.peers.gather(int(self._place.stopping.is_set()))):
            reason = "interrupted"
        self._report(step, {**metrics, **held})
        if reason is not None:
            progress.reason = reason
        elif step < self._stage.steps and self._is_checkpoint(step):
            if "eval/accuracy_greedy" not in held:
                self._follow()
            self._write(held.get("eval/accuracy_greedy"))
        return reason is not None

    # -- parts of a step

    def _check(self, step: int, held: dict[str, float]) -> Reason | None:
        """Make the trigger's held-out check where one is due; returns why the stage ends, or None."""
        trigger = self._stage.trigger
        if trigger is None:
            return None
        if trigger.every and step % trigger.every == 0:
            self._sampler.publish(step)
            self._look(trigger, step, held)
        elif trigger.every:
            return None
        reason = trigger.fires(self._progress.checks, step) if self._place.peers.rank == 0 else None
        return self._place.peers.gather(reason)[0]

    def _look(self, trigger: Trigger, step: int, held: dict[str, float]) -> None:
        """Make one held-out check, in the process that reports; sampled answers only where the rule wants them."""
        greedy = self._evaluate("greedy", trigger.examples, "check")
        check = None if greedy is None else Check(step, greedy.value)
        sampled = None
        if self._place.peers.gather(check is not None and trigger.wants_sampled(check))[0]:
            sampled = self._evaluate("sampled", trigger.examples, "check")
        if greedy is None or check is None:
            return
        held["eval/accuracy_check"], answers = greedy.value, len(greedy.rewards)
        if sampled is not None:
            held["eval/accuracy_check_sampled"] = sampled.value
            check, answers = replace(check, sampled_accuracy=sampled.value), answers + len(sampled.rewards)
        self._progress.checks += (check,)
        self._progress.spending += Spending(check_calls=answers * len(self._stage.topology.nodes))

    def _evaluate(self, mode: str, examples: int, purpose: str) -> Accuracy | None:
        """Evaluate the published version on validation questions; None in processes that do not report."""
        if self._place.peers.rank != 0:
            if mode == "sampled":
                self._trainer.check_published((), self._sampler.version)
            return None
        questions = held_out(self._task, self._stage.level, examples, "validation")
        self._place.emit(Phase(name=f"evaluating, {mode}, {len(questions)} questions"))
        groups = self._sampler.rollouts(
            questions,
            greedy=mode == "greedy",
            step=0,
            seed=self._place.spec.evaluation.seed,
        )
        if mode == "sampled":  # greedy logprobs are not those of a temperature
            self._trainer.check_published(groups, self._sampler.version)
        elif purpose == "evaluation":
            self._tell_answers(groups)
        found = accuracy(groups)
        self._place.emit(
            Evaluated(
                stage=self._stage.index,
                step=self._progress.step,
                level=self._stage.level,
                mode="greedy" if mode == "greedy" else "sampled",
                correct=sum(found.rewards),
                examples=found.examples,
                bootstrap=found.interval.bootstrap,
                unasked=found.unasked,
                purpose="check" if purpose == "check" else "evaluation",
            )
        )
        return found

    def _follow(self) -> None:
        """Ask the followed questions, in the process that reports; all publish."""
        self._sampler.publish(self._progress.step)
        if self._place.peers.rank == 0 and self._place.spec.tracking.rollouts_per_sample:
            questions = held_out(self._task, self._stage.level, FOLLOWED, "validation")
            seed = self._place.spec.evaluation.seed
            self._tell_answers(self._sampler.rollouts(questions, greedy=True, step=0, seed=seed))

    def _tell_answers(self, groups: Sequence[Group]) -> None:
        if self._place.spec.tracking.rollouts_per_sample:
            rollouts = tuple(group.rollouts[0] for group in groups[:FOLLOWED])
            self._place.emit(QuestionsAsked(stage=self._stage.index, step=self._progress.step, rollouts=rollouts))

    def _report(self, step: int, metrics: Mapping[str, float]) -> None:
        stage, tracking = self._stage, self._place.spec.tracking
        extra = {"topology/nodes": float(len(stage.topology.nodes))}
        if stage.level is not None:
            extra["stage/level"] = float(stage.level)
        if self._chance is not None:
            extra["stage/chance"] = self._chance
        sampled = self._progress.sampled
        if sampled is not None and tracking.rollouts_per_sample and (step - 1) % tracking.rollouts_every == 0:
            chosen = tuple(_shown(sampled.groups[: tracking.rollouts_per_sample]))
            self._place.emit(RolloutsSampled(stage=stage.index, step=step, rollouts=chosen))
        self._place.emit(StepDone(stage=stage.index, step=step, metrics={**metrics, **extra}))
        for notice in self._alarms.after_step(step, metrics):
            self._place.emit(notice)

    def _is_checkpoint(self, step: int) -> bool:
        """Whether a checkpoint follows ``step`` steps; never inside the iterations over one batch."""
        every = self._place.spec.checkpoint.every
        return bool(every) and step % every == 0 and step % self._place.spec.training.num_iterations == 0

    def _write(self, greedy: float | None) -> None:
        if self._writer is None:
            return
        progress, stage = self._progress, self._stage
        moments, counts = self._trainer.nodes_optimizer.export()
        state: dict[str, Any] = {
            "name": stage.name,
            "index": stage.index,
            "step": progress.step,
            "steps": stage.steps,
            "level": stage.level,
            "cursor": self._sampler.cursor,
            "versions": {name: str(ref) for name, ref in self._sampler.refs().items()},
            "baseline": self._trainer.running.to_document(),
            "checks": [list(astuple(check)) for check in progress.checks],
            "spending": asdict(progress.spending),
            "accuracy": greedy,
            "ended": progress.reason if progress.is_over else None,
            "lineage": {
                "start": None if stage.start is None else str(stage.start),
                "modules": [str(module) for module in self._modules],
            },
        }
        rng = {"seed": self._place.spec.seed, "stage": stage.index, "step": progress.step}
        moments |= self.budget.export()
        checkpoint = Checkpoint(stage.topology, self._bank.state(), moments, counts, rng, state)
        progress.written = self._writer.write(checkpoint)
        self._place.emit(CheckpointWritten(stage=stage.index, step=progress.step, path=str(progress.written)))


def _shown(groups: Sequence[Group]) -> Iterator[Rollout]:
    """Yield the first rollout of each group and, where it has replays, one of another Node than in the group before."""
    for place, group in enumerate(groups):
        yield group.rollouts[0]
        if replays := {rollout.replayed: rollout for rollout in group.rollouts[1:] if rollout.replayed is not None}:
            yield list(replays.values())[place % len(replays)]


def _spent(metrics: Mapping[str, float]) -> Spending:
    """Return what a step sampled, from its metrics."""
    return Spending(
        steps=1,
        rollouts=int(metrics.get("rollout/rollouts", 0)),
        calls=int(metrics.get("rollout/calls", 0)),
        prompt_tokens=int(metrics.get("rollout/prompt_tokens", 0)),
        generated_tokens=int(metrics.get("rollout/tokens", 0)),
    )
