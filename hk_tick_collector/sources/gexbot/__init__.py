"""gexbot: levels that are computed from option chains, a picture a second. No trades: a dataset of its own."""
