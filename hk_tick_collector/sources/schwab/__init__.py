"""Schwab's Trader API: its streamer, which tells the last trade of a stock now and then, and not each trade."""
