"""From a checkpoint to plain LoRAs, the form that engines and PEFT take."""

from __future__ import annotations

from pathlib import Path

from neuromas.adapters.build import build_model
from neuromas.adapters.kinds import AdapterKinds
from neuromas.adapters.ref import PlainLora
from neuromas.checkpoints.checkpoint import read_checkpoint


def plain_loras(checkpoint: Path, base_folder: Path, adapters: AdapterKinds, seed: int) -> dict[str, PlainLora]:
    """Return every adapter of a checkpoint by name.

    Args:
        checkpoint: folder of the checkpoint.
        base_folder: the base that it was trained on.
        adapters: family and sizes of its adapters.
        seed: of the run, from which projections are drawn.

    Raises:
        CheckpointError: the checkpoint is incomplete or altered.
        AdapterError: its adapters are of another kind or size.
    """
    held = read_checkpoint(checkpoint)
    _, bank = build_model(base_folder, adapters, held.topology, seed)
    bank.load_all(held.adapters)
    return bank.export_all()
