"""From a checkpoint to plain LoRAs, the form that engines and PEFT take."""

from __future__ import annotations

from pathlib import Path

from neuromas.adapters.build import build_model
from neuromas.adapters.ref import PlainLora
from neuromas.spec.parts import AdapterSpec
from neuromas.training.checkpoint import read_checkpoint


def plain_loras(checkpoint: Path, base_folder: Path, adapter: AdapterSpec, seed: int) -> dict[str, PlainLora]:
    """Return every adapter of a checkpoint by name.

    Args:
        checkpoint: folder of the checkpoint.
        base_folder: the base that it was trained on.
        adapter: kind and sizes of its adapters.
        seed: of the run, from which Uni-LoRA's projection is drawn.

    Raises:
        CheckpointError: the checkpoint is incomplete or altered.
        AdapterError: its adapters are of another kind or size.
    """
    held = read_checkpoint(checkpoint)
    _, bank = build_model(base_folder, adapter, held.topology.adapters, seed)
    for name in bank.names:
        bank.load(name, held.adapters)
    return bank.export_all()
