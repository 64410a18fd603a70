"""Baselines: the systems that a trained graph has to be compared with."""
