"""Order books beside ticks: what a flood of books does to the ticks, and what becomes of each push.

    python -m benchmarks.books

The simulator makes a steady number of ticks a second over 900 symbols. Pushes of order books, made before, are added on
the way from it to the recorder (``book_injector``), for symbols that trade seldom: the simulator is one process on one
core and would have no time for ticks. Four programs take turns:

    books     the recorder takes ticks and books
    off       it takes ticks alone: what books cost the ticks is "books" to "off"
    floor     the floor, which knows no books: what they cost who has none is "off" to "floor"
    beside    the floor, to which the same books are sent: it receives them as the SDK does, and keeps none. What the
              machine, the load and the SDK make of ticks beside so many books is there without a recorder

"read" is the part of a tick's age until the program's thread has it from the socket; the rest is storing it. Each run
but the last kind is checked against the truth file of ticks, and in every session of the book file received = stored +
merged + unread must hold, received being at least what was added: else the exit code is 1.
"""

from __future__ import annotations

import contextlib
import signal
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import rig
from benchmarks.latency import IN_MARKET_HOURS, SETTLE_SEC, Window, watch
from hk_tick_collector.opend_sim.instruments import default_symbols
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_reader import SessionCounts
from hk_tick_collector.store.layout import book_days, book_file
from tests.harness import Process, Simulator, check, clean_env, ended

BOOKS, OFF, FLOOR, BESIDE = "books", "off", rig.FLOOR, "beside"
SHORT_PROGRAMS = (BOOKS, OFF, FLOOR)
PROGRAMS = (*SHORT_PROGRAMS, BESIDE)
BOOK_SYMBOLS = 100
TICKS_PER_SEC, BOOKS_PER_SEC = 5000, 20_000
WINDOW_SEC, SHORT_WINDOW_SEC = 15.0, 3.0
COLUMNS = (
    "program", "books/s sent", "received", "stored", "merged", "unread", "tick rows", "read p50 ms", "read p99 ms",
    "p50 ms", "p99 ms", "max ms", "CPU %", "RSS MiB",
)  # fmt: skip
LIKE = ("p50_ms", "p99_ms", "max_ms", "cpu_percent")


@dataclass(frozen=True)
class Load:
    """What is made in a window."""

    ticks_per_sec: int
    books_per_sec: int
    window_sec: float


@dataclass(frozen=True)
class Run:
    """One program in one window."""

    window: Window
    read_ms: tuple[float, float]  # p50 and p99 of the time from a tick's making to its reading
    sent_per_sec: float
    counts: SessionCounts | None  # of its book file


def measure(directory: Path, program: str, load: Load) -> Run:
    """One program. AssertionError when a tick is missing or a push is not accounted for."""
    symbols = ",".join(default_symbols(rig.SYMBOLS_COUNT)[-BOOK_SYMBOLS:])
    kind = rig.FLOOR if program in (FLOOR, BESIDE) else rig.RECORDER
    with contextlib.ExitStack() as cleanup:
        simulator = rig.simulator(directory / "sim", "--rate", load.ticks_per_sec)
        cleanup.enter_context(ended(simulator))
        command: list[str | Path] = [sys.executable, "-m", "benchmarks.book_injector", str(simulator.port), symbols]
        injector = Process([*command, str(load.books_per_sec)], clean_env(directory / "home"))
        cleanup.enter_context(ended(injector))
        port = int(injector.wait_for(r"injector_ready port=(\d+)", timeout_sec=120).group(1))
        settings = {**IN_MARKET_HOURS, "BOOK_SYMBOLS": symbols if program == BOOKS else ""}
        collector = rig.Collector(kind, directory / "data", port, None, **settings)
        cleanup.enter_context(ended(collector))
        collector.wait_subscribed()
        if kind == rig.RECORDER:
            collector.wait_for("backfill_done")
        if program == BOOKS:
            collector.wait_for(f"books_subscribed symbols={BOOK_SYMBOLS}")
        if program in (BOOKS, BESIDE):
            injector.signal(signal.SIGUSR1)
        time.sleep(SETTLE_SEC)
        since_ms = time.time_ns() // 1_000_000
        window = watch(collector, load.window_sec)
        until_ms = time.time_ns() // 1_000_000
        sent = _injected(injector)
        if program != BESIDE:
            _end_and_check(collector, simulator, program, since_ms)
    counts = _counts(directory / "data", sent) if program == BOOKS else None
    return Run(window, _read_ms(directory / "data", since_ms, until_ms), sent / (load.window_sec + SETTLE_SEC), counts)


def _end_and_check(collector: rig.Collector, simulator: Simulator, program: str, since_ms: int) -> None:
    """AssertionError when something that was made is not stored."""
    cleared_sec = time.monotonic()
    _wait_until_caught_up(collector)
    if collector.kind == rig.RECORDER:  # a client that is too slow is disconnected, and fetches what it missed
        rig.wait_quickly(lambda: _is_backfilled(collector), "backfill after a reconnect", collector)
    code = collector.stop()
    assert code == 0, f"{program} ended with {code}\n{collector.output}"
    simulator.stop()
    # Up to then all must be there; what was made while the recorder came to its end need not.
    tail_ms = round((time.monotonic() - cleared_sec) * 1000) + 500
    result = check(simulator, collector.data_root, "--since-ms", str(since_ms), "--allow-tail-ms", str(tail_ms))
    assert result.returncode == 0, f"{program} did not store what was made:\n{result.stdout}{result.stderr}"


