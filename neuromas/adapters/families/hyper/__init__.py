"""A network that all adapters share makes each one's vector from its position in the graph."""
