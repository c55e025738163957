"""Plays recorded day files back as if the market made those ticks again, at the speed of the simulator's clock.

The server cannot tell it from ``Exchange``. Ticks come out at their own event times, each symbol's in the order of its
sequence; what lies before the clock's start is history. A tick without a sequence gets 0. Whether a time had
milliseconds is not recorded: one that ends in .000 is sent without.

Limits: each day file is sorted by SQLite on its first use (some seconds for millions of rows) and stays open while it
plays, so replay closed days, not the one being written. Names and board lots come from ``instruments``, prices from the
files.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.opend_sim.instruments import Instrument, list_instruments
from hk_tick_collector.opend_sim.simtick import NEVER_MS, SimTick
from hk_tick_collector.opend_sim.source import MarketSource
from hk_tick_collector.opend_sim.venue import venue_of_all
from hk_tick_collector.store.read_only import open_read_only, select_list
from hk_tick_collector.store.reader import count_by_symbol

_COLUMNS = ("symbol", "seq", "ts_ms", "price", "volume", "turnover", "direction", "tick_type", "type_sign")
_RECV_COLUMN = "opend_recv_ts_ms"
# A receive time further from the event than this is a clock's error or a late repair, not a delay to play back.
_MAX_DELAY_MS = 2_000
_BLANK_SIGN = 32
_ALL_SYMBOLS = 1_000_000

Row = tuple[Any, ...]


class ReplayExchange(MarketSource):
    """Recorded days as a market. ``paths`` are day files in the order of their days.

    ``clock_start_ms`` (UTC epoch milliseconds) is where the clock begins; None is just before the first tick.
    Raises StoreError when a file cannot be read or holds no tick.
    """

    def __init__(
        self, paths: Sequence[Path], clock_start_ms: int | None = None, calendar: TradingCalendar | None = None
    ) -> None:
        if not paths:
            raise StoreError("no day file to replay")
        instruments = _instruments(paths)
        super().__init__(instruments, calendar, venue_of_all(list(instruments)))
        self._groups = _all_seconds(paths)
        self._group = next(self._groups, None)
        if self._group is None:
            raise StoreError(f"{paths[0]} holds no tick to replay")
        self.start_ms = self._group[0][0] - 1 if clock_start_ms is None else clock_start_ms
        self._newest_ms = self.start_ms
        self._made: list[SimTick] = []
        self._made_ms: list[int] = []
        self._history = self.advance(self.start_ms)

    @property
    def ended(self) -> bool:
        """True when the last recorded tick was handed out."""
        return self._group is None and not self._made

    @property
    def recorded(self) -> bool:
        return True

    @property
    def next_ms(self) -> int:
        if self._made_ms:
            return self._made_ms[0]
        return self._group[0][0] if self._group is not None else NEVER_MS

    @property
    def end_ms(self) -> int:
        """The last moment of the last recorded day, once it was played."""
        if not self.ended:
            return NEVER_MS
        market = self.venue.market
        return market.day_bounds(market.trading_day(self._newest_ms))[1] - 1

    def advance(self, until_ms: int) -> list[SimTick]:
        while self._group is not None and self._group[0][0] <= until_ms:
            self._made += [tick for _, tick in self._group]
            self._made_ms += [made_ms for made_ms, _ in self._group]
            self._group = next(self._groups, None)
        count = bisect_right(self._made_ms, until_ms)
        ticks = self._made[:count]
        if count:
            self._newest_ms = max(self._newest_ms, self._made_ms[count - 1])
        del self._made[:count]
        del self._made_ms[:count]
        if not self.told_of_arrivals:
            self.remember(ticks)
        return ticks


def _all_seconds(paths: Sequence[Path]) -> Iterator[list[tuple[int, SimTick]]]:
    """(instant of making, tick) of each recorded second, in order."""
    last_recv_ms: dict[str, int] = {}
    for path in paths:
        for _, rows in groupby(_sorted_rows(path), key=lambda row: row[2] // 1000):
            made = _in_order_made(list(rows))
            for _, tick in made:
                # OpenD hands a symbol's ticks over in order; a recorded clock that stepped must not change that.
                tick.recv_ts_ms = max(tick.recv_ts_ms, last_recv_ms.get(tick.symbol, 0))
                last_recv_ms[tick.symbol] = tick.recv_ts_ms
            yield made


def _sorted_rows(path: Path) -> Iterator[Row]:
    with closing(open_read_only(path)) as connection:
        columns = select_list(connection, (*_COLUMNS, _RECV_COLUMN))
        try:
            # By the second alone: inside it a time without milliseconds says nothing about order.
            yield from connection.execute(f"SELECT {columns} FROM ticks ORDER BY ts_ms / 1000, symbol, seq")  # noqa: S608
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be read: {error}") from error


def _in_order_made(rows: list[Row]) -> list[tuple[int, SimTick]]:
    """One second's rows, sorted by symbol and sequence, in the order of time that keeps each symbol's order."""
    made: list[tuple[int, SimTick]] = []
    symbol, at_ms = "", 0
    for row in rows:
        at_ms = max(at_ms, row[2]) if row[0] == symbol else row[2]
        symbol = row[0]
        made.append((at_ms, _tick(row, at_ms)))
    made.sort(key=lambda pair: pair[0])
    return made


def _tick(row: Row, at_ms: int) -> SimTick:
    symbol, seq, ts_ms, price, volume, turnover, direction, tick_type, sign, recv_ms = row
    delay_ms = recv_ms - ts_ms if recv_ms is not None else 0
    return SimTick(
        symbol,
        ts_ms,
        price or 0.0,
        volume or 0,
        turnover or 0.0,
        direction or "NEUTRAL",
        seq or 0,
        tick_type or "UNKNOWN",
        ord(sign) if sign and len(sign) == 1 else _BLANK_SIGN,
        ts_ms % 1000 != 0,
        max(at_ms, ts_ms + delay_ms if 0 <= delay_ms <= _MAX_DELAY_MS else ts_ms),
    )


def _instruments(paths: Sequence[Path]) -> dict[str, Instrument]:
    """All symbols of the files, the most traded first, with the first recorded price as the last close."""
    rows: dict[str, int] = {}
    prices: dict[str, float] = {}
    for path in paths:
        for count in count_by_symbol(path, _ALL_SYMBOLS):
            rows[count.symbol] = rows.get(count.symbol, 0) + count.rows
        with closing(open_read_only(path)) as connection:
            for symbol in rows:
                if symbol not in prices:
                    price_row = connection.execute(
                        "SELECT price FROM ticks WHERE symbol = ? AND price IS NOT NULL AND seq IS NOT NULL "
                        "ORDER BY seq LIMIT 1",
                        (symbol,),
                    ).fetchone()
                    if price_row is not None:
                        prices[symbol] = price_row[0]
    listed = list_instruments(sorted(rows, key=lambda symbol: -rows[symbol]), seed=0)
    return {
        symbol: replace(
            instrument,
            last_price=prices.get(symbol, instrument.last_price),
            prev_close=prices.get(symbol, instrument.prev_close),
            rank=rank,
        )
        for rank, (symbol, instrument) in enumerate(listed.items())
    }
