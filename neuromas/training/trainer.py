"""JointTrainer: TRL's GRPOTrainer over all Nodes of a graph at once. The only file that knows TRL.

One dataset row is one sample of the output. Where TRL has to score calls itself (KL, correction of the sampler) there
is one row per call, in the order (prompt, Node, g). TRL keeps its training loop, importance-sampling correction,
reference pass, metrics, trackers and data parallelism. Ours are the rollouts, the advantages, which rows are trained
on, the forward passes (packed, routed to adapters, each Node at its temperature), the losses and the optimizer.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import transformers
import trl.import_utils as trl_imports
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback, TrainerState

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.initial import stream
from neuromas.errors import TrainingError
from neuromas.growth.stage import Stage
from neuromas.losses.registry import LOSSES
from neuromas.rollout.record import Group
from neuromas.spec.training import TrainingSpec
from neuromas.training.advantage import RunningBaseline
from neuromas.training.call_batch import CallBatch, call_batch, rows_of_calls, rows_of_samples
from neuromas.training.loop import LoopHooks
from neuromas.training.memory import update_memory
from neuromas.training.metrics import StepMeter
from neuromas.training.not_finite import check_logprobs, gradient_error, loss_error
from neuromas.training.optimizer import NodeAdamW
from neuromas.training.packing import Bucket
from neuromas.training.parity import (
    Published,
    check_calls,
    check_nodes,
    check_seeds,
    differences,
    measure_parity,
    probed_calls,
    tolerance,
)
from neuromas.training.passes import Passes
from neuromas.training.schedule import entropy_weight, learning_rate_factor
from neuromas.training.scoring import add_scoring, check_scoring, score_bucket
from neuromas.training.step_metrics import count_batch, count_sampling, measure_bucket
from neuromas.training.step_plan import NodePolicies, StepPlan, plan_step
from neuromas.training.trl_arguments import TRACKED_PROJECT, trl_arguments
from neuromas.training.workplace import Workplace

if TYPE_CHECKING:
    from neuromas.training.session import StageSession

# TRL imports vLLM and Ray wherever they are installed, which doubles its import time; it never serves our rollouts.
trl_imports.is_vllm_available = lambda *_args, **_kwargs: False

from trl import GRPOConfig, GRPOTrainer  # noqa: E402 - must follow the lines above


class JointTrainer(GRPOTrainer):  # type: ignore[misc]
    """Trains all adapters of a stage; the session gives it rollouts and hears of every step. See ``session``.

    Attributes:
        bank: the adapters.
        running: baseline of estimator "reinforce".
        nodes_optimizer: the optimizer, before accelerate wraps it.
        metrics: our metrics of the last step, over all processes.
    """

    def __init__(
        self,
        model: Any,
        bank: AdapterBank,
        tokenizer: PreTrainedTokenizerBase,
        place: Workplace,
        stage: Stage,
        session: StageSession,
    ) -> None:
        """Set up a stage of the run at ``place``, with a PeftModel that has the bank's adapters."""
        self.bank = bank
        self.running = RunningBaseline()
        self.metrics: dict[str, float] = {}
        self._run, self._stage, self._session = place.spec, stage, session
        self._spec = spec = place.spec.training
        self._policies = NodePolicies.of(stage.topology, bank.names, place.spec.sampling)
        self._tokens_per_forward = update_memory(place.spec).tokens_per_forward
        arguments = trl_arguments(place.spec, stage, place.folder, self._policies.max_tokens, place.peers.size)
        self._plan: StepPlan | None = None
        self._batch: CallBatch | None = None
        self._published: Published | None = None
        self._has_optimizer = False
        self._meter = StepMeter()
        self._clock = time.perf_counter()
        _silence()
        os.environ.setdefault("WANDB_PROJECT", TRACKED_PROJECT)
        super().__init__(
            model=model,
            reward_funcs=_terminal_reward,
            args=GRPOConfig(**arguments),
            train_dataset=_placeholder(spec, stage.steps - session.first_step),
            processing_class=tokenizer,
            callbacks=[LoopHooks(self)],
        )
        if (seen := self.accelerator.num_processes) != place.peers.size:
            raise TrainingError(
                f"accelerate sees {seen} processes, the run has {place.peers.size} learners; set RANK, LOCAL_RANK "
                "and WORLD_SIZE in each"
            )
        self.remove_callback(PrinterCallback)
        self._allowed = tolerance(spec.parity_tolerance, next(model.get_base_model().parameters()).dtype)
        add_scoring(model.get_base_model())
        with model.disable_adapter():
            check_scoring(model, self._allowed, packed=spec.forward == "packed")
        # Set here and not in the config, where TRL would make a second adapter its reference: ours is the bare base.
        self.beta = spec.kl_weight
        self._corrected = spec.old_logprobs == "trainer"
        self._scores_calls = self._corrected or self.beta > 0
        self.use_vllm = self._corrected  # TRL then corrects for the sampler, whichever it is
        self._passes = Passes(bank, place)
        self._attention_scale = 4 * int(model.config.get_text_config().hidden_size)

    def _send_telemetry(self) -> None:
        """Send nothing: a run contacts no one that it was not told of."""

    # -- the loop

    def begin(self, state: TrainerState) -> None:
        """Let the loop count on from the steps that are done; what it logs first is the loss of one step."""
        state.global_step = self._globalstep_last_logged = self._session.first_step

    def end_step(self, logs: Mapping[str, Any]) -> bool:
        """Hand a step's metrics over, TRL's as ``trl/<name>``; returns whether the stage ends."""
        theirs = {f"trl/{key}": value for key, value in logs.items() if key not in self.metrics and value is not None}
        return self._session.after_step(self.state.global_step, {**self.metrics, **theirs})

    # -- the batch

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """One step; every random choice in it depends on (seed, stage, step) alone."""
        self._clock = time.perf_counter()
        self._meter = StepMeter()
        key = ("step", self._run.seed, self._stage.index, self.state.global_step)
        torch.manual_seed(int(stream(*key).integers(1 << 63)))
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Sample a step and keep what its loss reads; returns rows for TRL to buffer as long as the batch is used."""
        rows = len(inputs) * len(self._policies.nodes) if self._scores_calls else len(inputs)
        iterations = self._spec.num_iterations
        self.num_iterations: int = iterations if self._corrected else 1
        try:  # with more iterations TRL would compute old logprobs that the sampler's replace
            scored: dict[str, Any] = super()._generate_and_score_completions([{"prompt": ""} for _ in range(rows)])
        finally:
            self.num_iterations = iterations
        plan = self._planned()
        of_trl = scored if self._scores_calls else {}
        self._batch = call_batch(plan, of_trl, self.accelerator.device) if plan.kept.size else None
        return {"rows": torch.arange(rows)}

    def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
        """Return the step's rollouts in TRL's form.

        In place of TRL's own, which would decode every message again and count tokens that ``rollout/`` counts. TRL
        reads tokens only where it scores calls, for the KL to the base or for its correction of the sampler: then
        there is one row per call, dropped rows masked. Else it scores rewards: a row per sample of the output, empty.
        """
        step = self.state.global_step
        sampled = self._session.sample(step)
        began = time.perf_counter()
        acts_on_all = self._spec.kl_weight > 0 or self._entropy_weight() > 0
        plan = plan_step(
            sampled.groups,
            self._policies,
            self._spec,
            self.running,
            keep_all=acts_on_all,
            current_version=step,
            tokens_per_forward=self._tokens_per_forward,
            attention_scale=self._attention_scale,
            sum_over=self._sum if self.accelerator.num_processes > 1 else None,
        )
        rows = (rows_of_calls if self._scores_calls else rows_of_samples)(plan, self._tokenizer.eos_token_id)
        if len(rows.rewards) != len(prompts):
            raise TrainingError(f"step {step}: got {len(rows.rewards)} rows for a batch of {len(prompts)}")
        check_logprobs(plan.rows.calls, step)
        check_seeds(plan.rows)
        if self._published is not None:
            with self._published.restored():
                self.check_published(sampled.groups, self._published.version)
        if self._passes.is_any(not plan.buckets):
            self.check_published(() if plan.buckets else sampled.groups, step)
        self._published = Published(self.model, step) if self._spec.overlap else None
        self._plan = plan
        count_sampling(self._meter, sampled)
        self._meter.add("time/plan_s", time.perf_counter() - began)
        return rows.prompts, rows.completions, rows.mask, prompts, rows.logprobs, {"final": rows.rewards}, None, []

    # -- forward and loss

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """Return logprobs and entropies of the kept calls, where TRL scores calls; 0 everywhere else."""
        plan = self._planned()
        shape = (input_ids.size(0), logits_to_keep)
        more = self._passes.more(len(plan.buckets))
        logprobs, entropies = self._score(model, plan.buckets, torch.from_numpy(plan.kept), shape)
        self._passes.take_part(model, more)
        return logprobs, (entropies if compute_entropy else None), None

    def _score(
        self, model: nn.Module, buckets: Sequence[Bucket], place: Tensor, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return logprobs and entropies of all tokens of some buckets; that of kept row k is row ``place[k]``."""
        plan, device = self._planned(), self.accelerator.device
        logprobs = torch.zeros(shape[0] * shape[1], device=device)
        entropies = torch.zeros_like(logprobs)
        with self.accelerator.autocast():
            for bucket in buckets:
                self.bank.set_routes(plan.routes[bucket.groups])
                scores = score_bucket(model, bucket, plan.temperatures[bucket.groups], device)
                places = (place[bucket.call_rows] * shape[1] + torch.from_numpy(bucket.steps)).to(device)
                logprobs = logprobs.index_copy(0, places, scores.logprobs)
                entropies = entropies.index_copy(0, places, scores.entropies)
        return logprobs.view(shape), entropies.view(shape)

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Return the step's loss: backward for every pass but the last, whose graph is returned.

        A pass's backward comes before the next forward, since the routes must not change in between. Only the last one
        averages the gradients over the processes, which may have any number of buckets, and even none.
        """
        plan = self._planned()
        count_batch(self._meter, plan)
        passes = [partial(self._bucket_loss, model, bucket) for bucket in plan.buckets]
        passes += [partial(self._passes.idle, model)] * max(self._passes.more(len(passes)), 0 if passes else 1)
        done = 0.0
        for make in passes[:-1]:
            with self.accelerator.no_sync(model):
                loss = make()
                self.accelerator.backward(loss)
            done += loss.item()
        total = passes[-1]() + done
        self._check_parity()
        self._meter.add("train/loss", total.item())
        return total

    def _bucket_loss(self, model: nn.Module, bucket: Bucket) -> Tensor:
        """Return what a bucket adds to the step's loss, times the processes over which gradients are averaged."""
        plan, loss = self._planned(), LOSSES[self._spec.loss]
        assert self._batch is not None, "a plan with buckets has kept calls"
        members = torch.from_numpy(bucket.members)
        part = self._batch.rows(members.to(self.accelerator.device))
        place = torch.zeros(len(plan.kept), dtype=torch.int64)
        place[members] = torch.arange(len(members))
        shape = len(members), part.mask.shape[1]
        logprobs, entropies = self._score(model, (bucket,), place, shape)
        tokens = part.tokens(logprobs, self._spec.clip_low, self._spec.clip_high)
        value = loss(tokens, plan.totals, part.ref_logprobs, self._spec.kl_weight, entropies, self._entropy_weight())
        if not math.isfinite(value.item()):
            nodes = [plan.kept_calls[member].node for member in bucket.members]
            again = partial(self._score, model, (bucket,), place, shape)
            own = self.accelerator.unwrap_model(model)
            raise loss_error(self.state.global_step, nodes, logprobs, part.old_logprobs, own, self.bank, again)
        measure_bucket(self._meter, plan, bucket.members, part, loss, tokens, entropies)
        if self._step % self.num_iterations == 0:
            measure_parity(self._meter, plan, bucket.members, part, logprobs, self._run.sampling.top_p)
        return value * float(self.accelerator.num_processes)

    def _check_parity(self) -> None:
        """Stop the run when trainer and engine disagree about rows that the same weights sampled."""
        version = self.state.global_step
        check_nodes(self._meter.means("parity/logprob_diff_mean/"), self._allowed, version)
        check_calls(self._meter.peaks("parity/call_diff_max/"), self._allowed, version)

    def check_published(self, groups: Sequence[Group], version: int) -> None:
        """Probe a few calls of the engine's ``version`` against the model; raises as ``parity.check_nodes`` does.

        All processes that share the base come here together, those without groups too.
        """
        calls = probed_calls(groups, version)
        if calls or self._passes.are_joint:
            model = self.accelerator.unwrap_model(self.model)
            apart = differences(model, self.bank, self._policies, calls, self._run.sampling.top_p, self._passes)
            check_nodes(apart, self._allowed, version)

    def _entropy_weight(self) -> float:
        return entropy_weight(self.state.global_step, self._stage.steps, self._spec.entropy)

    def _planned(self) -> StepPlan:
        if self._plan is None:
            raise TrainingError("the trainer was asked for a loss before it sampled a step")
        return self._plan

    # -- the optimizer

    def create_optimizer(self, model: nn.Module | None = None) -> NodeAdamW:
        """Create the optimizer over all that the bank trains, once."""
        if not self._has_optimizer:
            self._has_optimizer = True
            self.optimizer = self.nodes_optimizer = NodeAdamW(
                self.bank.trained(),
                self.bank.groups,
                lr=self._spec.learning_rate,
                betas=self._spec.adam_betas,
                weight_decay=self._spec.weight_decay,
            )
        return self.nodes_optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Create the learning-rate schedule of the stage, from the steps already done on."""
        stage, first = self._stage, self._session.first_step

        def factor(step: int) -> float:
            return learning_rate_factor(first + step, stage.steps, self._spec, warmup=stage.warmup, decay=stage.decay)

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factor)
        return self.lr_scheduler

    def finish_gradients(self) -> None:
        """Between backward and the optimizer: the pull, what may move, per-adapter norms and clipping."""
        self._passes.average_gradients()
        restraint, budget, step = self._session.restraint, self._session.budget, self.state.global_step
        free, in_use = restraint.free(step), torch.from_numpy(self._planned().in_use)
        budget.weigh(step, in_use, free)
        restraint.pull_()
        moved = self.bank.with_shared(free, free & in_use)
        self.bank.scale_gradients_(moved.to(self.accelerator.device, torch.float32))
        held = budget.hold_()
        norms = self.bank.grad_norms()
        if not bool(torch.isfinite(norms).all()):
            raise gradient_error(self.state.global_step, self.bank)
        if self._spec.max_node_grad_norm is not None:
            self.bank.clip_(self._spec.max_node_grad_norm, norms)
        for name, norm in zip(self.bank.groups, norms.tolist(), strict=True):
            self._meter.add(f"train/grad_norm/{name}", norm)
        for name, share in budget.shares().items():
            self._meter.add(f"train/budget_share/{name}", share)
        self.nodes_optimizer.set_active(moved, held)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> None:
        """Measure nothing: transformers' own way leaves NaN in every gradient where one is infinite."""

    # -- metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log TRL's metrics together with ours."""
        if "loss" in logs:
            self._meter.add("time/step_s", time.perf_counter() - self._clock)
            if self.accelerator.num_processes > 1:
                own = self._meter
                self._meter = StepMeter()
                for meter in gather_object([own]):
                    self._meter.include(meter)
            self.metrics = self._meter.values() | {"train/learning_rate": logs["learning_rate"]}
            logs = logs | self.metrics
        super().log(logs, start_time)

    def _sum(self, numbers: list[float]) -> list[float]:
        """Sum numbers over the processes, each in its place."""
        tensor = torch.tensor(numbers, dtype=torch.float64, device=self.accelerator.device)
        total: Tensor = self.accelerator.gather(tensor).view(self.accelerator.num_processes, -1).sum(0)
        return list(total.tolist())


def _terminal_reward(final: list[float], **_: Any) -> list[float]:
    """TRL's reward function: the task has scored every rollout once."""
    return final


def _placeholder(spec: TrainingSpec, steps: int) -> Dataset:
    """Return rows for TRL's sampler to count; the examples come with the rollouts."""
    batches = -(-steps // spec.num_iterations)
    return Dataset.from_dict({"prompt": [""] * (batches * spec.prompts_per_step)})


def _silence() -> None:
    """Keep warnings about choices we made on purpose off the terminal."""
    transformers.logging.set_verbosity_error()
    for name in ("trl", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
