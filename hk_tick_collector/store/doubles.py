"""Rows that are likely a second one of their trade: an earlier recorder stored such.

It took a tick for another one when a pull told no milliseconds, or when a tick whose sequence another one has came
without it. By the rules of rows.py these rows would not be stored today.
"""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.store.connect import table_columns
from hk_tick_collector.store.read_only import read_from

_SAME = (
    "b.symbol = a.symbol AND b.price IS a.price AND b.volume IS a.volume AND b.turnover IS a.turnover "
    "AND b.direction IS a.direction AND b.tick_type IS a.tick_type"
)
_SECOND = "a.ts_ms / 1000 * 1000"
_IS_CUT = "a.ts_ms % 1000 = 0"
# A row with the mark of a sequence that an equal tick has.
_MARKED = (
    f"SELECT 1 FROM ticks b WHERE {_SAME} AND b.seq = ~a.occurrence AND b.ts_ms / 1000 = a.ts_ms / 1000 "  # noqa: S608
    f"AND ({_IS_CUT} OR b.ts_ms % 1000 = 0 OR b.ts_ms = a.ts_ms)"
)
# A row whose number is lower than that of equal trades known by their sequences, or by their milliseconds.
_WITH_SEQUENCE = (
    f"SELECT COUNT(*) FROM ticks b WHERE {_SAME} AND b.seq >= (a.ts_ms / 1000) << 32 "  # noqa: S608
    f"AND b.seq < (a.ts_ms / 1000 + 1) << 32 AND (b.ts_ms = a.ts_ms OR ({_IS_CUT} AND b.ts_ms / 1000 = a.ts_ms / 1000))"
)
_WITHOUT = (
    f"SELECT COUNT(*) FROM ticks b WHERE {_SAME} AND b.seq IS NULL AND b.ts_ms BETWEEN {_SECOND} AND {_SECOND} + 999 "  # noqa: S608
    f"AND ((b.ts_ms = a.ts_ms AND b.occurrence < 0) OR ({_IS_CUT} AND b.ts_ms > a.ts_ms))"
)
_DOUBLES = (
    f"SELECT COUNT(*) FROM ticks a WHERE a.seq IS NULL AND ((a.occurrence < 0 AND EXISTS ({_MARKED})) "  # noqa: S608
    f"OR (a.occurrence >= 0 AND a.occurrence < ({_WITH_SEQUENCE}) + ({_WITHOUT})))"
)


def likely_doubles(db: Path) -> int:
    """How many; 0 for a file that has no occurrences. Costs a few look-ups a row without a sequence. StoreError when
    the file cannot be read."""
    with read_from(db) as conn:
        if "occurrence" not in table_columns(conn):
            return 0
        return int(conn.execute(_DOUBLES).fetchone()[0])
