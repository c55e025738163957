"""The Python API on archived days, beside plain readers of the same Parquet files.

python -m benchmarks.client [--short]

A symbol's day: 56,000 ticks among 900 symbols with 1.6 million. A year: 250 days of 20,000 ticks of one symbol among
three, read in a process of its own, whose peak memory counts. Of a day imports are not counted, of a year all is.
The year's files are one file under 250 names: what is read is the same, and the disk's cache is as warm as it gets.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import hk_tick_collector as hk
from benchmarks.rig import table
from hk_tick_collector.days import content, manifest, parquet
from hk_tick_collector.days.schema import SCHEMA_VERSION, TICKS
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.store.reader import CoverageRow

DAY, SYMBOL = "20251120", "HK.00700"
FIRST_DAY = "20241121"  # of the year
MORNING_MS, SESSION_MS = int(9.5 * 3_600_000), 5 * 3_600_000


def ticks_of(symbol: str, rows: int, seed: int) -> pa.Table:
    """A symbol's day like OpenD's, in order."""
    draw = np.random.default_rng(seed)
    ts_ms = np.sort(draw.integers(0, SESSION_MS, rows)) + HK.day_bounds(DAY)[0] + MORNING_MS
    price = np.round(380 + np.cumsum(draw.choice([-0.2, 0, 0, 0.2], rows)), 3)
    volume = draw.integers(1, 50, rows) * 100

    def text(*words: str) -> pa.Array:
        codes = draw.integers(0, len(words), rows).astype(np.int32)
        return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words))

    columns = {
        "market": text("HK"), "symbol": text(symbol), "ts_ms": ts_ms, "price": price, "volume": volume,
        "turnover": np.round(price * volume, 3), "direction": text("BUY", "SELL", "NEUTRAL"),
        "seq": (ts_ms // 1000 << 32) | np.arange(1, rows + 1), "tick_type": text("AUTO_MATCH", "ODD_LOT", "AUCTION"),
        "push_type": text("push"), "provider": text("futu"), "trading_day": text(DAY), "recv_ts_ms": ts_ms + 60,
        "inserted_at_ms": ts_ms + 70, "push_data_type": text("REALTIME"), "opend_recv_ts_ms": ts_ms + 50,
        "type_sign": text(" ", "Y"), "occurrence": np.zeros(rows, np.int64),
    }  # fmt: skip
    arrays = [
        pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(rows, field.type)
        for field in TICKS
    ]
    return pa.Table.from_arrays(arrays, schema=TICKS)


def archive(root: Path, rows_by_symbol: Mapping[str, int], day: str = DAY) -> Path:
    """A day as ``hk-tickctl archive`` leaves it; its Parquet file."""
    path = manifest.parquet_path(root, day)
    path.parent.mkdir(parents=True)
    whole = pa.concat_tables(ticks_of(symbol, rows, n) for n, (symbol, rows) in enumerate(rows_by_symbol.items()))
    batches = whole.unify_dictionaries().combine_chunks().to_batches(max_chunksize=parquet.ROW_GROUP_ROWS)
    parquet.write_sorted(path, (pa.Table.from_batches([batch]) for batch in batches))
    claim(root, rows_by_symbol, day, path)
    return path


def claim(root: Path, rows_by_symbol: Mapping[str, int], day: str, path: Path) -> None:
    """The day's manifest: every symbol proven."""
    claims = {symbol: manifest.SymbolClaim(rows, 0, 0, 0, 0, "") for symbol, rows in rows_by_symbol.items()}
    proven = [
        CoverageRow(symbol, 1, rows, rows, 0, None, 1, rows, 0, 0, 0, "proven", None, 1, 0, 1, None)
        for symbol, rows in rows_by_symbol.items()
    ]
    file = manifest.ArchivedFile(manifest.PARQUET, str(path.relative_to(root)), path.stat().st_size, "")
    rows = sum(rows_by_symbol.values())
    claimed = manifest.Manifest(
        manifest.FORMAT_VERSION, day, "HK", 0, "benchmark", SCHEMA_VERSION, SCHEMA_VERSION, rows,
        content.ALGORITHM, "", claims, (file,), tuple(proven), (),
    )  # fmt: skip
    target = manifest.manifest_path(root, day)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(claimed.to_json())


