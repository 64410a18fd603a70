"""From sampled rollouts of a trained graph to the score kernels of its adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuromas.adapters.build import build_model
from neuromas.adapters.frozen_base import DTYPES
from neuromas.base.resolve import resolve_base
from neuromas.checkpoints.checkpoint import read_checkpoint
from neuromas.rollout.record import Group, NodeCall
from neuromas.spec.run import RunSpec
from neuromas.studies.score_kernel import document, kernel
from neuromas.training.advantage import RunningBaseline, call_advantages, with_signal
from neuromas.training.calls import call_rows
from neuromas.training.kernel import linearity_gap, score_grams
from neuromas.training.scoring import add_scoring
from neuromas.training.step_plan import NodePolicies

Told = tuple[NodeCall, float, float]
"""A call, its advantage and the temperature it was sampled at."""


def adapter_kernels(
    spec: RunSpec, checkpoint: Path | None, groups: Sequence[Group], most: int, on_adapter: Callable[[str], None]
) -> dict[str, Any]:
    """Return the kernels of all adapters of a graph, and what they say, as plain data.

    Advantages are the reward less the mean of the group's other rollouts, whatever the run was trained with.

    Args:
        spec: of the run that trains the graph, or has.
        checkpoint: folder of the graph's checkpoint; None = it is untrained.
        groups: sampled rollouts of it, in groups of one question.
        most: messages of each adapter; those of groups with both right and wrong answers come first.
        on_adapter: told which adapter is looked at.

    Raises:
        CheckpointError: the checkpoint is incomplete or altered.
        AdapterError: its adapters are of another kind or size.
    """
    base, dtype = resolve_base(spec.base), DTYPES[spec.engine.dtype]
    model, bank = build_model(base, spec.adapters, spec.topology, spec.seed, dtype)
    add_scoring(model.get_base_model())
    start = bank.state()
    if checkpoint is not None:
        bank.load_all(read_checkpoint(checkpoint).adapters)
    policies = NodePolicies.of(spec.topology, bank.names, spec.sampling)
    kernels = []
    for adapter in bank.names:
        on_adapter(adapter)
        told = list(_calls(groups, policies, bank.index(adapter)))[:most]
        if not told:
            continue
        calls, advantages, temperatures = zip(*told, strict=True)
        grams = score_grams(model, bank, adapter, calls, temperatures)
        gap = linearity_gap(model, bank, adapter, calls, temperatures, start)
        kernels.append(kernel(adapter, grams, np.array(advantages), gap))
    signal = with_signal(_advantages(groups, policies.nodes)).any(axis=1)
    return {
        "questions": len(groups),
        "questions_with_signal": int(signal.sum()),
        **document(kernels, bank.export_all()),
    }


def _advantages(groups: Sequence[Group], nodes: tuple[str, ...]) -> Any:
    rows = call_rows(groups, nodes)
    return call_advantages(rows.rewards, rows.present_by_place, "rloo", RunningBaseline(0.0))


def _calls(groups: Sequence[Group], policies: NodePolicies, adapter: int) -> Iterator[Told]:
    """Yield the calls of an adapter, those of groups with a signal first."""
    rows = call_rows(groups, policies.nodes)
    by_rollout = _advantages(groups, policies.nodes)
    advantages = rows.per_row(by_rollout).astype(np.float64)
    order = np.argsort(~with_signal(by_rollout)[rows.group_of_row, rows.node_of_row], kind="stable")
    for row in order.tolist():
        call, node = rows.calls[row], int(rows.node_of_row[row])
        if call is not None and policies.adapters[node] == adapter:
            yield call, float(advantages[row]), policies.temperatures[node]
