"""Names of adapter versions and the plain LoRA that crosses process boundaries. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromas.errors import AdapterError

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, order=True)
class AdapterRef:
    """One immutable version of one Adapter. Engines know it by ``str(ref)``, a name that is never used twice.

    Attributes:
        name: the Adapter's name (a Node's id unless Nodes share it), unique in its namespace.
        version: counts publishes; 0 is the adapter before the first optimizer step.
        namespace: run and stage the adapter belongs to, so that several runs can share one engine.
    """

    name: str
    version: int
    namespace: str = ""

    def __str__(self) -> str:
        prefix = f"{self.namespace}/" if self.namespace else ""
        return f"{prefix}{self.name}-v{self.version}"


@dataclass(frozen=True, slots=True)
class PlainLora:
    """The canonical serving form of every adapter method: scale baked into B, alpha = rank, no bias.

    Attributes:
        rank: common rank r of all modules.
        modules: full module path in the base (``model.layers.0.self_attn.q_proj``) -> (A, B) with A of shape
            (rank, in_features) and B of shape (out_features, rank), float32; the update is ``B @ A``.
    """

    rank: int
    modules: Mapping[str, tuple[Array, Array]]

    def __post_init__(self) -> None:
        for path, (a, b) in self.modules.items():
            if a.ndim != 2 or b.ndim != 2 or a.shape[0] != self.rank or b.shape[1] != self.rank:
                raise AdapterError(
                    f"adapter module {path}: got A {a.shape} and B {b.shape}, "
                    f"expected ({self.rank}, in) and (out, {self.rank}); all modules share one rank"
                )

    def broken(self) -> str | None:
        """Return the path of the first of its tensors that holds a NaN or an infinity; None where there is none."""
        for path, pair in self.modules.items():
            for factor, tensor in zip("AB", pair, strict=True):
                if not np.isfinite(tensor).all():
                    return f"{path}/{factor}"
        return None

    @property
    def num_bytes(self) -> int:
        """Bytes that one publish of this adapter moves."""
        return sum(a.nbytes + b.nbytes for a, b in self.modules.values())
