"""Where a stage's weights and optimizer state come from: new, a checkpoint, a growth, or the stage's own checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.families.contract import SHARED
from neuromas.adapters.inherit import inherit
from neuromas.adapters.source import AdapterSource, TrainedAdapter
from neuromas.checkpoints.checkpoint import Checkpoint
from neuromas.errors import CheckpointError
from neuromas.topology.graph import Topology
from neuromas.training.optimizer import NodeAdamW


def load_start(
    bank: AdapterBank, start: Checkpoint, modules: tuple[Checkpoint, ...], plan: Mapping[str, AdapterSource], seed: int
) -> None:
    """Give every adapter of the bank the weights that its source names.

    Raises:
        AdapterError: a source names an adapter that its checkpoint does not hold.
    """
    states = [start.adapters, *(module.adapters for module in modules)]
    bank.load_all(inherit(states, plan, bank.state(), bank.roles(), seed))


def load_moments(optimizer: NodeAdamW, start: Checkpoint, plan: Mapping[str, AdapterSource]) -> None:
    """Carry over the moments of adapters that are kept from ``start`` and of what they share; others have none."""
    shared = [group for group in optimizer.groups if group.startswith(SHARED) and group in start.counts]
    optimizer.restore(start.moments, {owner: start.counts[owner] for owner in shared})
    for name, source in plan.items():
        origin = source.origins[0] if source.origins else None
        if source.kind != "keep" or origin is None or origin.module != 0 or origin.adapter not in start.counts:
            continue
        prefix = f"{origin.adapter}/"
        moments: dict[str, Tensor] = {
            f"{name}/{key.removeprefix(prefix)}": value
            for key, value in start.moments.items()
            if key.startswith(prefix)
        }
        optimizer.restore(moments, {name: start.counts[origin.adapter]})


def all_new(bank: AdapterBank) -> dict[str, AdapterSource]:
    """Return the sources of a graph of which nothing was trained."""
    return dict.fromkeys(bank.names, AdapterSource("fresh"))


def keep_all(bank: AdapterBank) -> dict[str, AdapterSource]:
    """Return the sources of a graph that takes over every adapter under its own name."""
    return {name: AdapterSource("keep", (TrainedAdapter(0, name),)) for name in bank.names}


def check_resume(checkpoint: Checkpoint, name: str, topology: Topology) -> None:
    """Refuse to resume a stage from another stage's checkpoint.

    Raises:
        CheckpointError: stage or graph differ.
    """
    held = checkpoint.state["name"]
    if held != name:
        raise CheckpointError(f"checkpoint {checkpoint.folder_name} is of stage {held!r}, not of stage {name!r}")
    # Checkpoints of versions that pinned no views hold the graph without them.
    has_views = any(node.view is not None for node in checkpoint.topology.nodes)
    nodes = topology.nodes if has_views else tuple(replace(node, view=None) for node in topology.nodes)
    if checkpoint.topology.content_hash != replace(topology, nodes=nodes).content_hash:
        raise CheckpointError(f"checkpoint {checkpoint.folder_name} holds another graph than stage {name!r} trains")
