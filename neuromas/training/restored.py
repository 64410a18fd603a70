"""Tensors of a resumed stage, taken over from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from neuromas.errors import CheckpointError


def restore(target: Tensor, what: str, key: str, kept: Mapping[str, Tensor], unfit: str) -> None:
    """Copy the tensor that was kept under a key into its place.

    Raises:
        CheckpointError: it is missing or has another shape; ``unfit`` says what the checkpoint then belongs to.
    """
    given = kept.get(key)
    if given is None or given.shape != target.shape:
        got = "nothing" if given is None else f"shape {tuple(given.shape)}"
        raise CheckpointError(
            f"{what}: {key} is {got}, expected shape {tuple(target.shape)}; the checkpoint belongs to {unfit}"
        )
    target.copy_(given)
