"""Taiwan stocks."""
