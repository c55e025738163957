"""Hong Kong securities."""
