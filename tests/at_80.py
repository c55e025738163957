"""What every command shows on a terminal of 80 columns, kept in ``tests/data/at_80``. After a change that is meant:

    python -m tests.at_80

The days are made here and have no clock but their own. What cannot be the same twice is written as ``...``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hk_tick_collector.core.facts import GapFound, Verified
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.book import PullCompared, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.writer import DayFileWriter
from tests import forked
from tests.books import OPEN_US, lively_pushes
from tests.daily_quotations import PAGE
from tests.harness import clean_env
from tests.snapshots import NDX, SPX, copied, filled, record, snapshot
from tests.tickctl import CONFIRMED_MS, day_ticks, record_day

KEPT = Path(__file__).parent / "data/at_80"
COLUMNS = 80
SHOWN_AS = "/data/sqlite/day-files"  # as long as the directory that stands for it
DAYS = ("20261118", "20261119", "20261120")
QUESTIONS = {
    "SQL": "SELECT symbol, count(*) AS ticks, sum(turnover) AS turnover, min(ts_ms) AS first FROM ticks GROUP BY 1 "
    "ORDER BY 1",
    "SELECT_ALL": "SELECT * FROM ticks ORDER BY ts_ms, symbol LIMIT 1",
}

# In this order: some change what those behind them find.
COMMANDS: dict[str, str] = {
    "help": "--help",
    "day": "day 20261119",
    "day_all": "day 20261120 --recount --all",
    "day_symbol": "day 20261119 --symbols 5",
    "gaps": "gaps --days 20261118.. --state all",
    "audit_list": "audit --against daily-quotations PAGE --no-write",
    "facts": "facts 20261120",
    "ticks": "ticks 0700.HK --last 3",
    "ticks_all_columns": "ticks 700 --last 1 --columns all",
    "bars": "bars 700 --interval 30m",
    "book": "book 700 --at 09:31 --levels 3",
    "book_day": "book",
    "snapshots": "snapshots --data-root ROOT/us",
    "snapshot": "snapshots US.SPX --at 09:30:05 --data-root ROOT/us",
    "top": "top --days 20261118..",
    "universe": "universe --recorded-only --limit 3",
    "query": "query SQL",
    "query_wide": "query SELECT_ALL",
    "export": "export csv -o ROOT/csv",
    "archive": "archive 20261118..20261119",
    "verify": "verify",
    "restore": "restore 20261118 --into ROOT/back",
    "retain": "retain --keep-days 1 --dry-run",
    "eod": "eod",
    "migrate": "migrate --dry-run",
    "salvage": "salvage ROOT/20261119.db --into ROOT/whole.db",
    "compare": "compare ROOT ROOT/b --days 20261120",
    "merge": "merge ROOT ROOT/b --into ROOT/merged --days 20261118..",
    "config": "config --changed",
    "logs": "logs --file ROOT/log",
    "keys": "keys list --keys-file ROOT/keys.json",
    "wrong_day": "day 20261132",
}
NO_DATA_ROOT = ("--help", "keys", "compare", "merge")
_LOG = """\
2026-11-20T01:30:00.000Z INFO health status=ok queue=0 spill=0 stored=1000
2026-11-20T01:31:00.000Z WARNING feed_silent channel=push quiet_sec=60 symbols=3
2026-11-20T01:32:00.000Z ERROR store_failed code=disk_full text="no space left on device"
"""
# Of the wall clock, of a machine, of a version.
_NOT_TWICE = (
    (re.compile(r"(read again at) \S+ HKT on\s+\d{8}"), r"\1 ..."),
    (re.compile(r"(inserted_at_ms \(HKT\)\s+|made +)\S+( \S+)?"), r"\1..."),
    (re.compile(r"(since|symbols of \d+ for) \d{8}"), r"\1 ..."),
    (re.compile(r"\b(\d[\d.,]*) (MB|KB|bytes)\b"), "... \\2"),
    (re.compile(r"(?m)^(\S+ +\S+ +)[\d,]+(  /data)"), r"\1...\2"),
    (re.compile(r"(?m)^(.*(?:within|longest)) +\d{6,}$"), r"\1 ..."),
    (re.compile(r"hk-tick-collector \S+, futu-api \S+?;"), "hk-tick-collector ..., futu-api ...;"),
)


@contextmanager
def recorded() -> Iterator[Path]:
    """Three days: a complete one, one with gaps, one that nobody confirmed; a log; a file of keys."""
    with tempfile.TemporaryDirectory(prefix="at-80-", dir="/tmp") as name:
        root = Path(name) / "9"
        assert len(str(root)) <= len(SHOWN_AS), root
        root = Path(f"{root}{'9' * (len(SHOWN_AS) - len(str(root)))}")
        root.mkdir()
        record_day(root, DAYS[0], count=300)
        _holed_day(root)
        record_day(root, DAYS[2], count=300, proven=False)
        _second_recording(root / "b")
        _books(root)
        _snapshots(root / "us")
        (root / "log").write_text(_LOG)
        yield root


def _books(root: Path) -> None:
    """Of a minute of the last day."""
    pushes = [PushEntry(push) for push in lively_pushes(("HK.00005", "HK.00700"), 600, step_us=100_000)]
    lost = WatchEnded("HK.00700", OPEN_US + 61_000_000, "connection lost")
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000 + 90_000)
    began = [WatchBegan(symbol, OPEN_US) for symbol in ("HK.00005", "HK.00700")]
    writer.write(DAYS[2], [*began, *pushes, lost, PullCompared("HK.00005", OPEN_US, True)], len(pushes))
    writer.close()


def _snapshots(root: Path) -> None:
    """Of a day whose own file of the source was read: one second is absent, most were not offered."""
    live = [snapshot(SPX, second) for second in range(8)]
    record(root, [*live, *filled(NDX, range(2, 20))], [copied(SPX, range(9)), copied(NDX, range(2, 20))])


def _second_recording(root: Path) -> None:
    """Of the last day: two symbols, of which it lost some ticks, and received each a moment later."""
    root.mkdir()
    ticks = [*day_ticks("HK.00005", 300, DAYS[2])[:290], *day_ticks("HK.00700", 300, DAYS[2])[15:]]
    writer = DayFileWriter(root)
    writer.write([tick._replace(recv_ts_ms=tick.recv_ts_ms + 2) for tick in ticks])
    writer.close()


def _holed_day(root: Path) -> None:
    record_day(root, DAYS[1], symbols=("HK.00700", "HK.09988"), count=300)
    confirmed_ms = day_start_ms(DAYS[1]) + CONFIRMED_MS
    ticks = [tick for tick in day_ticks("HK.00005", 300, DAYS[1], first=41) if (tick.seq or 0) & 0xFFFF not in (90, 91)]
    facts = [
        Verified("HK.00005", DAYS[1], 340, confirmed_ms),
        GapFound("HK.00005", DAYS[1], None, 40, confirmed_ms, "recording began in mid-session"),
        GapFound("HK.00005", DAYS[1], 90, 91, confirmed_ms, "OpenD no longer shows them"),
    ]
    writer = DayFileWriter(root)
    writer.write(ticks, facts)
    writer.close()


def shown_by(root: Path, name: str, columns: int = COLUMNS, **settings: object) -> subprocess.CompletedProcess[str]:
    """The command on a terminal."""
    words = [QUESTIONS.get(word, word) for word in COMMANDS[name].split()]
    words = [word.replace("ROOT", str(root)).replace("PAGE", str(PAGE)) for word in words]
    if words[0] not in NO_DATA_ROOT and "--data-root" not in words:
        words += ["--data-root", str(root)]
    environment = clean_env(root.parent / "home", FUTU_SYMBOLS="HK.00005,HK.00700,HK.09988", **settings)
    return forked.parent(words[0]).run_on_terminal(words, environment, columns)


def text_of(root: Path, name: str, columns: int = COLUMNS) -> str:
    """What is kept of it."""
    done = shown_by(root, name, columns, NO_COLOR="1")
    text = f"$ hk-tickctl {COMMANDS[name]}\n{done.stdout}{done.stderr}exit code {done.returncode}\n"
    text = text.replace(str(root), SHOWN_AS)
    for pattern, instead in _NOT_TWICE:
        text = pattern.sub(instead, text)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def keep() -> None:
    """Write them all anew."""
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir()
    with recorded() as root:
        for name in COMMANDS:
            (KEPT / f"{name}.txt").write_text(text_of(root, name))
    print(f"kept: {len(COMMANDS)} in {KEPT}; read them with: git diff")


if __name__ == "__main__":
    keep()
