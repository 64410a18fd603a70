"""A hypernetwork over Uni-LoRA vectors in a run spec. Source of the idea: HyperSPN, arXiv:2112.00914."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from neuromas.adapters.families.contract import AdapterSpec, ModuleShape, Parameters
from neuromas.adapters.families.unilora.spec import projection_faults
from neuromas.errors import Fault, SpecError
from neuromas.schema.bounds import MAX_DIMENSION, MAX_SIZE

if TYPE_CHECKING:
    from neuromas.adapters.families.map import AdapterMap
    from neuromas.adapters.position import AdapterPosition

FEATURES = 5
"""Numbers that describe a position: depth, index, messages read, readers, whether it answers."""


class HyperSpec(AdapterSpec):
    """A network shared by all adapters makes each one's Uni-LoRA vector from its position in the graph.

    A new node's adapter comes from its position, so it does not start as the base once the network is trained.
    """

    title: ClassVar[str] = "hypernetwork"
    starts: ClassVar[frozenset[str]] = AdapterSpec.starts - {"zero"}
    is_seeded: ClassVar[bool] = True

    type: Literal["hyper"] = "hyper"
    rank: int = Field(default=1, ge=1, le=512)
    """Rank r of the pairs that the vectors are projected to."""
    dimension: int = Field(ge=1, le=MAX_DIMENSION)
    """Length d of the vectors."""
    hidden: int = Field(default=4, ge=1, le=MAX_SIZE)
    """Width h of the network: the vectors of all adapters lie in one subspace of this dimension."""
    embedding: int = Field(default=4, ge=1, le=MAX_SIZE)
    """Trained numbers that each adapter has beside its position, as further inputs of the network."""
    residual: bool = False
    """Whether each adapter also has a vector of its own, added to the network's: the coupling can be unlearned then."""

    @property
    def served_rank(self) -> int:
        """The rank itself."""
        return self.rank

    def num_parameters(self, shapes: Sequence[ModuleShape]) -> Parameters:
        """Return e (+ d with ``residual``) for each adapter, and d + d h + h (e + FEATURES + 1) + h (h + 1) for all."""
        d, h = self.dimension, self.hidden
        shared = d + d * h + h * (self.embedding + FEATURES + 1) + h * (h + 1)
        return Parameters(self.embedding + (d if self.residual else 0), shared)

    def faults(self, shapes: Sequence[ModuleShape]) -> Iterator[Fault]:
        """Yield vectors that are longer than what they fill."""
        yield from projection_faults(self.dimension, self.rank, shapes)

    def notes(self, adapters: int) -> Iterator[str]:
        """Say whether the network saves anything over vectors of the same length."""
        free = self.dimension * adapters
        total = self.num_parameters(()).total(adapters)
        if total >= free:
            yield (
                f"adapter: the shared network trains {total:,} numbers, {adapters} vectors of their own would be "
                f"{free:,}; it saves only in graphs of clearly more than hidden + 1 = {self.hidden + 1} adapters and "
                "without residual. Here it couples the adapters, it does not compress them"
            )

    def pooled(self, count: int) -> Self:
        """Refuse: what is shared does not multiply with the adapters."""
        fault = Fault("type", f"got {self.type!r}, whose adapters cannot be pooled in one; compare with another family")
        raise SpecError("the adapters cannot be pooled", [fault])

    def make_map(self, positions: Sequence[AdapterPosition], seed: int) -> AdapterMap:
        """Return the map; see ``HyperMap``."""
        from neuromas.adapters.families.hyper.map import HyperMap

        return HyperMap(positions, self, seed)
