"""Several families on one model: each adapter has the map of its group, and all are routed and trained as one stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from neuromas.adapters.families.contract import AdapterSpec, ModuleShape
from neuromas.adapters.families.map import AdapterMap, Owned
from neuromas.adapters.kinds import AdapterKinds
from neuromas.adapters.position import AdapterPosition


@dataclass(frozen=True, slots=True)
class GroupMap:
    """The adapters of one group: their positions in the stack of all, and their family's map with its section."""

    group: str
    members: tuple[int, ...]
    section: AdapterSpec
    map: AdapterMap


class MixedMap(AdapterMap):
    """The pairs of all parts, scaled, and padded with zeros to the largest rank on each layer.

    Every part is evaluated in every forward pass, with no adapters if need be: a parameter that a process leaves out
    would have no gradient to average over the processes.
    """

    def __init__(self, names: Sequence[str], parts: Sequence[GroupMap]) -> None:
        super().__init__(names, max(part.map.rank for part in parts))
        self._parts = tuple(parts)
        self._part_of = {member: part for part in parts for member in part.members}
        self._layers: dict[str, nn.Linear] = {}
        self._chosen: tuple[Tensor | None, list[Tensor | None], Tensor] | None = None

    def located(self, adapter: int) -> tuple[AdapterMap, int]:
        """Return the map of the adapter's group, and its position there."""
        part = self._part_of[adapter]
        return part.map, part.members.index(adapter)

    def _make(self, shape: ModuleShape, linear: nn.Linear) -> Mapping[str, nn.Module]:
        owned: dict[str, nn.Module] = {}
        self._layers[shape.path] = linear
        for number, part in enumerate(self._parts):
            if shape.path.rpartition(".")[2] in part.section.targets:
                made = part.map.add_module(shape.path, linear)
                owned |= {f"{name}_{number}": module for name, module in made.items()}
        return owned

    def finish(self, device: torch.device) -> Mapping[str, nn.Module]:
        """Finish every part."""
        return {
            f"{name}_{number}": module
            for number, part in enumerate(self._parts)
            for name, module in part.map.finish(device).items()
        }

    def pair(self, path: str, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the pairs of the adapters present, those of layers that their family leaves alone all zero."""
        shape, device = self._shapes[path], self._layers[path].weight.device
        adapting = [part.map.rank for part in self._parts if part.map.adapts(path)]
        rank = max(adapting)
        locals_, order = self._choose(present, device)
        stacked_a, stacked_b = [], []
        for part, local in zip(self._parts, locals_, strict=True):
            if part.map.adapts(path):
                a, b = part.map.pair(path, local)
                extra, scale = rank - part.map.rank, part.section.scale
                a = nn.functional.pad(a, (0, 0, 0, extra))
                b = nn.functional.pad(b if scale == 1 else b * scale, (0, extra))
            else:
                count = len(part.members) if local is None else len(local)
                a = torch.zeros(count, rank, shape.in_features, device=device)
                b = torch.zeros(count, shape.out_features, rank, device=device)
            stacked_a.append(a)
            stacked_b.append(b)
        return torch.cat(stacked_a).index_select(0, order), torch.cat(stacked_b).index_select(0, order)

    def _choose(self, present: Tensor | None, device: torch.device) -> tuple[list[Tensor | None], Tensor]:
        """Return each part's own indices of the adapters present, and where these lie when the parts are joined.

        All layers of a pass ask with the same tensor; its values are read once, since that waits for the device.
        """
        if self._chosen is not None and self._chosen[0] is present:
            return self._chosen[1:]
        wanted = range(self.num_adapters) if present is None else present.tolist()
        locals_: list[Tensor | None] = []
        joined: list[int] = []
        for part in self._parts:
            here = [adapter for adapter in wanted if adapter in part.members]
            joined += here
            own = torch.tensor([part.members.index(adapter) for adapter in here], dtype=torch.int64, device=device)
            locals_.append(None if present is None else own)
        order = torch.tensor([joined.index(adapter) for adapter in wanted], dtype=torch.int64, device=device)
        self._chosen = (present, locals_, order)
        return locals_, order

    def tensors(self) -> Sequence[Owned]:
        """What every part keeps, with the adapters that it is of."""
        return [
            replace(owned, members=part.members, group=part.group)
            for part in self._parts
            for owned in part.map.tensors()
        ]

    def refresh(self) -> None:
        """Refresh every part."""
        for part in self._parts:
            part.map.refresh()


def make_map(kinds: AdapterKinds, positions: Sequence[AdapterPosition], seed: int) -> AdapterMap:
    """Return the map of the adapters at these positions, without modules; a family's own where all are of no group."""
    if all(not position.group for position in positions):
        return kinds.usual.make_map(positions, seed)
    parts = []
    for group, section in kinds.sections.items():
        members = tuple(index for index, position in enumerate(positions) if position.group == group)
        if members:
            parts.append(
                GroupMap(group, members, section, section.make_map([positions[index] for index in members], seed))
            )
    return MixedMap([position.name for position in positions], parts)
