"""The section of a run spec that says how the graph learns."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from neuromas.losses.registry import LOSSES
from neuromas.schema.bounds import MAX_STEPS, MAX_WEIGHT
from neuromas.schema.model import Retired, SpecModel
from neuromas.schema.suggest import suggest

Decay = Annotated[float, Field(ge=0, lt=1)]


def _known_loss(name: str) -> str:
    if name not in LOSSES:
        raise ValueError(f"got {name!r}; {suggest(name, list(LOSSES))}")
    return name


LossName = Annotated[str, AfterValidator(_known_loss), WithJsonSchema({"type": "string", "enum": list(LOSSES)})]


class EntropySpec(SpecModel):
    """Entropy bonus, linear from ``start`` to 0 at ``until`` (fraction of the stage's steps)."""

    start: float = Field(default=0.0, ge=0, le=MAX_WEIGHT)
    """Weight of the entropy, summed and averaged over tokens, calls and rollouts as the loss is; 0 = no bonus. A sum
    over tokens pays for long messages: where Nodes may end early, watch ``rollout/length_mean``."""
    until: float = Field(default=0.7, gt=0, le=1)
    """Where the bonus ends; earlier where it keeps a graph from settling on an answer."""


class TrainingSpec(SpecModel):
    """Joint policy-gradient training of all adapters."""

    retired: ClassVar[Retired] = {
        "baseline_group": (("prompt",), "a baseline covers the rollouts of a prompt"),
        "rows_per_forward": ((4096, 64), "tokens_per_forward bounds a forward pass"),
        "baseline_decay": ((0.9,), 'the running mean of "reinforce" keeps 0.9 of the past at each step'),
    }

    steps: int = Field(default=80, ge=1, le=MAX_STEPS)
    """Optimizer steps of a stage that has no step budget of its own."""
    prompts_per_step: int = Field(default=24, ge=1, le=10**7)
    """Examples per optimizer step."""
    group_size: int = Field(default=8, ge=2, le=10**5)
    """Rollouts per example, G; with credit = "counterfactual" the samples of each Node in its context."""
    learning_rate: float = Field(default=1e-2, gt=0, le=100)
    """Highest learning rate of a stage. The default is the tiny base's; large bases take 1e-5 to 1e-3. Lower it where
    the reward falls back or the gradient norm jumps."""
    warmup_steps: int = Field(default=5, ge=0, le=MAX_STEPS)
    """Steps in which the learning rate rises linearly; more where the first ones spoil what grown nodes start from."""
    decay_fraction: float = Field(default=0.4, ge=0, le=1)
    """Last part of the stage in which the learning rate falls linearly; 0 = it stays, to compare runs step by step
    whatever their length."""
    final_learning_rate_ratio: float = Field(default=0.1, ge=0, le=1)
    """What the learning rate falls to, as a part of its highest; 1 = it stays."""
    adam_betas: tuple[Decay, Decay] = (0.9, 0.95)
    """Decays of Adam's mean and square of the gradient. Raise the second to 0.99 or more for long runs whose gradients
    vary much."""
    weight_decay: float = Field(default=0.0, ge=0, le=MAX_WEIGHT)
    """AdamW's, which pulls adapters to the base; above 0 where a small training file is learned by heart."""
    max_node_grad_norm: float | None = Field(default=1.0, gt=0, le=MAX_WEIGHT)
    """Gradient norm of each adapter is clipped to this on its own; None = no clipping. Lower it where single steps
    undo many."""
    in_turn: bool = False
    """Train the adapters one after the other, in topological order, each for an equal share of the steps while the
    others stay as they are, instead of jointly: a baseline."""
    credit: Literal["shared", "counterfactual"] = "shared"
    """What a call is compared with. "shared": the G rollouts of its example; all calls of a rollout share its
    advantage. "counterfactual": G samples of its Node in one context. Of each example one rollout is the anchor; then
    each Node is asked G - 1 times anew, with every message that it does not reach as the anchor has it, and all that it
    does reach sampled anew. That tells what one Node's message was worth, and takes more calls per trained call the
    deeper the graph is: a chain of n Nodes n + (G - 1) n (n + 1) / 2 instead of G n; `neuromas validate` says them."""
    estimator: Literal["reinforce", "rloo", "grpo", "dr_grpo"] = "rloo"
    """Advantage: reward minus a running mean, minus the mean of the others that it is compared with, standardised
    among these, or minus the mean of all."""
    loss: LossName = "rollout"
    """"rollout" sums tokens over a rollout's calls and averages over rollouts; the others are those of TRL, by name,
    over all calls of a step."""
    clip_low: float = Field(default=0.2, ge=0, le=MAX_WEIGHT)
    """How far below 1 a ratio of probabilities may fall; "cispo", "sapo" and "vespo" have no such bound. It matters
    where rollouts are used more than once or late: num_iterations above 1, overlap = 1."""
    clip_high: float = Field(default=0.2, ge=0, le=MAX_WEIGHT)
    """How far above 1 it may rise; "sapo" and "vespo" have no such bound. Above clip_low (0.28 in DAPO,
    arXiv:2503.14476) where messages lose their variety."""
    num_iterations: int = Field(default=1, ge=1, le=10**4)
    """Optimizer steps per batch of rollouts, mu; more than 1 where sampling takes most of the time."""
    old_logprobs: Literal["sampler", "trainer"] = "sampler"
    """Old policy of the ratio: the engine's own logprobs, or a second forward with TRL's importance-sampling
    correction against the engine's."""
    importance_sampling: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = (
        "token_truncate"
    )
    """TRL's correction mode; only with old_logprobs = "trainer". By sequences where single tokens' corrections hide how
    far whole messages are off; "mask" leaves out what is far off instead of bounding its weight."""
    kl_weight: float = Field(default=0.0, ge=0, le=MAX_WEIGHT)
    """Weight beta of the KL to the base; 0 = no reference pass. Above 0 where messages must stay in the base's
    language."""
    entropy: EntropySpec = EntropySpec()
    drop_zero_variance: bool = True
    """Leave groups without a gradient (all rewards equal) out of the forward pass; they are counted. Where a KL or
    entropy term acts on them they are kept, so this never changes the update. False where every step must cost the
    same, as in timings."""
    refill_rounds: int = Field(default=0, ge=0, le=1000)
    """How many times per step dropped groups are replaced by rollouts of further examples (DAPO's dynamic sampling);
    above 0 where most groups are all right or all wrong."""
    forward: Literal["packed", "padded"] = "packed"
    """Prefix-tree packed rows, or one padded row per call."""
    tokens_per_forward: Annotated[int, Field(ge=1, le=2**30)] | Literal["auto"] = "auto"
    """Upper bound of tokens in one forward pass, padding included, but for a call that is longer; larger batches are
    split, gradients summed. "auto" keeps what the layers hold below 2 GiB on a CPU, 8 GiB on a GPU."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Compute layers anew in the backward pass, which takes a third longer and less memory. "auto" = where a call of
    engine.max_model_len tokens would exceed that bound otherwise."""
    overlap: Literal[0, 1] = 0
    """1 = sample the next step's rollouts while training on this step's, one version behind. On Ray this saves at most
    the shorter of rollouts and update; with runtime.type = "local" nothing, as one process does both in turn."""
    parity_tolerance: float | None = Field(default=None, gt=0, le=MAX_WEIGHT)
    """Largest mean |trainer - engine| logprob of a Node, in nats, before the run stops; None = by engine.dtype: 1e-3 in
    float32, 1e-2 in float16, 5e-2 in bfloat16. About 1e-5 is usual in float32, 1e-2 in bfloat16."""
    max_failed_fraction: float = Field(default=0.25, ge=0, le=1)
    """Share of failed rollouts in a step above which the run stops."""

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> TrainingSpec:
        if self.old_logprobs != "trainer" and not self.is_default("importance_sampling"):
            raise ValueError("importance_sampling needs old_logprobs = 'trainer'")
        if self.refill_rounds and not self.drop_zero_variance:
            raise ValueError("refill_rounds needs drop_zero_variance = true")
        for setting in ("clip_low", "clip_high"):
            if setting not in LOSSES[self.loss].reads and not self.is_default(setting):
                users = [repr(name) for name, loss in LOSSES.items() if setting in loss.reads]
                raise ValueError(f"loss = {self.loss!r} does nothing with {setting}; those that do: {', '.join(users)}")
        if self.credit == "counterfactual" and self.estimator == "reinforce":
            raise ValueError(
                "credit = 'counterfactual' compares a call with others in its context, which "
                "estimator = 'reinforce' does not; those that do: 'rloo', 'grpo', 'dr_grpo'"
            )
        if self.overlap and self.num_iterations > 1:
            raise ValueError("overlap = 1 needs num_iterations = 1")
        return self
