"""A recorded day as Arrow, wherever it lies: its day file or its archive."""
