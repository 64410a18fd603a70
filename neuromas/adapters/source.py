"""Where the weights of one Adapter of a grown graph come from. Pure data; ``inherit.py`` acts on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from neuromas.errors import AdapterError

SourceKind = Literal["keep", "fresh", "eva", "zero", "copy", "interpolate"]


@dataclass(frozen=True, slots=True, order=True)
class TrainedAdapter:
    """One trained Adapter: ``module`` 0 is the checkpoint grown from, k >= 1 the k-th further module of the plan."""

    module: int
    adapter: str


@dataclass(frozen=True, slots=True)
class Roles:
    """What the tensors of an adapter are for, by key.

    Attributes:
        updates: those that make the adapter act as the base when they are zero.
        fixed: those that training leaves alone.
    """

    updates: frozenset[str]
    fixed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Pull:
    """A penalty on the distance of some adapters from where they were.

    Attributes:
        names: the adapters.
        weight: factor of the squared distance.
        by: distance of the trained tensors, or of the updates B A that they make.
        to: their state when the stage began; or the base, whose update is zero ("update" only).
        is_selective: pull an adapter only in steps in which that does not raise the loss to first order.
    """

    names: tuple[str, ...]
    weight: float
    by: Literal["parameters", "update"] = "parameters"
    to: Literal["start", "base"] = "start"
    is_selective: bool = False


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """What an Adapter starts from.

    Attributes:
        kind: "keep" takes the first origin unchanged; "fresh" the start of a new model; "eva" the same, and A from the
            inputs that the node gets; "zero" the first origin's A with B = 0, so the base's behaviour in a learned
            input subspace; "copy" the first origin plus noise; "interpolate" the mean of all origins, tensor by tensor.
        origins: trained Adapters read; none for "fresh" and "eva".
        noise: standard deviation of the noise of "copy", in units of each tensor's own standard deviation.
    """

    kind: SourceKind
    origins: tuple[TrainedAdapter, ...] = ()
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.is_new == bool(self.origins):
            raise AdapterError(
                f"source {self.kind!r}: got {len(self.origins)} origins, expected none for 'fresh' and 'eva', and "
                "at least one for every other kind"
            )
        if self.noise and self.kind != "copy":
            raise AdapterError(f"source {self.kind!r}: noise {self.noise} belongs to 'copy' only")

    @property
    def is_new(self) -> bool:
        """Whether nothing of a trained adapter is taken over."""
        return self.kind in ("fresh", "eva")
