"""LoRA: the pairs themselves are trained."""
