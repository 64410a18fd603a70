"""Trainer and engine agree: compared node by node, on rows of every version of the weights that was published.

In most steps the trained rows themselves were sampled by the weights that are trained, and their comparison is free.
What other versions sampled (one step back under overlap, a stage's last) is compared on a few calls of each node: a
forward pass without gradient, with the weights of that version.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuromas.adapters.bank import AdapterBank
from neuromas.errors import ParityError, TrainingError
from neuromas.rollout.record import Group, NodeCall
from neuromas.training.call_batch import CallBatch
from neuromas.training.calls import CallRows
from neuromas.training.metrics import StepMeter
from neuromas.training.not_finite import cause_of, check_logprobs
from neuromas.training.packing import pack
from neuromas.training.passes import Passes
from neuromas.training.scoring import score_bucket
from neuromas.training.step_metrics import numbers
from neuromas.training.step_plan import NodePolicies, StepPlan

TOLERANCES: Final = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest mean difference of a node's logprobs, nats, by the number format of the base; see docs/architecture.md."""
PROBED_CALLS: Final = 2
"""Calls of each node that a probe compares."""
CALL_FACTOR: Final = 20.0
"""How far beyond the tolerance of a node's mean that of one of its calls may lie."""
IMPOSSIBLE: Final = 40.0
"""Nats of evidence that no run of chance reaches: one in e^40."""


def tolerance(given: float | None, dtype: torch.dtype) -> float:
    """Return the tolerance of a run: the one that was given, else that of the base's number format."""
    return TOLERANCES[dtype] if given is None else given


@torch.no_grad()
def measure_parity(
    meter: StepMeter,
    plan: StepPlan,
    members: NDArray[np.int64],
    batch: CallBatch,
    logprobs: Tensor,
    top_p: float,
) -> None:
    """Add a bucket's difference from the engine; only while the trainer has the weights it published.

    Args:
        meter: of the step.
        plan: of the step.
        members: kept rows of the bucket, in the order of the other arguments' rows.
        batch: these rows.
        logprobs: of the trainer, shape (rows, tokens).
        top_p: nucleus mass of the sampling; see ``_apart``.
    """
    counts = numbers(batch.mask.sum(1))
    apart = _apart(batch.sampler_logprobs, logprobs, top_p) * batch.mask
    current = plan.current[members]
    sums, counts_now = numbers(apart.sum(1)), counts * current
    node = plan.rows.node_of_row[plan.kept[members]]
    meter.add("parity/logprob_diff_mean", (sums * current).sum(), counts_now.sum())
    meter.add_by_node("parity/logprob_diff_mean", plan.rows.nodes, node, sums * current, counts_now)
    meter.add("parity/drift_mean", sums[~current].sum(), counts[~current].sum())
    meter.add("parity/stale_fraction", (~current).sum(), len(current))
    meter.peak("parity/logprob_diff_max", numbers(apart.amax(1))[current].max(initial=0.0))
    for index, mean in zip(node[current].tolist(), (sums / counts)[current].tolist(), strict=True):
        meter.peak(f"parity/call_diff_max/{plan.rows.nodes[index]}", mean)


def _apart(sampled: Tensor, trained: Tensor, top_p: float) -> Tensor:
    """Return |trainer - engine| logprobs.

    A nucleus renormalises, so the engine's logprob of a token may exceed the trainer's by up to -ln(top_p) without
    disagreement.
    """
    apart = sampled - trained
    return (apart - apart.clamp(0, -math.log(top_p))).abs()


def check_nodes(apart: Mapping[str, float], allowed: float, version: int) -> None:
    """Stop the run when trainer and engine disagree about a node.

    Args:
        apart: mean difference of each node's logprobs, nats per token; nodes without rows are missing.
        allowed: see ``tolerance``.
        version: of the weights that sampled.

    Raises:
        ParityError: names the nodes, the worst first.
        TrainingError: what was compared is no number.
    """
    if broken := [node for node, mean in apart.items() if not math.isfinite(mean)]:
        raise TrainingError(
            f"version {version}: the trainer's log-probabilities of node {broken[0]!r} are not finite, where the "
            f"engine's are ({len(broken)} of {len(apart)} nodes); nothing can be compared"
        )
    wrong = sorted((node for node, mean in apart.items() if not mean <= allowed), key=lambda node: -apart[node])
    if not wrong:
        return
    worst = ", ".join(f"{node!r} by {apart[node]:.2e}" for node in wrong[:4])
    more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
    raise ParityError(
        f"version {version}: trainer and engine differ at {len(wrong)} of {len(apart)} nodes ({worst}{more}) nats per "
        f"token on rows that it sampled, allowed is {allowed:.2e} (training.parity_tolerance). Causes: "
        + (
            "stale or mixed up adapters in the engine"
            if len(wrong) < len(apart)
            else "stale adapters, other base weights"
        )
        + ", another temperature, an engine bug"
    )


