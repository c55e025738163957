"""A simulated streamer of Schwab's, with its token interface, for developers."""
