"""Topologies: the graph, its documents, builders, edits and drawings."""
