"""Analyses of trained graphs."""
