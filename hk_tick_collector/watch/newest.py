"""The newest stored ticks of some symbols, by the index on symbol and sequence: microseconds each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.read_only import read_from, select_list

_NEWEST = "WHERE symbol = ? AND seq IS NOT NULL ORDER BY seq DESC LIMIT ?"


def newest_ticks(db: Path, symbols: Sequence[str], rows: int) -> dict[str, list[Tick]]:
    """The ``rows`` newest ticks with a sequence of each symbol, oldest first; symbols without any are left out.

    Raises as ``store.read_only.open_read_only`` does.
    """
    ticks_of: dict[str, list[Tick]] = {}
    with read_from(db) as conn:
        sql = f"SELECT {select_list(conn)} FROM ticks {_NEWEST}"  # noqa: S608 - our names
        for symbol in symbols:
            newest = [Tick._make(row) for row in conn.execute(sql, (symbol, rows))]
            if newest:
                ticks_of[symbol] = newest[::-1]
    return ticks_of
