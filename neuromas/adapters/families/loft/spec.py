"""LOFT in a run spec. Source: arXiv:2605.11872; the transform is a Cayley map, as in PSOFT (arXiv:2505.11235)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from neuromas.adapters.families.contract import ModuleShape, Parameters
from neuromas.adapters.families.data_start import InputStart
from neuromas.errors import Fault

if TYPE_CHECKING:
    from neuromas.adapters.families.map import AdapterMap
    from neuromas.adapters.position import AdapterPosition

Support = Literal["principal", "coordinate", "random", "eva", "gradient"]


class LoftSpec(InputStart):
    """LOFT: the input of each layer is rotated inside a subspace, so that W W^T of the layer stays as it is."""

    title: ClassVar[str] = "LOFT"

    type: Literal["loft"] = "loft"
    rank: int = Field(default=8, ge=2, le=512)
    """Dimension r of the subspace; r (r - 1) / 2 numbers are trained per layer."""
    support: Support = "principal"
    """The subspace: "principal", the layer's leading right singular vectors; "coordinate", the inputs whose columns
    have the largest norm; "random", one of its own for every adapter; "eva", the leading directions of the inputs that
    the layer gets when the adapter's node reads; "gradient", that of the steepest rotations for the node's policy
    gradient, of even rank."""

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> Self:
        if self.support == "gradient" and self.rank % 2:
            raise ValueError(f"support = 'gradient' needs an even rank, got {self.rank}: rotations come in planes")
        return self

    @property
    def start_setting(self) -> tuple[str, str]:
        """The setting ``support``."""
        return "support", self.support

    @property
    def served_rank(self) -> int:
        """The subspace's dimension."""
        return self.rank

    def num_parameters(self, shapes: Sequence[ModuleShape]) -> Parameters:
        """Return r (r - 1) / 2 per layer."""
        return Parameters(len(shapes) * _rotations(self.rank))

    def faults(self, shapes: Sequence[ModuleShape]) -> Iterator[Fault]:
        """Yield a subspace that is larger than the space it lies in."""
        for shape in shapes:
            largest = min(shape.in_features, shape.out_features) if self.support == "principal" else shape.in_features
            if self.rank > largest:
                yield Fault("rank", f"got {self.rank}; layer {shape.path} allows at most {largest}")
                return

    def pooled(self, count: int) -> Self:
        """Return adapters with the smallest subspace that has the rotations of ``count`` of these."""
        rank = self.rank
        while _rotations(rank) < count * _rotations(self.rank):
            rank += 2 if self.support == "gradient" else 1
        return self.model_copy(update={"rank": rank})

    def make_map(self, positions: Sequence[AdapterPosition], seed: int) -> AdapterMap:
        """Return the map; see ``LoftMap``."""
        from neuromas.adapters.families.loft.map import LoftMap

        return LoftMap([position.name for position in positions], self, seed)


def _rotations(rank: int) -> int:
    """Return the dimension of the rotations of a space of this dimension."""
    return rank * (rank - 1) // 2
