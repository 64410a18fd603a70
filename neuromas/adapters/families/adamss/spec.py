"""AdaMSS in a run spec. Source: OpenReview 8ZdWmpYxT0 (NeurIPS 2025)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from neuromas.adapters.families.contract import AdapterSpec, ModuleShape, Parameters
from neuromas.errors import Fault
from neuromas.schema.bounds import MAX_RANK, MAX_SIZE

if TYPE_CHECKING:
    from neuromas.adapters.families.map import AdapterMap
    from neuromas.adapters.position import AdapterPosition


class AdamssSpec(AdapterSpec):
    """AdaMSS: the rows of each weight fall into segments, and each segment gets an update of its own.

    Basis and segments depend on the base alone, and all adapters share them.
    """

    title: ClassVar[str] = "AdaMSS"
    article: ClassVar[str] = "an"

    type: Literal["adamss"] = "adamss"
    basis: int = Field(default=32, ge=1, le=MAX_SIZE)
    """Leading right singular vectors R of each weight, in whose span the updates read."""
    segments: int = Field(default=8, ge=1, le=MAX_SIZE)
    """Segments K that the rows of each weight are clustered into."""
    rank: int = Field(default=1, ge=1, le=MAX_RANK)
    """Rank r_k of each segment's update."""
    budget: float = Field(default=1.0, gt=0, le=1)
    """Share of all segments, over the layers and adapters that train, that go on training; 1 = all. Every stage begins
    with all of them, and holds more and more still until half of its steps are done: those that matter least to the
    loss. What is held still keeps what it has learned, and is trained again when it matters more."""

    @property
    def form(self) -> Mapping[str, object]:
        """All but the budget: it says what trains, not what trained numbers mean."""
        return {name: value for name, value in super().form.items() if name != "budget"}

    @property
    def served_rank(self) -> int:
        """K r_k: the segments side by side."""
        return self.segments * self.rank

    def num_parameters(self, shapes: Sequence[ModuleShape]) -> Parameters:
        """Return sum over layers of r_k (K R + out)."""
        return Parameters(self.rank * sum(self.segments * self.basis + shape.out_features for shape in shapes))

    def faults(self, shapes: Sequence[ModuleShape]) -> Iterator[Fault]:
        """Yield a basis or segments that a layer is too small for."""
        for key, value, of in (("basis", self.basis, "inputs and outputs"), ("segments", self.segments, "outputs")):
            for shape in shapes:
                smaller = min(shape.in_features, shape.out_features)
                largest = smaller if key == "basis" else shape.out_features
                if value > largest:
                    yield Fault(key, f"got {value}; layer {shape.path} allows at most {largest}, its {of}")
                    break
        if self.rank > self.basis:
            yield Fault("rank", f"got {self.rank}; allowed is at most basis = {self.basis}")

    def pooled(self, count: int) -> Self:
        """Return adapters of ``count`` times the rank."""
        return self.model_copy(update={"rank": self.rank * count})

    def make_map(self, positions: Sequence[AdapterPosition], seed: int) -> AdapterMap:
        """Return the map; see ``AdamssMap``."""
        from neuromas.adapters.families.adamss.map import AdamssMap

        return AdamssMap([position.name for position in positions], self, seed)
