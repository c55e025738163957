"""gexbot: levels that are computed from option chains, a snapshot a second. No trades: a dataset of its own."""
