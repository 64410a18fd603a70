"""Comparisons: a graph and its baselines trained side by side, and the demo."""
