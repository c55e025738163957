"""Days as files for other programs: Parquet, CSV, Futu's zip, SQLite."""
