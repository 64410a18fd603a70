"""Adapter methods: maps from trained parameters to the low-rank pair of each module."""
