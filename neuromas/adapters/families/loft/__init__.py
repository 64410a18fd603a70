"""LOFT: a rotation of each layer's input inside a small subspace."""
