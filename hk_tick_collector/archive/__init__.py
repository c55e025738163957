"""Putting days away: snapshot, verification, restoring, retention."""
