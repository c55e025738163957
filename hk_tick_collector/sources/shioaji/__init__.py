"""Shioaji, SinoPac's gateway to Taiwan's markets, as a source."""
