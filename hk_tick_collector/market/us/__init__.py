"""United States stocks."""
