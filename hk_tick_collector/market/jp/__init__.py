"""Tokyo stocks."""
