"""Inference engines: vLLM, plain transformers, and a scripted one."""
