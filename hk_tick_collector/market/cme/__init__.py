"""CME Group futures."""
