"""Values every box shares: progress counters, errors, clock, back-off, log lines. Imports nothing of ours."""
