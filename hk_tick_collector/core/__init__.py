"""Values every box shares: ticks, progress counters, errors, clock, back-off, log lines. Imports nothing of ours."""
