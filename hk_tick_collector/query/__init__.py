"""SQL, ticks and bars over recorded days, live and archived."""
