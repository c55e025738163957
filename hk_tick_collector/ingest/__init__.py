"""Bounded queue, spill to disk and the persist worker."""
