"""SSF-k: a few channels of each layer are scaled."""
