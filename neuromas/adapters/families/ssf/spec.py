"""SSF-k in a run spec. Source: arXiv:2210.08823, with the scales of k channels instead of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from neuromas.adapters.families.contract import ModuleShape, Parameters
from neuromas.adapters.families.data_start import DataStart
from neuromas.errors import Fault

if TYPE_CHECKING:
    from neuromas.adapters.families.map import AdapterMap
    from neuromas.adapters.position import AdapterPosition

Side = Literal["output", "input"]
Start = Literal["norm", "random", "gradient"]


class SsfSpec(DataStart):
    """SSF-k: k channels of each layer are scaled. All of them, or shifts, would be no low-rank update to serve."""

    title: ClassVar[str] = "SSF"
    article: ClassVar[str] = "an"

    type: Literal["ssf"] = "ssf"
    channels: int = Field(default=8, ge=1, le=512)
    """Scaled channels k of each layer: one trained number each."""
    side: Side = "output"
    """Whether the channels are the layer's outputs or its inputs."""
    start: Start = "norm"
    """Which channels: "norm", those whose weights have the largest norm; "random", others for every adapter;
    "gradient", those whose scale changes the expected reward of the node's messages most, to first order."""

    @property
    def start_setting(self) -> tuple[str, str]:
        """The setting ``start``."""
        return "start", self.start

    @property
    def served_rank(self) -> int:
        """The number of channels."""
        return self.channels

    def num_parameters(self, shapes: Sequence[ModuleShape]) -> Parameters:
        """Return k per layer."""
        return Parameters(len(shapes) * self.channels)

    def faults(self, shapes: Sequence[ModuleShape]) -> Iterator[Fault]:
        """Yield more channels than a layer has."""
        for shape in shapes:
            largest = shape.out_features if self.side == "output" else shape.in_features
            if self.channels > largest:
                yield Fault("channels", f"got {self.channels}; layer {shape.path} has {largest} {self.side}s")
                return

    def pooled(self, count: int) -> Self:
        """Return adapters of ``count`` times the channels."""
        return self.model_copy(update={"channels": self.channels * count})

    def make_map(self, positions: Sequence[AdapterPosition], seed: int) -> AdapterMap:
        """Return the map; see ``SsfMap``."""
        from neuromas.adapters.families.ssf.map import SsfMap

        return SsfMap([position.name for position in positions], self, seed)
