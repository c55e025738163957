"""The recorder in the time of a simulated market that runs faster than real time. Started by the benchmarks.

    python benchmarks/market_recorder.py CLOCK_FILE FASTER

Its wall clock is the market's (``hk-opend-sim run --clock-file``), so that hours, days, half days and holidays are the
market's, too. Nothing else is touched: timeouts and pauses, the SDK, SQLite and the kernel stay in real time, and the
monotonic clock is the machine's. (libfaketime would shift all of it: the SDK gives up a connection that was silent for
33 seconds, which would be a third of a second at 100 times real speed.)

FASTER divides the three periods of the recorder that are made for the length of the market's day, as far as a machine
can follow: between two audits of a symbol, between two polls of a quiet one, and until yesterday's file is closed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.ingest import worker
from hk_tick_collector.main import main as run_recorder
from hk_tick_collector.opend_sim.simclock import MarketTime
from hk_tick_collector.sources import poll

LEAST_AUDIT_SEC = 4.0
LEAST_QUIET_POLL_SEC = 5.0
LEAST_IDLE_CLOSE_SEC = 5.0


def main() -> int:
    """Run the recorder; its exit code."""
    market = MarketTime(Path(sys.argv[1]))
    faster = float(sys.argv[2])
    SystemClock.now_ms = lambda _self: market.now_ms()  # type: ignore[method-assign]
    poll.AUDIT_INTERVAL_SEC = max(poll.AUDIT_INTERVAL_SEC / faster, LEAST_AUDIT_SEC)
    poll.QUIET_POLL_MAX_SEC = max(poll.QUIET_POLL_MAX_SEC / faster, LEAST_QUIET_POLL_SEC)
    worker.DAY_IDLE_CLOSE_SEC = max(worker.DAY_IDLE_CLOSE_SEC / faster, LEAST_IDLE_CLOSE_SEC)
    return run_recorder([])


if __name__ == "__main__":
    sys.exit(main())
