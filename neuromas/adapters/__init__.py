"""Node adapters: one stacked PEFT method, its maps, kernels, exports and versions."""
