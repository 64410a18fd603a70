"""The kinds of adapters in one run: the usual one, and others for groups of nodes. Pure data; loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from neuromas.adapters.families.contract import AdapterSpec, ModuleShape, Parameters
from neuromas.errors import Fault
from neuromas.topology.graph import Topology

USUAL = ""
"""Stands for the name of a group where an adapter is in none."""


@dataclass(frozen=True, slots=True)
class KindTotals:
    """What the adapters of one group in one graph are.

    Attributes:
        group: its name; ``USUAL`` for the adapters of no group.
        section: their kind.
        adapters: how many there are, at least 1.
        parameters: what they train.
        served: numbers of the LoRAs that engines get, all of them together.
    """

    group: str
    section: AdapterSpec
    adapters: int
    parameters: Parameters
    served: int

    @property
    def trained(self) -> int:
        """Trained numbers of all of them."""
        return self.parameters.total(self.adapters)


@dataclass(frozen=True, slots=True)
class AdapterKinds:
    """The section of every adapter of a run.

    Attributes:
        usual: of adapters in no group.
        groups: of those in the group of that name.
    """

    usual: AdapterSpec
    groups: Mapping[str, AdapterSpec] = field(default_factory=dict)

    @staticmethod
    def of(adapter: AdapterSpec | AdapterKinds) -> AdapterKinds:
        """Return kinds as they are, and a section as the only kind."""
        return AdapterKinds(adapter) if isinstance(adapter, AdapterSpec) else adapter

    @property
    def sections(self) -> dict[str, AdapterSpec]:
        """All kinds by group, the usual one first, then by name: the order of a file's keys means nothing."""
        return {USUAL: self.usual, **dict(sorted(self.groups.items()))}

    @property
    def served_rank(self) -> int:
        """Largest rank of a LoRA that engines get."""
        return max(section.served_rank for section in self.sections.values())

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the layers that carry adapters of any kind."""
        return tuple(dict.fromkeys(name for section in self.sections.values() for name in section.targets))

    def section_of(self, topology: Topology, adapter: str) -> AdapterSpec:
        """Return the section of an adapter of a graph."""
        return self.sections[topology.group_of(adapter) or USUAL]

    def totals(self, topology: Topology, shapes: Sequence[ModuleShape]) -> tuple[KindTotals, ...]:
        """Return what each group that has adapters in a graph is.

        Args:
            topology: the graph.
            shapes: of the layers that carry adapters of any kind.
        """
        counts: dict[str, int] = {}
        for adapter in topology.adapters:
            group = topology.group_of(adapter) or USUAL
            counts[group] = counts.get(group, 0) + 1
        found = []
        for group, section in self.sections.items():
            if count := counts.get(group, 0):
                own = carried(section, shapes)
                served = count * section.served_rank * sum(shape.width for shape in own)
                found.append(KindTotals(group, section, count, section.num_parameters(own), served))
        return tuple(found)

    def faults(self, shapes: Sequence[ModuleShape]) -> Iterator[Fault]:
        """Yield what cannot work on layers of these shapes, with paths within the run spec."""
        for group, section in self.sections.items():
            for fault in section.faults(carried(section, shapes)):
                yield Fault(f"{section_path(group)}.{fault.path}", fault.message)

    def notes(self, topology: Topology) -> Iterator[str]:
        """Yield what someone should know who trains a graph with these adapters, in sentences."""
        for kind in self.totals(topology, ()):
            yield from kind.section.notes(kind.adapters)


def carried(section: AdapterSpec, shapes: Sequence[ModuleShape]) -> tuple[ModuleShape, ...]:
    """Return the layers that carry adapters of one kind."""
    return tuple(shape for shape in shapes if shape.path.rpartition(".")[2] in section.targets)


def section_path(group: str) -> str:
    """Return where the section of a group stands in a run spec."""
    return "adapter" if group == USUAL else f"node_groups.{group}.adapter"
