"""Do two ways give a trade the same number? What only the file can tell, where who hands rows over could not read it.

The feed compares pushes with answers (``sources.numbering``, whose rule this is). After a start at which a day file
could not be read it does not know what was pushed before, and an answer's rows may be those pushes under other numbers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hk_tick_collector.records.tick import PUSH_TYPE_PUSH, Tick, same_moment, seq_epoch_sec

NEAR_NUMBERS = 1000  # the numbers of twins, of which a source shows one and not yet the other, are no further apart
_OF_SECOND = (
    "SELECT seq, ts_ms, price, volume, turnover FROM ticks INDEXED BY uniq_ticks_symbol_seq "
    "WHERE symbol = ? AND seq BETWEEN ? AND ? AND (push_type = ?) IS NOT ?"
)


class _Stored(NamedTuple):
    seq: int
    ts_ms: int
    price: float
    volume: int
    turnover: float


def numbered_otherwise(conn: sqlite3.Connection, symbol: str, rows: Iterable[Tick]) -> bool:
    """Is one of these trades of ``symbol`` stored as the other way told it, under another number than it has here?

    Costs a look at the rows of each second that is told.
    """
    views: dict[tuple[bool, int], list[Tick]] = {}  # an answer each, and what was pushed together
    for row in rows:
        if row.seq is not None:
            views.setdefault((row.push_type == PUSH_TYPE_PUSH, row.recv_ts_ms), []).append(row)
    return any(_is_told_otherwise(conn, symbol, told, is_push) for (is_push, _), told in views.items())


def _is_told_otherwise(conn: sqlite3.Connection, symbol: str, told: Sequence[Tick], is_push: bool) -> bool:
    seconds: dict[int, list[Tick]] = {}
    for row in told:
        seconds.setdefault(seq_epoch_sec(row.seq or 0), []).append(row)
    # Of the seconds that an answer begins and ends with it need not show all. It comes in the order of arrival, where
    # a tick of an earlier second may follow later ones: it begins with its first row, not with its smallest number.
    began, ended = seq_epoch_sec(told[0].seq or 0), seq_epoch_sec(told[-1].seq or 0)
    for second, rows in seconds.items():
        first_seq = second << 32
        values = (symbol, first_seq, first_seq | 0xFFFF_FFFF, PUSH_TYPE_PUSH, is_push)
        is_inside = not is_push and began < second < ended
        stored = [_Stored(*row) for row in conn.execute(_OF_SECOND, values)]
        if any(_is_one_of(trade, rows, near_counts=is_inside) for trade in stored):
            return True
    return False


def _is_one_of(stored: _Stored, rows: Sequence[Tick], *, near_counts: bool) -> bool:
    """Is the trade among the rows, and none of them has its number?"""
    alike = [row.seq or 0 for row in rows if _content(row) == _content(stored) and same_moment(row.ts_ms, stored.ts_ms)]
    if not alike or any(row.seq == stored.seq for row in rows):
        return False
    return near_counts or all(abs(seq - stored.seq) > NEAR_NUMBERS for seq in alike)


def _content(trade: Tick | _Stored) -> tuple[object, ...]:
    return trade.price, trade.volume, trade.turnover
