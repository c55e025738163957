"""Hong Kong market facts: trading days, session phases, symbol codes."""
