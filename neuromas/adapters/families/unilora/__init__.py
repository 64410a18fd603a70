"""Uni-LoRA: one vector per adapter, spread over all pairs."""
