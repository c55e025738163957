"""Reading a day of order books: every form of it, and the export for HftBacktest. No recorder, no simulator process.

    python -m benchmarks.book_files

The books are the simulator's own, made with their prints at the market's clock, and written by the recorder's writer:
100 symbols, ten levels a side. ``--pushes`` more than are made are copies of them, one behind the other. Everything
is CPU of the measured process, not time on the wall; memory is the highest of a process that did nothing else.
"""

from __future__ import annotations

import random
import resource
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from benchmarks import rig
from hk_tick_collector.days.books import Form, read
from hk_tick_collector.market.hk import HK
from hk_tick_collector.opend_sim.depth_feed import DepthFeed, DepthState
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig
from hk_tick_collector.opend_sim.instruments import default_symbols
from hk_tick_collector.opend_sim.market_feed import MarketFeed
from hk_tick_collector.opend_sim.simclock import SimClock
from hk_tick_collector.records.book import Book, BookPush, PushEntry, WatchBegan
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_file
from tests.books import DAY, OPEN_US
from tests.harness import BIN, clean_env
from tests.tickctl import record_day

SYMBOLS = 100
LEVELS = 10
PRINTS_PER_SEC = 300.0
MADE_PUSHES, SHORT_PUSHES = 300_000, 20_000
STEP_MS = 10
COLUMNS = ("what", "pushes", "rows", "CPU us a push", "rows a CPU s", "10 M pushes CPU s", "peak MiB")
READ = "import sys; from benchmarks.book_files import read_all; read_all(*sys.argv[1:])"


def make_books(root: Path, pushes: int) -> Path:
    """A book file of so many pushes or a few more."""
    symbols = default_symbols(SYMBOLS)
    start_ms = OPEN_US // 1000
    config = MarketConfig(symbols, rate_per_sec=PRINTS_PER_SEC, always_open=True, delay_ms=(35, 444))
    market = MarketFeed(Exchange(config, start_ms), SimClock(start_ms))
    feed = DepthFeed(market, seed=1)
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: start_ms)
    writer.write(DAY, [WatchBegan(symbol, OPEN_US) for symbol in symbols], 0)
    draw, made, now_ms = random.Random(5), 0, start_ms
    while made < pushes:
        now_ms += STEP_MS
        states = feed.step(market.step(now_ms), now_ms, frozenset(symbols), LEVELS)
        times_us = sorted(now_ms * 1000 - draw.randrange(STEP_MS * 1000) for _ in states)
        entries = [PushEntry(_push(state, at_us)) for state, at_us in zip(states, times_us, strict=True)]
        if entries:
            writer.write(DAY, entries, len(entries))
            made += len(entries)
    writer.close()
    return book_file(root, DAY)


def _push(state: DepthState, at_us: int) -> BookPush:
    bids, asks = (tuple((level.price, level.volume, level.orders) for level in side) for side in state.depth)
    return BookPush(state.symbol, at_us, state.bid_ts_ms or None, state.ask_ts_ms or None, Book(bids, asks))


def repeat_books(path: Path, times: int) -> None:
    """The same rows so many times, each time later."""
    with closing(sqlite3.connect(path)) as conn, conn:
        first_us, last_us = conn.execute("SELECT min(recv_ts_us), max(recv_ts_us) FROM pushes").fetchone()
        rows = conn.execute("SELECT max(rowid) FROM pushes WHERE kind <> 'B'").fetchone()[0]
        for number in range(1, times):
            conn.execute(
                "INSERT INTO pushes SELECT symbol_id, recv_ts_us + ?, bid_lag_ms, ask_lag_ms, kind, merged, payload "
                "FROM pushes WHERE rowid <= ? AND kind <> 'B' ORDER BY rowid",
                (number * (last_us - first_us + 1_000_000), rows),
            )


def read_all(path: str, form: str) -> None:
    """Read a file to its end; prints rows, CPU seconds and the highest memory of this process in MiB."""
    begun_sec, rows = time.process_time(), 0
    for batch in read(Path(path), Form(form)):
        rows += batch.num_rows
    print(rows, time.process_time() - begun_sec, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure_form(path: Path, form: Form, rounds: int) -> list[object]:
    """A row of the table; the best of the rounds, since what runs beside it only adds."""
    best: list[float] = []
    for _ in range(rounds):
        command = [sys.executable, "-c", READ, str(path), form.value]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        figures = [float(word) for word in done.stdout.split()]
        best = figures if not best or figures[1] < best[1] else best
    return _row(form.value, path, int(best[0]), best[1], best[2])


def measure_hftbacktest(root: Path, path: Path) -> list[object]:
    """The built command, from its start to its end: packing included. CPU of all its threads."""
    command = [str(BIN / "hk-tickctl"), "export", "hftbacktest", "--force"]
    command += ["--output", str(root / "out"), "--data-root", str(root)]
    begun_sec = _children_sec()
    done = subprocess.run(command, env=clean_env(root / "home"), capture_output=True, text=True, check=True)
    took_sec = _children_sec() - begun_sec
    events = int(done.stdout.strip().splitlines()[-1].split()[0].replace(",", ""))
    return _row("export hftbacktest, events", path, events, took_sec, None)


def _children_sec() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _row(label: str, path: Path, rows: int, took_sec: float, peak_mib: float | None) -> list[object]:
    pushes = _pushes(path)
    return [label, pushes, rows, took_sec / pushes * 1e6, round(rows / took_sec), took_sec / pushes * 1e7, peak_mib]


def _pushes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as conn:
        return int(conn.execute("SELECT count(*) FROM pushes").fetchone()[0])


def main(argv: list[str] | None = None) -> int:
    parser = rig.parser(str(__doc__).splitlines()[0])
    parser.add_argument("--pushes", type=int, default=MADE_PUSHES, help="how many the day has")
    args = parser.parse_args(argv)
    rig.print_machine()
    pushes = SHORT_PUSHES if args.short else args.pushes
    with rig.workspace(args.keep) as root:
        path = make_books(root, min(pushes, MADE_PUSHES))
        repeat_books(path, -(-pushes // MADE_PUSHES))
        record_day(root, symbols=tuple(default_symbols(SYMBOLS)), count=SYMBOLS)
        rows = [measure_form(path, form, 1 if args.short else args.rounds) for form in Form]
        rows.append(measure_hftbacktest(root, path))
        print(f"{path.stat().st_size / _pushes(path):.1f} bytes a push in SQLite\n")
    print(rig.table(COLUMNS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
