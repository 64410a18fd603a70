"""What every family says about itself in a run spec: its own fields, its sizes, its map. Loads no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field

from neuromas.adapters.ref import Array, PlainLora
from neuromas.errors import Fault
from neuromas.schema.bounds import Key
from neuromas.schema.model import SpecModel

if TYPE_CHECKING:
    from neuromas.adapters.families.map import AdapterMap
    from neuromas.adapters.position import AdapterPosition

SHARED = "@shared"
"""Stands for an adapter's name where a tensor belongs to all of a kind; begins with what no adapter's name can."""


@dataclass(frozen=True, slots=True)
class ModuleShape:
    """A linear layer that carries adapters: its ``path`` in the base and its sizes."""

    path: str
    in_features: int
    out_features: int

    @property
    def width(self) -> int:
        """Numbers of a LoRA of rank 1 on the layer."""
        return self.in_features + self.out_features


@dataclass(frozen=True, slots=True)
class Parameters:
    """Trained numbers: those that each adapter has for itself, and those that all adapters of a graph share."""

    per_adapter: int
    shared: int = 0

    def total(self, adapters: int) -> int:
        """Return how many a graph with this many adapters trains."""
        return self.per_adapter * adapters + self.shared


class AdapterSpec(SpecModel, ABC):
    """The trainable weights that each adapter name gets; ``type`` chooses their family, and each has its own keys.

    Whatever the family, an adapter acts as a low-rank pair (A, B) per layer: it is served and exported as a LoRA.
    """

    title: ClassVar[str]
    """Name of the family for people."""
    article: ClassVar[str] = "a"
    """The indefinite article before it."""
    no_sizes: ClassVar[frozenset[str]] = frozenset()
    """Settings that are whole numbers but no sizes of an adapter."""
    starts: ClassVar[frozenset[str]] = frozenset({"fresh", "zero", "copy", "interpolate"})
    """What the adapter of a new node may start from at growth (``inherit.new``)."""
    is_seeded: ClassVar[bool] = False
    """Whether trained numbers mean something only with the seed of the run that trained them."""

    type: str
    targets: tuple[Key, ...] = Field(default=("q_proj", "v_proj", "up_proj", "down_proj"), min_length=1, max_length=64)
    """Names of the linear layers that carry adapters."""

    @property
    @abstractmethod
    def served_rank(self) -> int:
        """Rank of the LoRA that engines get."""

    @property
    def scale(self) -> float:
        """Factor of ``B @ A``."""
        return 1.0

    @property
    def form(self) -> Mapping[str, object]:
        """The settings that say what trained numbers mean; adapters that agree in them can be in one graph."""
        form = {name: value for name, value in self if name != "type"}
        return form | {"alpha": f"{self.scale:g} x rank"} if "alpha" in form else form

    @abstractmethod
    def num_parameters(self, shapes: Sequence[ModuleShape]) -> Parameters:
        """Return what is trained on layers of these shapes. The one formula: checks, estimates and reports use it."""

    def faults(self, shapes: Sequence[ModuleShape]) -> Iterator[Fault]:
        """Yield what cannot work on layers of these shapes, with paths within the section."""
        yield from ()

    def idle(self, new: Collection[str]) -> Iterator[Fault]:
        """Yield settings that do nothing, with paths within the section.

        Args:
            new: what growth starts new adapters from (``inherit.new``), of every plan.
        """
        yield from ()

    def notes(self, adapters: int) -> Iterator[str]:
        """Yield what someone should know who trains a graph with this many adapters, in sentences."""
        yield from ()

    @abstractmethod
    def pooled(self, count: int) -> Self:
        """Return adapters of the same family each with about the trained numbers of ``count`` of these, never fewer.

        Raises:
            SpecError: the family has no such adapter.
        """

    @abstractmethod
    def make_map(self, positions: Sequence[AdapterPosition], seed: int) -> AdapterMap:
        """Return a map without modules for one adapter per position. Loads torch."""

    def plain_lora(self, name: str, state: Mapping[str, Array]) -> PlainLora | None:
        """Return one adapter of a checkpoint as engines take it, without torch and without the base.

        Args:
            name: the adapter.
            state: tensors of the checkpoint, ``<adapter>/<key>``.

        Returns:
            None where the family's pairs can only be made by its map on the base.
        """
        return None
