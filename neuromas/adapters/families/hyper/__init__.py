"""A network that all adapters share makes each one's vector from its place in the graph."""