def check_calls(apart: Mapping[str, float], allowed: float, version: int) -> None:
    """Stop the run when a single call is far off, which the mean of its node does not show.

    Args:
        apart: mean difference of each node's worst call, nats per token.
        allowed: as for the mean of a node; a call may lie ``CALL_FACTOR`` times beyond it.
        version: of the weights that sampled.

    Raises:
        ParityError: names the node.
    """
    node = max(apart, key=lambda name: apart[name], default=None)
    if node is not None and not apart[node] <= CALL_FACTOR * allowed:
        raise ParityError(
            f"version {version}: trainer and engine differ by {apart[node]:.2e} nats per token on one call of node "
            f"{node!r}, allowed is {CALL_FACTOR * allowed:.2e} ({CALL_FACTOR:g} times training.parity_tolerance): it "
            "met another adapter, prompt or temperature than it was sampled with"
        )


def check_seeds(rows: CallRows) -> None:
    """Stop the run when the rollouts of each group are copies of one another, which chance does not explain.

    Looked at are nodes whose calls read the same prompt in all rollouts of a group. The evidence is the surprise of
    all repeated calls, ``-log p``, and none where any group shows two different ones.

    Raises:
        ParityError: a group's rollouts share one seed.
    """
    evidence, size = 0.0, rows.group_size
    for start in range(0, len(rows.calls), size):
        calls = [call for call in rows.calls[start : start + size] if call is not None]
        if len(calls) < 2 or any(call.prompt_token_ids != calls[0].prompt_token_ids for call in calls[1:]):
            continue
        if any(call.completion_token_ids != calls[0].completion_token_ids for call in calls[1:]):
            return
        evidence -= sum(sum(call.logprobs) for call in calls[1:])
    if evidence > IMPOSSIBLE:
        raise ParityError(
            f"the rollouts of every group are the same, by chance e^-{evidence:.0f}: the engine gives the calls of a "
            "group one seed, or ignores seeds"
        )


class Published:
    """The trained weights as they were when a version was published, for rows that are compared later."""

    def __init__(self, model: nn.Module, version: int) -> None:
        self.version = version
        self._weights = [(tensor, tensor.detach().clone()) for tensor in model.parameters() if tensor.requires_grad]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Let the model compute with these weights inside the block."""
        after = [tensor.data for tensor, _ in self._weights]
        for tensor, held in self._weights:
            tensor.data = held
        try:
            yield
        finally:
            for (tensor, _), data in zip(self._weights, after, strict=True):
                tensor.data = data


def probed_calls(groups: Sequence[Group], version: int) -> list[NodeCall]:
    """Return a few calls of every node that a version sampled, each of another rollout.

    Raises:
        TrainingError: the engine's log-probabilities of one are not finite.
    """
    found: dict[str, list[NodeCall]] = {}
    for rollout in (rollout for group in groups for rollout in group.rollouts):
        for call in rollout.calls:
            usable = call.adapter is not None and call.adapter.version == version and call.completion_token_ids
            if usable and len(chosen := found.setdefault(call.node, [])) < PROBED_CALLS:
                chosen.append(call)
    probed = [call for calls in found.values() for call in calls]
    check_logprobs(probed, version)
    return probed


@torch.no_grad()
def differences(
    model: Any, bank: AdapterBank, policies: NodePolicies, calls: Sequence[NodeCall], top_p: float, passes: Passes
) -> dict[str, float]:
    """Return the mean |trainer - engine| logprob of each node's calls, nats per token, by the weights as they are.

    Makes as many passes as any of the processes that share the base.

    Raises:
        TrainingError: the trainer's are not finite.
    """
    place = {node: index for index, node in enumerate(policies.nodes)}
    node = np.array([place[call.node] for call in calls], dtype=np.int64)
    routes, temperatures = torch.tensor(policies.adapters), torch.tensor(policies.temperatures)
    sums, counts = np.zeros(len(place)), np.zeros(len(place))
    prompts, completions = [call.prompt_token_ids for call in calls], [call.completion_token_ids for call in calls]
    device = bank.trained()[0].tensor.device
    buckets = pack(prompts, completions, node, share=False)
    more = passes.more(len(buckets))
    for bucket in buckets:
        rows = torch.from_numpy(bucket.groups)
        bank.set_routes(routes[rows])
        forward = partial(score_bucket, model, bucket, temperatures[rows], device)
        found = forward().logprobs
        if broken := (~torch.isfinite(found)).nonzero()[:, 0].tolist():
            call = calls[bucket.call_rows[broken[0]]]
            raise TrainingError(
                f"adapter {call.adapter}: the trainer's log-probabilities of a call of node {call.node!r} are not "
                f"finite, where the engine's are: {cause_of(model, bank, forward)}"
            )
        apart = numbers(_apart(_sampled(calls, bucket.call_rows, bucket.steps).to(found), found, top_p))
        sums += np.bincount(node[bucket.call_rows], apart, minlength=len(place))
        counts += np.bincount(node[bucket.call_rows], minlength=len(place))
    passes.take_part(model, more)
    return {name: sums[index] / counts[index] for name, index in place.items() if counts[index]}


def _sampled(calls: Sequence[NodeCall], rows: NDArray[np.int64], steps: NDArray[np.int64]) -> Tensor:
    return torch.tensor([calls[row].logprobs[step] for row, step in zip(rows.tolist(), steps.tolist(), strict=True)])
