"""From OpenD to ticks in UTC: connection, push, poll, backfill, mapping, continuity."""
