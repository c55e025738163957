"""A recorded day into ClickHouse's engine, both on this machine: rows a second as they are stored and as a whole day,
seconds to prove the copy, bytes a tick. Beside wall time, which a busy machine stretches, the CPU of shipper and engine
together, in microseconds a tick.

    python -m benchmarks.ship [--ticks 1000000]

The engine is the one of the tests, behind their front. One line of JSON. Floors: ``floor_rows_per_sec``, the same rows
made ready before; ``scan_sec``, the engine's own hash of the same rows and columns, each tick read once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import rig
from benchmarks.rig import cpu_sec
from benchmarks.ticks import TickSource, store
from hk_tick_collector.clickhouse import tables
from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.tables import DAY as TRADING_DAY
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.ship.copies import Copies, place_of, recorded
from hk_tick_collector.ship.live import MAX_ROWS, Live
from hk_tick_collector.ship.rows import ticks_stream
from hk_tick_collector.ship.state import State
from hk_tick_collector.store.layout import archive_dir
from tests.clickhouse import ClickHouseServer, clickhouse_server

DAY = "20261120"


def cpu_of_both_sec(server: ClickHouseServer) -> float:
    """Used so far by this process and by the engine's."""
    assert server.process is not None
    return time.process_time() + cpu_sec(server.process.pid)


def floor_sec(engine: ClickHouse, day: Day) -> float:
    """How long the engine takes for the same rows, made ready before, in as many inserts."""
    bodies, held = [], []
    for batch in day.batches():
        held.append(batch)
        if sum(batch.num_rows for batch in held) >= MAX_ROWS:
            bodies.append(ticks_stream(held, "floor", 1))
            held = []
    bodies += [ticks_stream(held, "floor", 1)] if held else []
    began = time.perf_counter()
    for number, body in enumerate(bodies):
        engine.insert("ticks", body, token=f"floor/{number}")
    return time.perf_counter() - began


def scan_sec(engine: ClickHouse) -> float:
    """How long the engine takes to read every value of the day, each tick once, into a hash of its own."""
    began = time.perf_counter()
    engine.rows(f"SELECT sum(cityHash64(*)) FROM {engine.database}.ticks FINAL WHERE {TRADING_DAY} = '{DAY}'")
    return time.perf_counter() - began


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--ticks", type=int, default=1_000_000)
    parser.add_argument("--short", action="store_true", help="3,000 ticks: shows that it works, figures are rough")
    given = parser.parse_args()
    ticks = 3_000 if given.short else given.ticks
    with tempfile.TemporaryDirectory() as name, clickhouse_server(Path(name) / "engine") as server:
        root = Path(name) / "HK"
        root.mkdir()
        store(root, TickSource(DAY, ticks), ticks)
        days, state = Catalog(root, archive_dir(root)), State(Path(name) / "ship")
        engine = server.engine(timeout_sec=600)
        tables.init(engine, tables.Shape(), 1)
        live, copies = Live(days, engine, state, "A"), Copies(engine, "A")
        cpu_at = [cpu_of_both_sec(server)]
        began = time.perf_counter()
        rows = 0
        while sent := live.step():
            rows += sent
        live_sec = time.perf_counter() - began
        cpu_at.append(cpu_of_both_sec(server))
        floor = floor_sec(engine, days.day(DAY))
        engine.run(f"ALTER TABLE {engine.database}.ticks DROP PARTITION ('{DAY}', 'floor')")
        cpu_at.append(cpu_of_both_sec(server))
        began = time.perf_counter()
        here = recorded(days.day(DAY), place_of(days.day(DAY)))
        here_sec = time.perf_counter() - began
        there = copies.there(DAY)
        verify_sec = time.perf_counter() - began
        cpu_at.append(cpu_of_both_sec(server))
        scanned_sec = scan_sec(engine)
        began = time.perf_counter()
        copies.bring(days.day(DAY))
        bring_sec = time.perf_counter() - began
        engine.run(f"OPTIMIZE TABLE {engine.database}.ticks FINAL")
        ((stored,),) = engine.rows(
            "SELECT sum(bytes_on_disk) FROM system.parts "
            f"WHERE database = '{engine.database}' AND table = 'ticks' AND active"
        )
        columns = engine.rows(
            "SELECT column, round(sum(column_bytes_on_disk) / sum(rows), 2) FROM system.parts_columns "
            f"WHERE database = '{engine.database}' AND table = 'ticks' AND active GROUP BY column ORDER BY 2 DESC"
        )
        print(json.dumps({
            "ticks": rows, "equal": here.symbols == there, "live_rows_per_sec": round(rows / live_sec),
            "floor_rows_per_sec": round(rows / floor), "live_of_floor": round(floor / live_sec, 2),
            "hash_here_sec": round(here_sec, 2), "verify_sec": round(verify_sec, 2), "scan_sec": round(scanned_sec, 2),
            "bring_and_check_sec": round(bring_sec, 2), "bytes_per_tick": round(int(stored) / rows, 2),
            **{
                f"{name}_cpu_us": round((after - before) / rows * 1e6, 2)
                for name, before, after in zip(("live", "floor", "verify"), cpu_at, cpu_at[1:], strict=False)
            },
            "bytes_by_column": dict(columns), "load": os.getloadavg()[0],
        }))  # fmt: skip
    is_equal = here.symbols == there and rows == ticks
    return rig.exit_code([] if is_equal else [f"{rows:,} of {ticks:,} ticks were sent, and the copy is not equal"])


if __name__ == "__main__":
    sys.exit(main())
