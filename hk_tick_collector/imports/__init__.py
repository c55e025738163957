"""Bringing in what other programs recorded, through the store's one writer."""
