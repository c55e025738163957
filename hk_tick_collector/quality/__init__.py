"""Judgement of recorded days, from the files alone."""
