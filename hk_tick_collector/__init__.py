"""Record Hong Kong stock ticks from Futu OpenD into per-day SQLite files."""

__version__ = "0.1.0"
