"""The losses by the names that ``training.loss`` takes. Another one is a function here and a line in ``LOSSES``.

In the formulas r is the ratio of new to old probability, A the advantage of the token's call, pi its log-probability,
sg(x) x without gradient; N, C and T are the rollouts, calls and tokens of the step (``Totals``), B the token budget of
a call, L the length of a token's call. Where TRL has a loss of the name, values and gradients are TRL's for a step
that is not cut.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from neuromas.losses.contract import Loss, Tokens, Totals

if TYPE_CHECKING:
    from torch import Tensor

SAPO_TEMPERATURE, SAPO_TEMPERATURE_NOT_POSITIVE = 1.0, 1.05
VESPO_LOG_MIN, VESPO_LOG_MAX = math.log(1e-8), 20.0


def clipped_ratio(tokens: Tokens, ratio: Tensor) -> Tensor:
    """-min(r A, clip(r, 1 - low, 1 + high) A). Source: PPO, arXiv:1707.06347, eq. 7; two bounds: arXiv:2503.14476."""
    held = ratio.clamp(1 - tokens.clip_low, 1 + tokens.clip_high)
    return -(ratio * tokens.advantages).minimum(held * tokens.advantages)


def cispo(tokens: Tokens, ratio: Tensor) -> Tensor:
    """-sg(min(r, 1 + high)) A pi. Source: arXiv:2506.13585 (CISPO)."""
    return -ratio.clamp(max=1 + tokens.clip_high).detach() * tokens.advantages * tokens.logprobs


def sapo(tokens: Tokens, ratio: Tensor) -> Tensor:
    """-sigmoid(t (r - 1)) 4 / t A; t = 1 for A > 0, else 1.05. Source: arXiv:2511.20347."""
    soft = tokens.advantages.new_tensor(SAPO_TEMPERATURE)
    temperature = soft.where(tokens.advantages > 0, SAPO_TEMPERATURE_NOT_POSITIVE)
    return -(temperature * (ratio - 1)).sigmoid() * 4 / temperature * tokens.advantages


def vespo(tokens: Tokens, _ratio: Tensor) -> Tensor:
    """-sg(w^k exp(d (1 - w))) A pi; w is the call's probability over the sampler's. Source: arXiv:2602.10693.

    k = 2 and d = 3 for A >= 0, else k = 3 and d = 2; log w is kept within [log 1e-8, 20].
    """
    log_ratio = (tokens.logprobs - tokens.old_logprobs).detach()
    log_w = (log_ratio.clamp(-20.0, 20.0) * tokens.mask).sum(-1, keepdim=True)
    if tokens.correction is not None:
        log_w = log_w + tokens.correction.log().clamp(VESPO_LOG_MIN, 20.0).sum(-1, keepdim=True)
    log_w = log_w.clamp(VESPO_LOG_MIN, VESPO_LOG_MAX)
    gains = tokens.advantages >= 0
    power, decay = 3.0 - 1.0 * gains, 2.0 + 1.0 * gains
    weight = (power * log_w + decay * (1 - log_w.exp())).exp()
    return -weight * tokens.advantages * tokens.logprobs


def sum_over_rollout(_lengths: Tensor, totals: Totals) -> float:
    """1 / N: sum over the tokens of a rollout's calls, mean over rollouts."""
    return 1 / totals.rollouts


def sum_over_budget(_lengths: Tensor, totals: Totals) -> float:
    """1 / (C B): sum over tokens, by calls and a constant. Source: arXiv:2503.20783 (Dr. GRPO)."""
    return 1 / (totals.calls * totals.max_tokens)


def sum_over_call(_lengths: Tensor, totals: Totals) -> float:
    """1 / C: sum over the tokens of a call, mean over calls. Source: arXiv:2602.05261 (LUSPO)."""
    return 1 / totals.calls


def mean_over_call(lengths: Tensor, totals: Totals) -> Tensor:
    """1 / (C L): mean over the tokens of a call, mean over calls. Source: arXiv:2402.03300, eq. 3."""
    return 1 / (totals.calls * lengths)


def mean_over_tokens(_lengths: Tensor, totals: Totals) -> float:
    """1 / T: mean over the tokens of the step. Source: arXiv:2503.14476 (DAPO)."""
    return 1 / totals.tokens


LOSSES: dict[str, Loss] = {
    "rollout": Loss(clipped_ratio, sum_over_rollout),
    "grpo": Loss(clipped_ratio, mean_over_call),
    "dr_grpo": Loss(clipped_ratio, sum_over_budget),
    "bnpo": Loss(clipped_ratio, mean_over_tokens),
    "dapo": Loss(clipped_ratio, mean_over_tokens),
    "luspo": Loss(clipped_ratio, sum_over_call, level="sequence"),
    "cispo": Loss(cispo, mean_over_tokens, reads=("clip_high",)),
    "sapo": Loss(sapo, mean_over_call, reads=()),
    "vespo": Loss(vespo, mean_over_tokens, reads=(), corrects=True),
}
