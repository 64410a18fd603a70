"""LoRA in a run spec. Source: arXiv:2106.09685."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from neuromas.adapters.families.contract import AdapterSpec, ModuleShape, Parameters
from neuromas.adapters.families.data_start import InputStart
from neuromas.adapters.ref import Array, PlainLora
from neuromas.errors import Fault
from neuromas.schema.bounds import MAX_RANK, MAX_WEIGHT

if TYPE_CHECKING:
    from neuromas.adapters.families.map import AdapterMap
    from neuromas.adapters.position import AdapterPosition


class LoraSpec(InputStart):
    """LoRA: the pairs A and B themselves are trained."""

    title: ClassVar[str] = "LoRA"
    starts: ClassVar[frozenset[str]] = AdapterSpec.starts | {"eva"}

    type: Literal["lora"] = "lora"
    rank: int = Field(default=1, ge=1, le=MAX_RANK)
    """Rank r of the pairs."""
    alpha: float | None = Field(default=None, gt=0, le=MAX_WEIGHT)
    """The update is scaled by alpha / rank; None = rank, a scale of 1."""
    start: Literal["random", "eva"] = "random"
    """A of new adapters (B is zero): "random"; or "eva", the leading directions of the inputs that the layer gets when
    the adapter's node reads its questions and messages (arXiv:2410.07170)."""
    rho: float = Field(default=1.0, ge=1, le=MAX_RANK)
    """"eva": an adapter's ranks go to those of its layers whose inputs they explain best, at most rho x rank to one and
    rank each on average; 1 = the rank to each."""

    @model_validator(mode="before")
    @classmethod
    def _without_unused_key(cls, value: object) -> object:
        # The spec.json of earlier runs has every key of the section, this one as null.
        if isinstance(value, Mapping) and value.get("dimension", 0) is None:
            return {key: item for key, item in value.items() if key != "dimension"}
        return value

    @property
    def start_setting(self) -> tuple[str, str]:
        """The setting ``start``."""
        return "start", self.start

    @property
    def served_rank(self) -> int:
        """Rho x rank: the largest rank that a layer may get."""
        return int(self.rho * self.rank)

    @property
    def scale(self) -> float:
        """Alpha / rank."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def num_parameters(self, shapes: Sequence[ModuleShape]) -> Parameters:
        """Return r * sum over layers of (in + out), with room for the largest rank r that a layer may get."""
        return Parameters(self.served_rank * sum(shape.width for shape in shapes))

    def faults(self, shapes: Sequence[ModuleShape]) -> Iterator[Fault]:
        """Yield more directions than a layer has inputs, and more than an engine serves."""
        narrow = min(shapes, key=lambda shape: shape.in_features, default=None)
        got = f"got {self.rank}" if self.rho == 1 else f"got {self.rho:g} x rank {self.rank} = {self.served_rank}"
        setting = "rank" if self.rho == 1 else "rho"
        if self.start == "eva" and narrow is not None and self.served_rank > narrow.in_features:
            yield Fault(setting, f"{got}; layer {narrow.path} has {narrow.in_features} inputs (start = 'eva')")
        elif self.served_rank > MAX_RANK:
            yield Fault(setting, f"{got}; engines serve at most rank {MAX_RANK}")

    def idle(self, new: Collection[str]) -> Iterator[Fault]:
        """Yield settings of a look that nothing takes."""
        yield from super().idle(new)
        if self.start != "eva" and "eva" not in new and not self.is_default("rho"):
            yield Fault("rho", f"got {self.rho:g}; start = {self.start!r} does nothing with it: leave it out")
        elif self.rho > 1 and self.served_rank == self.rank:
            yield Fault(
                "rho", f"got {self.rho:g}; with rank {self.rank} allowed is 1, or at least {1 + 1 / self.rank:g}"
            )

    def pooled(self, count: int) -> Self:
        """Return adapters of ``count`` times the rank; alpha grows with it, so that the scale stays."""
        alpha = None if self.alpha is None else self.alpha * count
        return self.model_copy(update={"rank": self.rank * count, "alpha": alpha})

    def make_map(self, positions: Sequence[AdapterPosition], seed: int) -> AdapterMap:
        """Return the map; see ``LoraMap``."""
        from neuromas.adapters.families.lora.map import LoraMap

        return LoraMap([position.name for position in positions], self, seed)

    def plain_lora(self, name: str, state: Mapping[str, Array]) -> PlainLora:
        """Return A and B as they lie in the state, scaled."""
        paths = sorted(key[len(name) + 1 : -2] for key in state if key.startswith(f"{name}/") and key.endswith("/A"))
        scale = np.float32(self.scale)
        pairs = {path: (state[f"{name}/{path}/A"], state[f"{name}/{path}/B"] * scale) for path in paths}
        return PlainLora(self.served_rank, pairs)
