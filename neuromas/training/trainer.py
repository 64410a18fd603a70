"""JointTrainer: TRL's GRPOTrainer over all Nodes of a graph at once. The only file that knows TRL.

One dataset row is one rollout. TRL scores the rollouts; its loss then sees the kept calls, one row each. Where TRL has
to score calls itself (KL, correction of the sampler) rows are expanded before that, in the order (prompt, Node, g).
TRL keeps its training loop, losses, importance-sampling correction, KL, metrics, trackers and data parallelism. Ours
are the rollouts, the advantages, which rows are trained on, the forward passes (packed, routed to adapters, each Node
at its temperature) and the optimizer.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers
import trl.import_utils as trl_imports
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback

from neuromas.adapters.bank import AdapterBank
from neuromas.errors import ParityError, TrainingError
from neuromas.spec.training import TrainingSpec
from neuromas.training.advantage import RunningBaseline
from neuromas.training.aggregation import Aggregation, Amount
from neuromas.training.call_batch import call_batch, rows_of_calls, rows_of_rollouts
from neuromas.training.loop import LoopHooks, StepHook
from neuromas.training.metrics import StepMeter
from neuromas.training.optimizer import NodeAdamW
from neuromas.training.packing import Bucket
from neuromas.training.sampler import StepRollouts
from neuromas.training.schedule import entropy_weight, learning_rate_factor
from neuromas.training.scoring import add_scoring, check_scoring, score_bucket
from neuromas.training.stage_settings import TRACKED_PROJECT, StageSettings, trl_arguments
from neuromas.training.step_metrics import count_rollouts, describe_nan, measure_bucket
from neuromas.training.step_plan import StepPlan, plan_step

# TRL imports vLLM and Ray wherever they are installed, which doubles its import time; it never serves our rollouts.
trl_imports.is_vllm_available = lambda *_args, **_kwargs: False

from trl import GRPOConfig, GRPOTrainer  # noqa: E402 - must follow the lines above


class JointTrainer(GRPOTrainer):  # type: ignore[misc]
    """Trains all adapters of a stage. Give it to ``train()``; hooks see every step.

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
        spec: TrainingSpec,
        settings: StageSettings,
        sample: Callable[[int], StepRollouts],
        on_step: StepHook,
        before_optimizer_step: Callable[[int], Tensor] | None = None,
    ) -> None:
        """Set up a stage.

        Args:
            model: a PeftModel with the bank's adapters.
            bank: the adapters.
            tokenizer: of the base.
            spec: the training section.
            settings: the stage.
            sample: returns this process's rollouts of a step.
            on_step: see ``StepHook``.
            before_optimizer_step: called with the step once its gradients are there; may add to them, and returns
                which adapters may move, shape (adapters,), bool. None = all.
        """
        self.bank = bank
        self.running = RunningBaseline(spec.baseline_decay)
        self.metrics: dict[str, float] = {}
        self._spec, self._settings, self._sample = spec, settings, sample
        self._before_optimizer_step = before_optimizer_step
        self._plan: StepPlan | None = None
        self._place = torch.zeros(0, dtype=torch.int64)
        self._active: tuple[Bucket, ...] = ()
        self._scores: tuple[Tensor, Tensor] | None = None
        self._has_optimizer = False
        self._meter = StepMeter()
        self._aggregation = Aggregation(spec.loss, Amount(0, 0), 1, 1)
        self._clock = time.perf_counter()
        _silence()
        os.environ.setdefault("WANDB_PROJECT", TRACKED_PROJECT)
        super().__init__(
            model=model,
            reward_funcs=_terminal_reward,
            args=GRPOConfig(**trl_arguments(spec, settings)),
            train_dataset=_placeholder(spec, settings),
            processing_class=tokenizer,
            callbacks=[LoopHooks(settings.first_step, self.finish_gradients, lambda: self.metrics, on_step)],
        )
        if (seen := self.accelerator.num_processes) != settings.processes:
            raise TrainingError(
                f"accelerate sees {seen} processes, the run has {settings.processes} learners; set RANK, LOCAL_RANK "
                "and WORLD_SIZE in each"
            )
        self.remove_callback(PrinterCallback)
        add_scoring(model.get_base_model())
        with model.disable_adapter():
            check_scoring(model.get_base_model(), spec.parity_tolerance, packed=spec.forward == "packed")
        # Set here and not in the config, where TRL would make a second adapter its reference: ours is the bare base.
        self.beta = spec.kl_weight  # k3 times the ratio: the unbiased reverse-KL gradient, arXiv:2512.02556
        self.aux_loss_enabled = False  # routers of a mixture of experts are frozen with the base
        self._entropy_bonus_enabled = spec.entropy.start > 0
        self._corrected = spec.old_logprobs == "trainer"
        self._scores_calls = self._corrected or self.beta > 0
        self.use_vllm = self._corrected  # TRL then corrects for the sampler, whichever it is
        self._attention_scale = 4 * int(model.config.get_text_config().hidden_size)

    def _send_telemetry(self) -> None:
        """Send nothing: a run contacts no one that it was not told of."""

    # -- the batch

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """One step; every random choice in it depends on (seed, stage, step) alone."""
        self._clock = time.perf_counter()
        torch.manual_seed(_step_seed(self._settings.seed, self._settings.stage, self.state.global_step))
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return TRL's batch for the kept rows, one per call."""
        rows = len(inputs) * len(self._settings.seats.nodes) if self._scores_calls else len(inputs)
        iterations = self._spec.num_iterations
        self.num_iterations: int = iterations if self._corrected else 1
        try:  # with more iterations TRL would compute old logprobs that the sampler's replace
            scored: dict[str, Any] = super()._generate_and_score_completions([{"prompt": ""} for _ in range(rows)])
        finally:
            self.num_iterations = iterations
        plan, device = self._planned(), self.accelerator.device
        self._count(plan)
        if self._scores_calls:
            kept = torch.from_numpy(plan.kept).to(device)
            scored.pop("tool_mask", None)  # it masked the rows that are dropped here
            out = {key: value[kept] if value.shape[:1] == (rows,) else value for key, value in scored.items()}
        else:
            out = call_batch(plan, self._tokenizer.pad_token_id, device)
            out["num_items_in_batch"] = torch.tensor(self._aggregation.total.tokens, device=device)
        out["advantages"] = torch.from_numpy(plan.advantages[plan.kept]).to(device, torch.float32)
        out["row_ids"] = torch.arange(len(plan.kept), device=device)
        if not self._corrected:
            out["old_per_token_logps"] = out["sampling_per_token_logps"]
        return out

    def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
        """Return the step's rollouts in TRL's form.

        In place of TRL's own, which would decode every message again and count tokens that ``rollout/`` counts. TRL
        reads tokens only where it scores calls, for the KL to the base or for its correction of the sampler: then
        there is one row per call, dropped rows masked. Else it scores rewards: one row per rollout, without tokens.
        """
        step = self.state.global_step
        sampled = self._sample(step)
        began = time.perf_counter()
        acts_on_all = self._spec.kl_weight > 0 or self._entropy_weight() > 0
        plan = plan_step(
            sampled.groups,
            self._settings.seats,
            self._spec,
            self.running,
            keep_all=acts_on_all,
            current_version=step,
            attention_scale=self._attention_scale,
            sum_over=self._over("sum"),
        )
        expected = len(plan.rows.calls) if self._scores_calls else plan.rows.rewards.size
        if expected != len(prompts):
            raise TrainingError(f"step {step}: got {expected} rows for a batch of {len(prompts)}")
        self._plan, self._active = plan, plan.buckets
        self._place = torch.from_numpy(plan.kept)
        self._meter = StepMeter()
        count_rollouts(self._meter, plan, sampled)
        as_rows = rows_of_calls if self._scores_calls else rows_of_rollouts
        rows = as_rows(plan, self._tokenizer.eos_token_id)
        self._meter.add("time/plan_s", time.perf_counter() - began)
        return rows.prompts, rows.completions, rows.mask, prompts, rows.logprobs, {"final": rows.rewards}, None, []

    def _count(self, plan: StepPlan) -> None:
        """Fix the normalisation of the step's loss over all processes."""
        tokens = sum(len(call.completion_token_ids) for call in plan.kept_calls)
        mine = torch.tensor([len(plan.kept), tokens, plan.rows.rewards.size], dtype=torch.float64)
        total = self.accelerator.reduce(mine.to(self.accelerator.device, torch.float32), reduction="sum").tolist()
        self._aggregation = Aggregation(
            loss=self._spec.loss,
            total=Amount(int(total[0]), int(total[1])),
            rollouts=int(total[2]),
            max_tokens=self.max_completion_length,
            processes=self.accelerator.num_processes,
        )

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
        """Return logprobs and entropies of the active buckets at TRL's places; 0 everywhere else."""
        plan, device = self._planned(), input_ids.device
        shape = (input_ids.size(0), logits_to_keep)
        logprobs = torch.zeros(shape[0] * shape[1], device=device)
        entropies = torch.zeros_like(logprobs)
        with self.accelerator.autocast():
            for bucket in self._active:
                self.bank.set_routes(plan.routes[bucket.groups])
                scores = score_bucket(model, bucket, plan.temperatures[bucket.groups], device)
                places = self._place[bucket.call_rows] * logits_to_keep + torch.from_numpy(bucket.steps)
                logprobs = logprobs.index_copy(0, places.to(device), scores.logprobs)
                entropies = entropies.index_copy(0, places.to(device), scores.entropies)
        self._scores = logprobs.view(shape), entropies.view(shape)
        return self._scores[0], (self._scores[1] if compute_entropy else None), None

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Return the step's loss: backward for every bucket but the last, whose graph is returned.

        A bucket's backward pass comes before the next forward pass, since the routes must not change in between.
        """
        buckets = self._bucket_list()
        done = 0.0
        for number, (bucket, factor) in enumerate(buckets):
            loss = self._bucket_loss(model, inputs, bucket, repeated=factor == 0) * factor
            if not math.isfinite(loss.item()):
                raise TrainingError(
                    f"step {self.state.global_step}: the loss is not finite "
                    f"({describe_nan(self._planned(), bucket.members, self._scores)}); lower training.learning_rate"
                )
            if number == len(buckets) - 1:
                self._check_parity()
                total = loss + done
                self._meter.add("train/loss", total.item())
                return total
            done += loss.item()
            with self.accelerator.no_sync(model):
                self.accelerator.backward(loss)
        raise TrainingError("a step has no rows to train on")

    def _bucket_list(self) -> list[tuple[Bucket, float]]:
        """Return the buckets and their factors; in step with the other processes, which must call TRL as often."""
        buckets = [(bucket, 1.0) for bucket in self._planned().buckets]
        if self.accelerator.num_processes == 1:
            return buckets
        counts = self.accelerator.gather(torch.tensor([len(buckets)], device=self.accelerator.device))
        return buckets + [(buckets[-1][0], 0.0)] * (int(counts.max()) - len(buckets))

    def _bucket_loss(self, model: nn.Module, inputs: dict[str, Any], bucket: Bucket, repeated: bool) -> Tensor:
        """Return TRL's loss of one bucket's rows as a part of the step's loss."""
        members = torch.from_numpy(bucket.members)
        found = torch.argsort(inputs["row_ids"].cpu())[members]
        rows = inputs["row_ids"].shape[0]
        part = {
            key: value[found.to(value.device)] if isinstance(value, Tensor) and value.shape[:1] == (rows,) else value
            for key, value in inputs.items()
        }
        place = torch.zeros(rows, dtype=torch.int64)
        place[members] = torch.arange(len(members))
        self._place, self._active = place, (bucket,)
        amount = Amount(len(members), len(bucket.steps))
        self.entropy_coef = self._aggregation.entropy_coefficient(amount, self._entropy_weight())
        loss: Tensor = super()._compute_loss(model, part) * self._aggregation.weight(amount)
        if self._scores is not None and self._step % self.num_iterations == 0 and not repeated:
            clip, top_p = (self.epsilon_low, self.epsilon_high), self._settings.top_p
            measure_bucket(self._meter, self._planned(), members.numpy(), part, self._scores, clip, top_p)
        return loss

    def _check_parity(self) -> None:
        """Stop the run when trainer and engine disagree about rows that the same weights sampled."""
        mean, allowed = self._meter.mean("parity/logprob_diff_mean"), self._spec.parity_tolerance
        if not mean <= allowed:
            raise ParityError(
                f"step {self.state.global_step}: trainer and engine differ by {mean:.2e} nats per token on rows that "
                f"version {self.state.global_step} sampled, allowed is {allowed:.2e} (training.parity_tolerance). "
                "Causes: stale adapters in the engine, unequal engine.dtype and trainer dtype, an engine bug"
            )

    def _entropy_weight(self) -> float:
        return entropy_weight(self.state.global_step, self._settings.steps, self._spec.entropy)

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
        spec, stage = self._spec, self._settings

        def factor(step: int) -> float:
            done = stage.first_step + step
            return learning_rate_factor(done, stage.steps, spec, warmup=stage.warmup, decay=stage.decay)

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factor)
        return self.lr_scheduler

    def finish_gradients(self) -> None:
        """Between backward and the optimizer: outside terms, per-adapter norms and clipping, who moves."""
        active = torch.ones(len(self.bank.names), dtype=torch.bool)
        if self._before_optimizer_step is not None:
            active = self._before_optimizer_step(self.state.global_step)
        plan = self._planned()
        trained = torch.zeros(len(self.bank.names), device=self.accelerator.device)
        trained[plan.routes[np.concatenate([bucket.groups for bucket in plan.buckets])]] = 1
        moved = active & (self.accelerator.reduce(trained, reduction="sum") > 0).cpu()
        if len(self.bank.groups) > len(self.bank.names):  # what all share moves even those that must be held still
            moved = torch.cat([moved, (active.all() & moved.any())[None]])
        self.bank.scale_gradients_(moved.to(self.accelerator.device, torch.float32))
        limit = self._spec.max_node_grad_norm
        norms = self.bank.grad_norms() if limit is None else self.bank.clip_(limit)
        for name, norm in zip(self.bank.groups, norms.tolist(), strict=True):
            if not math.isfinite(norm):
                raise TrainingError(
                    f"step {self.state.global_step}: the gradient of adapter {name!r} is not finite; "
                    "lower training.learning_rate"
                )
            self._meter.add(f"train/grad_norm/{name}", norm)
        self.nodes_optimizer.set_active(moved)

    # -- metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log TRL's metrics together with ours."""
        if "loss" in logs:
            self._meter.add("time/step_s", time.perf_counter() - self._clock)
            metrics = self._meter.values(self._over("sum"), self._over("max"))
            self.metrics = metrics | {"train/learning_rate": logs["learning_rate"]}
            logs = logs | self.metrics
        super().log(logs, start_time)

    def _over(self, reduction: str) -> Callable[[list[float]], list[float]] | None:
        if self.accelerator.num_processes == 1:
            return None

        def reduce(numbers: list[float]) -> list[float]:
            tensor = torch.tensor(numbers, dtype=torch.float32, device=self.accelerator.device)
            gathered: Tensor = self.accelerator.gather(tensor).view(self.accelerator.num_processes, -1)
            return list((gathered.sum(0) if reduction == "sum" else gathered.amax(0)).tolist())

        return reduce


def _terminal_reward(prompts: list[str], completions: list[str], final: list[float], **_: Any) -> list[float]:
    """TRL's reward function: the task has scored every rollout once, all its calls share the reward."""
    return final


def _step_seed(seed: int, stage: int, step: int) -> int:
    return (seed * 1_000_003 + stage) * 1_000_003 + step


def _placeholder(spec: TrainingSpec, settings: StageSettings) -> Dataset:
    """Return rows for TRL's sampler to count; the examples come with the rollouts."""
    batches = -(-(settings.steps - settings.first_step) // spec.num_iterations)
    return Dataset.from_dict({"prompt": [""] * (batches * spec.prompts_per_step)})


def _silence() -> None:
    """Keep warnings about choices we made on purpose off the terminal."""
    transformers.logging.set_verbosity_error()
    for name in ("trl", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