def archive_year(root: Path, days: int, rows: int) -> None:
    """Days of three symbols, each with a name of its own for the same file."""
    rows_by_symbol = dict.fromkeys(("HK.00005", SYMBOL, "HK.09988"), rows)
    calendar, day = TradingCalendar(HK), FIRST_DAY
    source = archive(root, rows_by_symbol, day)
    for _ in range(days - 1):
        day = calendar.next_trading_day(day)
        path = manifest.parquet_path(root, day)
        path.parent.mkdir(parents=True)
        os.link(source, path)
        claim(root, rows_by_symbol, day, path)


def timed_ms(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median of the wall clock and of the CPU, the first turn left out."""
    walls, cpus = [], []
    for _ in range(rounds + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append((time.perf_counter() - wall) * 1000)
        cpus.append((time.process_time() - cpu) * 1000)
    return statistics.median(walls[1:]), statistics.median(cpus[1:])


def symbol_day(root: Path, path: Path, rounds: int) -> list[list[object]]:
    """Lines of the first table."""
    here = hk.local(root)
    wanted = pl.col("symbol") == SYMBOL
    ways: dict[str, Callable[[], object]] = {
        "hk.load, Arrow": lambda: here.load(SYMBOL, DAY, require="proven"),
        "hk.load, polars": lambda: here.load(SYMBOL, DAY, to="polars"),
        "hk.load, pandas": lambda: here.load(SYMBOL, DAY, to="pandas"),
        "hk.load, 4 columns": lambda: here.load(SYMBOL, DAY, columns="ts_ms,price,volume,seq"),
        "hk.bars, 1 minute": lambda: here.bars(SYMBOL, DAY, "1m"),
        "floor: polars.scan_parquet": lambda: pl.scan_parquet(path).filter(wanted).collect(),
        "floor: pyarrow read_table, filters": lambda: pq.read_table(path, filters=[("symbol", "=", SYMBOL)]),
    }
    return [[name, *(f"{ms:.0f}" for ms in timed_ms(work, rounds))] for name, work in ways.items()]


def read_year(root: Path, way: str) -> None:
    """In a process of its own: rows, seconds, peak memory in MB."""
    started_sec, rows = time.perf_counter(), 0
    if way == "hk.iter_batches":
        for batch in hk.local(root).iter_batches(SYMBOL, "..last", require="proven"):
            rows += batch.num_rows
    else:
        for path in sorted((root / "_archive/ticks").rglob("ticks.parquet")):
            rows += pq.read_table(path, filters=[("symbol", "=", SYMBOL)]).num_rows
    status = Path("/proc/self/status").read_text()  # getrusage would count what the process before exec had
    peak_mb = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps([rows, time.perf_counter() - started_sec, peak_mb]))


def year(root: Path) -> list[list[object]]:
    """Lines of the second table."""
    lines: list[list[object]] = []
    for way in ("hk.iter_batches", "floor: pyarrow read_table a file"):
        command = [sys.executable, "-m", "benchmarks.client", "--read-year", str(root), "--way", way]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows, seconds, peak_mb = json.loads(done.stdout)
        lines.append([way, f"{rows:,}", f"{seconds:.1f}", f"{peak_mb:.0f}"])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="little data: to see that it works")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--read-year", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read_year is not None:
        read_year(options.read_year, options.way)
        return
    warnings.simplefilter("error", hk.IncompleteData)
    others, mine, days, rows = (20, 500, 3, 500) if options.short else (899, 56_000, 250, 20_000)
    rows_by_symbol = {f"HK.{code:05d}": 1_720 for code in range(1, others + 1)} | {SYMBOL: mine}
    with tempfile.TemporaryDirectory(prefix="hk-client-") as directory:
        day_root, year_root = Path(directory, "day"), Path(directory, "year")
        path = archive(day_root / "_archive", dict(sorted(rows_by_symbol.items())))
        print(f"A day of one symbol: {mine:,} of {sum(rows_by_symbol.values()):,} ticks, archived\n")
        print(table(("read by", "ms", "CPU ms"), symbol_day(day_root, path, 2 if options.short else options.rounds)))
        archive_year(year_root / "_archive", days, rows)
        print(f"\n{days} days of one symbol, all columns, day by day\n")
        print(table(("read by", "ticks", "seconds", "peak MB"), year(year_root)))


if __name__ == "__main__":
    main()