def _read_ms(data_root: Path, since_ms: int, until_ms: int) -> tuple[float, float]:
    sql = "SELECT recv_ts_ms - ts_ms FROM ticks WHERE push_type = 'push' AND ts_ms % 1000 AND ts_ms BETWEEN ? AND ?"
    with contextlib.closing(rig.RowReader(data_root)) as reader:
        ages_ms = [row[0] for conn in reader.connections() for row in conn.execute(sql, (since_ms, until_ms))]
    percentiles = statistics.quantiles(ages_ms, n=100)
    return percentiles[49], percentiles[98]


def _injected(injector: Process) -> int:
    """How many pushes were added; no more are from now on."""
    injector.signal(signal.SIGUSR2)
    return int(injector.wait_for(r"injected=(\d+)").group(1))


def _wait_until_caught_up(collector: rig.Collector) -> None:
    """A tick that was made from now on is stored: on a machine that is too slow, others wait before it."""
    now_ms = time.time_ns() // 1_000_000
    sql = "SELECT ts_ms FROM ticks WHERE push_type = 'push' ORDER BY rowid DESC LIMIT 1"
    with contextlib.closing(rig.RowReader(collector.data_root)) as reader:
        rig.wait_quickly(
            lambda: max(conn.execute(sql).fetchone()[0] for conn in reader.connections()) > now_ms,
            "newer tick",
            collector,
        )


def _is_backfilled(collector: rig.Collector) -> bool:
    output = collector.output
    return output.count("backfill_done") >= output.count("futu_connected")


def _counts(data_root: Path, sent: int) -> SessionCounts:
    """Of the one session. AssertionError when it does not add up, or when pushes never came to it."""
    (counts,) = [session for day in book_days(data_root) for session in book_reader.sessions(book_file(data_root, day))]
    assert counts.adds_up, f"received is not stored + merged + unread: {counts}"
    assert counts.received >= sent, f"{sent} pushes were added: {counts}"
    return counts


def _row(program: str, runs: list[Run]) -> list[object]:
    def median(name: str) -> float:
        return float(statistics.median(getattr(run.window, name) for run in runs))

    counts = [run.counts for run in runs if run.counts is not None]
    told = [sum(getattr(session, name) for session in counts) for name in ("received", "stored", "merged", "unread")]
    return [
        program,
        statistics.median(run.sent_per_sec for run in runs),
        *(told if counts else [None] * 4),
        sum(run.window.rows for run in runs),
        *(statistics.median(ages) for ages in zip(*(run.read_ms for run in runs), strict=True)),
        median("p50_ms"),
        median("p99_ms"),
        max(run.window.max_ms for run in runs),
        median("cpu_percent"),
        median("rss_mib"),
    ]


def _ratio_row(program: str, to: str, runs: dict[str, list[Run]]) -> list[object]:
    pairs = [(ours.window, other.window) for ours, other in zip(runs[program], runs[to], strict=True)]
    ratios = [statistics.median(getattr(ours, name) / getattr(other, name) for ours, other in pairs) for name in LIKE]
    return [f"{program} to {to}", *[None] * 8, *ratios, None]


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 measured, 1 a tick was lost or a push is not accounted for."""
    parser = rig.parser(str(__doc__).splitlines()[0])
    parser.add_argument("--rate", type=int, default=TICKS_PER_SEC, metavar="R", help="ticks a second")
    parser.add_argument("--books", type=int, default=BOOKS_PER_SEC, metavar="R", help="pushes of books a second")
    parser.add_argument("--window", type=float, default=WINDOW_SEC, metavar="SEC", help="how long each is watched")
    args = parser.parse_args(argv)
    rig.print_machine()
    load = Load(args.rate, args.books, SHORT_WINDOW_SEC if args.short else args.window)
    programs = SHORT_PROGRAMS if args.short else PROGRAMS
    runs: dict[str, list[Run]] = {program: [] for program in programs}
    with rig.workspace(args.keep) as directory:
        for number in range(1 if args.short else args.rounds):
            for program in programs if number % 2 == 0 else reversed(programs):
                try:
                    runs[program].append(measure(directory / f"{program}-{number}", program, load))
                except AssertionError as exc:
                    print(exc, file=sys.stderr)
                    return 1
    rows = [_row(program, runs[program]) for program in programs]
    rows += [_ratio_row(BOOKS, OFF, runs), _ratio_row(OFF, FLOOR, runs)]
    if BESIDE in runs:
        rows.append(_ratio_row(BOOKS, BESIDE, runs))
    print(rig.table(COLUMNS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
