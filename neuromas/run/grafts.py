"""Trained graphs that a run takes in: whether what their adapters have learned means the same there. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.kinds import USUAL, section_path
from neuromas.base.fingerprint import fingerprint
from neuromas.base.resolve import resolve_base
from neuromas.checkpoints.trained import TrainedCheckpoint
from neuromas.errors import BaseModelError, Fault
from neuromas.spec.growth import GraftSpec, PlanSpec
from neuromas.spec.run import RunSpec

ReadTrained = Callable[[str], TrainedCheckpoint]
"""From the name of a checkpoint to the trained graph in it."""

_BY_BASE = frozenset({"targets", "rank"})
"""Settings that the base decides where they are left out."""


def named_grafts(plans: Sequence[PlanSpec], path: str = "plans[{}]") -> Iterator[tuple[str, str]]:
    """Yield every checkpoint that a graft names, after the path of the place where it does.

    Args:
        plans: of a growth.
        path: of a plan, with a place for its number.
    """
    for number, plan in enumerate(plans):
        for index, edit in enumerate(plan.edits):
            for place, name in enumerate(edit.modules if isinstance(edit, GraftSpec) else ()):
                yield f"{path.format(number)}.edits[{index}].modules[{place}]", name


def graft_faults(
    spec: RunSpec, name: str, module: TrainedCheckpoint, path: str, *, decided: bool = True
) -> Iterator[Fault]:
    """Yield why a trained graph cannot be grafted in a run.

    Args:
        spec: of the run.
        name: of the graph's checkpoint.
        module: the graph.
        path: of the setting that names it.
        decided: whether both specs hold what their base decides; else what they leave out is not compared.
    """
    own = spec.adapters.sections
    if not _is_one_base(spec.base, module.spec.base):
        message = f"got {name!r}, trained on the base {module.spec.base!r}; allowed is {spec.base!r}, this run's"
        yield Fault(path, message)
        return
    for group, theirs in _used(module).items():
        where = section_path(group)
        if group not in own:
            known = ", ".join(sorted(set(own) - {USUAL})) or "none"
            yield Fault(path, f"got {name!r}, with nodes of the group {group!r}; node_groups of this run: {known}")
            continue
        for setting, (got, allowed) in _differences(theirs, own[group], decided=decided).items():
            message = f"got {name!r}, whose {where}.{setting} is {got}; allowed is {allowed}, this run's"
            yield Fault(path, f"{message}; graft a graph that was trained with it")
        if theirs.num_parameters(()).shared:
            message = f"got {name!r}, whose {where} is of type {theirs.type!r}: it has trained a network for itself"
            yield Fault(path, f"{message}, as this run does; allowed are graphs with adapters of the other types")
        if theirs.is_seeded and module.spec.seed != spec.seed:
            kind = f"whose adapters of type {theirs.type!r} belong to seed {module.spec.seed}"
            yield Fault(path, f"got {name!r}, {kind}; allowed is {spec.seed}, this run's")


def parent_faults(spec: RunSpec, parent: TrainedCheckpoint) -> Iterator[Fault]:
    """Yield the settings of a grown run that do not fit the adapters that it takes over from its parent."""
    for group, theirs in _used(parent).items():
        if (own := spec.adapters.sections.get(group)) is None:
            continue  # all of the group's nodes were pruned
        for setting, (allowed, got) in _differences(theirs, own, decided=True).items():
            message = f"got {got}; allowed is {allowed}, with which the parent was trained"
            yield Fault(f"{section_path(group)}.{setting}", message)
        if theirs.is_seeded and parent.spec.seed != spec.seed:
            why = f"the parent's: adapters of type {theirs.type!r} belong to a seed"
            yield Fault("seed", f"got {spec.seed}; allowed is {parent.spec.seed}, {why}")


def lineage_faults(spec: RunSpec, parent: TrainedCheckpoint, plan: PlanSpec, read_trained: ReadTrained) -> list[Fault]:
    """Return why a grown run cannot take over what its parent and the graphs that its plan grafts have learned.

    Raises:
        CheckpointError: a grafted graph is missing or altered.
    """
    faults = list(parent_faults(spec, parent))
    for path, name in named_grafts((plan,), "plan"):
        faults += graft_faults(spec, name, read_trained(name), path)
    return faults


def _used(trained: TrainedCheckpoint) -> Mapping[str, AdapterSpec]:
    """Return the kinds of adapters in a graph by group, of those that it has some of."""
    groups = {trained.topology.group_of(adapter) or USUAL for adapter in trained.topology.adapters}
    return {group: section for group, section in trained.spec.adapters.sections.items() if group in groups}


def _differences(theirs: AdapterSpec, own: AdapterSpec, *, decided: bool) -> dict[str, tuple[Any, Any]]:
    if theirs.type != own.type:
        return {"type": (repr(theirs.type), repr(own.type))}
    left_out = _BY_BASE - (theirs.model_fields_set & own.model_fields_set) if not decided else frozenset()
    mine = own.form
    return {
        setting: (_text(value), _text(mine[setting]))
        for setting, value in theirs.form.items()
        if value != mine[setting] and setting not in left_out
    }


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _is_one_base(one: str, other: str) -> bool:
    try:
        return one == other or fingerprint(resolve_base(one)) == fingerprint(resolve_base(other))
    except BaseModelError:
        return True  # found out where both can be read
