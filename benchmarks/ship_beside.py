"""The shipper beside a recorder: it sends a day that waits while ticks are recorded and sent as they come.

    python -m benchmarks.ship_beside [--ticks 1000000] [--rate 1000]

Simulator, recorder, shipper and ClickHouse's engine share this machine, each in a process of its own. An earlier day
was begun when its shipper was stopped; timed is how soon the rest of it is in ClickHouse, and afterwards how long it
takes from storing to arriving. In the end the engine must hold every row of both files.
One line of JSON. Exit codes: 0 measured, 1 rows are missing in ClickHouse.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from benchmarks import rig
from benchmarks.ship import DAY
from benchmarks.ticks import TickSource, store
from hk_tick_collector.clickhouse.connection import ClickHouse
from tests.clickhouse import ClickHouseServer, clickhouse_server
from tests.harness import BIN, Process, clean_env, ended, wait_until
from tests.redis_server import free_port

BEGUN_ROWS = 5_000  # of the day were sent before its shipper was stopped
SETTLE_SEC = 3.0
STEADY_SEC = 20.0  # of shipping beside the recorder, after the day that waited
_BUCKET = re.compile(r'hk_ship_lag_seconds_bucket\{le="([^"]+)"\} ([0-9.e+]+)')


def lags(port: int) -> dict[float, float]:
    """Shipments by the upper end of their lag in seconds, cumulative, as the shipper tells it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        told = answer.read().decode()
    return {float(end): float(count) for end, count in _BUCKET.findall(told)}


def p99_sec(before: dict[float, float], after: dict[float, float]) -> float:
    """The upper end of the bucket that holds the lag of 99 of 100 shipments between two looks. AssertionError when
    there was none."""
    since = {end: count - before[end] for end, count in after.items()}
    assert since[float("inf")], "nothing was sent meanwhile"
    return next(end for end, count in sorted(since.items()) if count >= 0.99 * since[float("inf")])


def measure(
    directory: Path, server: ClickHouseServer, ticks: int, rate: int, steady_sec: float = STEADY_SEC
) -> dict[str, object]:
    """The figures. AssertionError when rows did not arrive."""
    root, port = directory / "HK", free_port()
    root.mkdir()
    database = f"{server.url}/hk"
    env = clean_env(
        directory / "home", DATA_ROOT=root, SHIP_URL=database, SHIP_DIR=directory / "ship", SHIP_METRICS_PORT=port
    )
    subprocess.run([BIN / "hk-tickctl", "ship", "init"], env=env, check=True, capture_output=True)
    engine = server.engine(timeout_sec=60)
    source = TickSource(DAY, ticks)
    store(root, source, BEGUN_ROWS)
    with ended(shipper := Process([BIN / "hk-tick-ship"], env)):
        wait_until(lambda: rows_taken(engine) == BEGUN_ROWS, "the day was begun", timeout_sec=60)
        shipper.stop()
    store(root, source, ticks - BEGUN_ROWS)
    with ExitStack() as cleanup:
        simulator = rig.simulator(directory / "sim", "--rate", rate)
        cleanup.enter_context(ended(simulator))
        recorder = rig.Collector(rig.RECORDER, root, simulator.port, FUTU_POLL_TRADING_ONLY=0)
        cleanup.enter_context(ended(recorder))
        recorder.wait_for("backfill_done")
        shipper = Process([BIN / "hk-tick-ship"], env)
        cleanup.enter_context(ended(shipper))
        shipper.wait_for("ship_started", timeout_sec=60)
        began_sec, stored_before = time.monotonic(), stored_rows(root)
        wait_until(lambda: rows_taken(engine) >= ticks, "the day that waited is there", timeout_sec=900)
        waited_sec = time.monotonic() - began_sec
        time.sleep(SETTLE_SEC)  # the shipper counts a shipment after the engine has it
        lags_before = lags(port)
        time.sleep(steady_sec)
        beside_per_sec = (stored_rows(root) - stored_before) / (time.monotonic() - began_sec)
        lag_sec = p99_sec(lags_before, lags(port))
        recorder.stop()
        stored = stored_rows(root)
        wait_until(lambda: rows_there(engine) >= stored, "all that was recorded is there", timeout_sec=120)
        shipper.stop()
    return {
        "ticks_that_waited": ticks,
        "rows_per_sec": round((ticks - BEGUN_ROWS) / waited_sec),
        "lag_p99_sec_at_most": lag_sec,
        "recorded_per_sec": round(beside_per_sec),
        "rows_stored": stored,
        "rows_there": rows_there(engine),
        "load": os.getloadavg()[0],
    }


def stored_rows(root: Path) -> int:
    """Of all day files."""
    with contextlib.closing(rig.RowReader(root)) as reader:
        return reader.rows()


def rows_taken(engine: ClickHouse) -> int:
    """Rows of the day that waited which the engine took, without a look at them."""
    ((rows,),) = engine.rows(
        f"SELECT sum(rows) FROM system.parts WHERE database = '{engine.database}' AND table = 'ticks' AND active "
        f"AND partition LIKE '%{DAY}%'"
    )
    return int(str(rows))


def rows_there(engine: ClickHouse) -> int:
    """Different ticks that the engine holds."""
    ((rows,),) = engine.rows(f"SELECT count() FROM {engine.database}.ticks FINAL")
    return int(str(rows))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--ticks", type=int, default=1_000_000, help="of the day that waits")
    parser.add_argument("--rate", type=int, default=1_000, help="ticks a second that are recorded beside it")
    parser.add_argument("--short", action="store_true", help="10,000 ticks, 5 s: shows that it works")
    given = parser.parse_args()
    ticks, steady_sec = (2 * BEGUN_ROWS, 5.0) if given.short else (given.ticks, STEADY_SEC)
    with tempfile.TemporaryDirectory() as name, clickhouse_server(Path(name) / "engine") as server:
        try:
            print(json.dumps(measure(Path(name), server, ticks, given.rate, steady_sec)))
        except AssertionError as exc:
            print(exc, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
