"""What a loss is: a function of tokens, and the share of the step that each token has.

Everything here is elementwise or per call, and a step's totals are numbers fixed before. So the parts of a step that
are computed on their own, in buckets or in processes, add up to its loss, whatever the cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Totals:
    """What a step has over all its groups and processes, groups without a gradient included.

    Attributes:
        rollouts: rollouts; with counterfactual credit as many as there are samples of each node.
        calls: usable calls.
        tokens: completion tokens of these calls.
        max_tokens: largest token budget of a call.
    """

    rollouts: int
    calls: int
    tokens: int
    max_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The completion tokens of some calls, one call a row, padded on the right.

    Attributes:
        logprobs: under the weights that are trained, with gradient, shape (calls, tokens).
        old_logprobs: under the old policy, shape (calls, tokens).
        advantages: of each call, shape (calls, 1).
        mask: 1 for tokens, 0 past a completion's end, shape (calls, tokens).
        correction: probability under the old policy over that under the sampler, truncated or masked, shape
            (calls, tokens) or (calls, 1); None where the sampler is the old policy.
        clip_low: how far below 1 a ratio may lie.
        clip_high: how far above 1 a ratio may lie.
    """

    logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    mask: Tensor
    correction: Tensor | None
    clip_low: float
    clip_high: float

    @property
    def lengths(self) -> Tensor:
        """Tokens of each call, at least 1, shape (calls, 1)."""
        return self.mask.sum(-1, keepdim=True).clamp(min=1.0)

    def ratio(self, level: Literal["token", "sequence"]) -> Tensor:
        """Return probability over that under the old policy.

        Args:
            level: "token" returns one ratio per token, shape (calls, tokens); "sequence" their geometric mean per
                call, shape (calls, 1). Source: GSPO, arXiv:2507.18071.
        """
        log_ratio = self.logprobs - self.old_logprobs
        if level == "sequence":
            log_ratio = (log_ratio * self.mask).sum(-1, keepdim=True) / self.lengths
        return log_ratio.exp()


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss of the dict.

    Attributes:
        per_token: the loss of each token from the tokens and their ratio, shape (calls, tokens) or (calls, 1). It is 0
            where the advantage is, since groups without advantages may be left out.
        share: what one token of each call counts, from the calls' lengths, shape (calls, 1), and the step's totals.
        level: of the ratio.
        reads: settings of ``training`` that it heeds, of "clip_low" and "clip_high".
        corrects: whether ``per_token`` heeds ``Tokens.correction`` itself; else the result is multiplied by it.
    """

    per_token: Callable[[Tokens, Tensor], Tensor]
    share: Callable[[Tensor, Totals], Tensor | float]
    level: Literal["token", "sequence"] = "token"
    reads: tuple[str, ...] = ("clip_low", "clip_high")
    corrects: bool = False

    def __call__(
        self,
        tokens: Tokens,
        totals: Totals,
        ref_logprobs: Tensor | None = None,
        kl_weight: float = 0.0,
        entropies: Tensor | None = None,
        entropy_weight: float = 0.0,
    ) -> Tensor:
        """Return what these tokens add to the step's loss, a scalar.

        The KL to the reference and the entropy bonus are summed and averaged over tokens as the loss is.

        Args:
            tokens: some of the step's tokens.
            totals: of the step.
            ref_logprobs: under the base, shape (calls, tokens); needed where ``kl_weight`` is not 0.
            kl_weight: weight of ``divergence``.
            entropies: of the distributions the tokens were drawn from, nats, shape (calls, tokens).
            entropy_weight: weight of the entropies, which are to grow.
        """
        ratio = tokens.ratio(self.level)
        loss = self.per_token(tokens, ratio)
        if tokens.correction is not None and not self.corrects:
            loss = loss * tokens.correction
        if kl_weight and ref_logprobs is not None:
            loss = loss + kl_weight * ratio * divergence(tokens.logprobs, ref_logprobs)
        if entropy_weight and entropies is not None:
            loss = loss - entropy_weight * entropies
        return (loss * tokens.mask * self.share(tokens.lengths, totals)).sum()

    def clipped(self, tokens: Tokens) -> Tensor:
        """Return which ratios the clip holds, bool, shape (calls, tokens) or (calls, 1)."""
        ratio = tokens.ratio(self.level).detach()
        low = (ratio < 1 - tokens.clip_low) & (tokens.advantages < 0)
        high = (ratio > 1 + tokens.clip_high) & (tokens.advantages > 0)
        return (low & ("clip_low" in self.reads)) | (high & ("clip_high" in self.reads))


def divergence(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return an estimate of the KL to the reference from each token, nats, never negative.

    ``exp(d) - d - 1`` with d = reference - policy: "k3" of Schulman 2020, "Approximating KL divergence". Times the
    ratio its gradient is that of the reverse KL, unbiased (arXiv:2512.02556).
    """
    away = ref_logprobs - logprobs
    return away.exp() - away - 1
