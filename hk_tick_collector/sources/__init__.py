"""Where ticks come from: what a source must give, what is shared by all, and one folder a source."""
