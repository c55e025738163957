"""Ticks for the store's and the spill's tests."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.connect import COLUMNS

DAY = "20261120"
OPEN_MS = 1_795_138_200_000  # 2026-11-20 09:30 in Hong Kong
NOBODY_UID = 65534


def tick(n: int = 1, symbol: str = "HK.00700", day: str = DAY, **changes: object) -> Tick:
    """The ``n``-th tick of a symbol's day."""
    ts_ms = OPEN_MS + n
    base = Tick(
        symbol=symbol,
        ts_ms=ts_ms,
        price=612.5,
        volume=100,
        turnover=61250.0,
        direction="BUY",
        seq=(ts_ms // 1000 << 32) | n,
        tick_type="AUTO_MATCH",
        push_type="push",
        trading_day=day,
        recv_ts_ms=ts_ms + 60,
        push_data_type="REALTIME",
        opend_recv_ts_ms=ts_ms + 40,
        type_sign=" ",
    )
    return base._replace(**changes)  # type: ignore[arg-type]


def ticks(count: int, first: int = 1, **changes: object) -> list[Tick]:
    return [tick(n, **changes) for n in range(first, first + count)]  # type: ignore[arg-type]


def table_row(row: Tick, inserted_at_ms: int = 7) -> tuple[object, ...]:
    """The row in the order of the table's columns; the first 14 are what an earlier recorder's file has."""
    values = {**row._asdict(), "inserted_at_ms": inserted_at_ms, "market": "HK", "provider": "futu"}
    return tuple(values.get(name) for name in COLUMNS)


def query(db: Path, sql: str, *args: object) -> list[tuple[object, ...]]:
    """Rows as the sqlite3 module gives them, through a connection of its own."""
    with contextlib.closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn:
        return conn.execute(sql, args).fetchall()


@contextlib.contextmanager
def without_root() -> Iterator[None]:
    """Permissions count inside, also when the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY_UID)
    try:
        yield
    finally:
        os.seteuid(0)
