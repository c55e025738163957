"""Singapore stocks."""
