"""Target tracking exactly as AWS does it."""
