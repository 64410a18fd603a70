"""Uni-LoRA in a run spec. Source: arXiv:2506.00799."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from neuromas.adapters.families.contract import AdapterSpec, ModuleShape, Parameters
from neuromas.errors import Fault
from neuromas.schema.bounds import MAX_DIMENSION, MAX_WEIGHT

if TYPE_CHECKING:
    from neuromas.adapters.families.map import AdapterMap
    from neuromas.adapters.position import AdapterPosition


class UniLoraSpec(AdapterSpec):
    """Uni-LoRA: one vector per adapter, spread over all pairs by a fixed isometry."""

    title: ClassVar[str] = "Uni-LoRA"
    is_seeded: ClassVar[bool] = True

    type: Literal["unilora"] = "unilora"
    rank: int = Field(default=1, ge=1, le=512)
    """Rank r of the pairs that the vector is projected to."""
    alpha: float | None = Field(default=None, gt=0, le=MAX_WEIGHT)
    """The update is scaled by alpha / rank; None = rank, a scale of 1."""
    dimension: int = Field(ge=1, le=MAX_DIMENSION)
    """Length d of the trained vector."""

    @property
    def served_rank(self) -> int:
        """The rank itself."""
        return self.rank

    @property
    def scale(self) -> float:
        """Alpha / rank."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def num_parameters(self, shapes: Sequence[ModuleShape]) -> Parameters:
        """Return d, whatever the base."""
        return Parameters(self.dimension)

    def faults(self, shapes: Sequence[ModuleShape]) -> Iterator[Fault]:
        """Yield a vector that is longer than what it fills."""
        yield from projection_faults(self.dimension, self.rank, shapes)

    def pooled(self, count: int) -> Self:
        """Return adapters of ``count`` times the rank and length; alpha grows with the rank."""
        alpha = None if self.alpha is None else self.alpha * count
        return self.model_copy(update={"rank": self.rank * count, "alpha": alpha, "dimension": self.dimension * count})

    def make_map(self, positions: Sequence[AdapterPosition], seed: int) -> AdapterMap:
        """Return the map; see ``UniLoraMap``."""
        from neuromas.adapters.families.unilora.map import UniLoraMap

        return UniLoraMap([position.name for position in positions], self.rank, self.dimension, seed)


def projection_faults(dimension: int, rank: int, shapes: Sequence[ModuleShape]) -> Iterator[Fault]:
    """Yield a vector that is longer than the LoRA of this rank that it is spread over."""
    length = rank * sum(shape.width for shape in shapes)
    if dimension > length:
        yield Fault(
            "dimension",
            f"got {dimension}; allowed are 1..{length}, the LoRA numbers that it is spread over; lower it, or raise "
            "rank or targets",
        )
