"""Per-day SQLite files: layout, schema, the one writer, read-only reading."""
