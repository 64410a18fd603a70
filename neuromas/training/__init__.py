"""Joint training of all adapters of a graph: advantages, packing, the trainer, checkpoints, evaluation."""
