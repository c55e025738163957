"""Makes the kept files of one schema version under ``tests/data/versions/N``: once, with the program of that version.

    python -m tests.migration.keep N

A folder that is there is never made anew: what it holds is what recorders of that version left on disks. Version 0 is
what an earlier recorder left: a day file with the first 14 columns. All of them hold one small day, told in words by
``day_ticks``:

- ``20261120.db``: the day file, closed
- ``archive/``: the same day as Parquet and as a packed day file, with its manifest
- ``waiting/``: a data root whose spill has a segment of three ticks that came later (no
  recorder of version 0 had a spill)
- ``rows.json``: the rows of the day file with the columns of its version, in the order of rowid
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from pathlib import Path

from hk_tick_collector.archive import atomic, pack
from hk_tick_collector.core.facts import Fact, GapFound, HeadProven, NotSubscribed, Unproven, Verified
from hk_tick_collector.days.manifest import PARQUET, SQLITE
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.records.tick import Tick, tick_with
from hk_tick_collector.store.writer import DayFileWriter

VERSIONS = Path(__file__).resolve().parents[1] / "data/versions"
DAY = "20261120"
OPEN_MS = 1_795_138_200_000  # 09:30 in Hong Kong
MADE_AT_MS = OPEN_MS + 10 * 3_600_000
FIRST_14 = (
    "market TEXT NOT NULL, symbol TEXT NOT NULL, ts_ms INTEGER NOT NULL, price REAL, volume INTEGER, turnover REAL, "
    "direction TEXT, seq INTEGER, tick_type TEXT, push_type TEXT, provider TEXT, trading_day TEXT NOT NULL, "
    "recv_ts_ms INTEGER NOT NULL, inserted_at_ms INTEGER NOT NULL"
)


def make_tick(n: int, symbol: str = "HK.00700", **changes: object) -> Tick:
    """The ``n``-th of a symbol."""
    ts_ms = OPEN_MS + n * 250
    tick = Tick(
        symbol, ts_ms, 612.5 + n / 10, n * 100, (612.5 + n / 10) * n * 100, "BUY", (ts_ms // 1000) << 32 | n,
        "AUTO_MATCH", "push", DAY, ts_ms + 60, "REALTIME", ts_ms + 40, " ",
    )  # fmt: skip
    return tick._replace(**changes)  # type: ignore[arg-type]


def day_ticks(version: int) -> list[Tick]:
    """Ticks of three symbols: proven, with a gap, and without sequences; one is told twice with one sequence. Since
    version 2 a fourth symbol has what other sources than OpenD tell."""
    proven = [make_tick(n) for n in range(1, 9)]
    holed = [make_tick(n, "HK.00005", price=60.0, turnover=6000.0 * n) for n in (1, 2, 5, 6)]
    alike = [make_tick(1, "HK.09988", seq=None, occurrence=n) for n in range(3)]
    bare = make_tick(2, "HK.09988", seq=None, price=None, volume=None, turnover=None, direction=None, type_sign=None)
    other = make_tick(6, "HK.00005", price=61.0, push_type="poll", push_data_type=None, opend_recv_ts_ms=None)
    plain = [*proven, *holed, *alike, bare, other]
    return plain if version < 2 else [*plain, *quoted_ticks(1, 4)]


def quoted_ticks(first: int, last: int) -> list[Tick]:
    """As a source tells them that knows more than OpenD."""
    kind = tick_with("ts_ns_part", "total_volume", "venue", "conditions", "bid_price", "ask_price")
    return [
        kind._make((*make_tick(n, "HK.00001"), n * 1000, n * 500, "SEHK", None if n % 2 else "late", n / 2, n / 2 + 1))
        for n in range(first, last + 1)
    ]


def day_facts() -> list[Fact]:
    """What the feed learned of them."""
    return [
        HeadProven("HK.00700", DAY, 1),
        Verified("HK.00700", DAY, 8, MADE_AT_MS),
        HeadProven("HK.00005", DAY, 1),
        GapFound("HK.00005", DAY, 3, 4, MADE_AT_MS, "OpenD kept fewer rows"),
        Unproven("HK.09988", DAY, "ticks without a sequence"),
        NotSubscribed("HK.02800", DAY, OPEN_MS, OPEN_MS + 60_000, True, "not subscribed"),
    ]


def later_ticks(version: int) -> list[Tick]:
    """What waits in the spill."""
    return [make_tick(n) for n in range(9, 12)] if version < 2 else [*map(make_tick, (9, 10)), *quoted_ticks(5, 5)]


def make_earlier_recorders_file(root: Path) -> None:
    """Version 0."""
    with contextlib.closing(sqlite3.connect(root / f"{DAY}.db")) as conn:
        conn.execute(f"CREATE TABLE ticks ({FIRST_14})")
        conn.execute("CREATE UNIQUE INDEX uniq_ticks_symbol_seq ON ticks (symbol, seq) WHERE seq IS NOT NULL")
        conn.execute(
            "CREATE UNIQUE INDEX uniq_ticks_symbol_ts_price_vol_turnover "
            "ON ticks (symbol, ts_ms, price, volume, turnover) WHERE seq IS NULL"
        )
        for tick in day_ticks(0):
            values = {"market": "HK", "provider": "futu", "inserted_at_ms": tick.recv_ts_ms + 10, **tick._asdict()}
            names = [part.split()[0] for part in FIRST_14.split(", ")]
            conn.execute(
                f"INSERT OR IGNORE INTO ticks VALUES ({', '.join('?' * len(names))})", [values[name] for name in names]
            )
        conn.commit()


def add_details(db: Path) -> None:
    """What a source told of a symbol, and a trade that was cancelled later."""
    with contextlib.closing(sqlite3.connect(db)) as conn:
        conn.execute(
            "INSERT INTO symbols VALUES ('HK.00001', 'CKH HOLDINGS', 500, 'shares', 1.0, 'HKD', 0.05, ?)", (OPEN_MS,)
        )
        conn.execute(
            "INSERT INTO amendments VALUES ('HK.00001', 'cancel', ?, NULL, NULL, NULL, ?, ?, 'cancelled')",
            (OPEN_MS + 250, OPEN_MS + 9_000, OPEN_MS + 9_100),
        )
        conn.commit()


def make(version: int) -> None:
    """All of them."""
    root = VERSIONS / str(version)
    root.mkdir(parents=True)
    if version == 0:
        make_earlier_recorders_file(root)
    else:
        writer = DayFileWriter(root)
        writer.write(day_ticks(version), day_facts())
        writer.close()
    if version >= 2:
        add_details(root / f"{DAY}.db")
    archive = root / "archive"
    with atomic.only_job(archive):
        pack.archive_day(root, archive, DAY, (PARQUET, SQLITE), made_at_ms=MADE_AT_MS)
    for lock in archive.glob(".*lock"):
        lock.unlink()
    if version:
        spill = SpillQueue(root / "waiting")
        spill.append(later_ticks(version))
        spill.close()
    with contextlib.closing(sqlite3.connect(f"file:{root / DAY}.db?mode=ro&immutable=1", uri=True)) as conn:
        conn.row_factory = sqlite3.Row
        rows = [dict(row) for row in conn.execute("SELECT * FROM ticks ORDER BY rowid")]
    (root / "rows.json").write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


if __name__ == "__main__":
    make(int(sys.argv[1]))
