"""A recorded day against HKEX's own list of its trades."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector import __version__
from hk_tick_collector.core.text import counted
from hk_tick_collector.market.hours import CLOSING_AUCTION, Phase
from hk_tick_collector.quality.against_list import Compared, Stored, compare
from hk_tick_collector.quality.daily_quotations import MILLI, SECTIONS, DailyQuotations, Ints, Trades
from hk_tick_collector.quality.witness import FORMAT_VERSION, Witness

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day
    from hk_tick_collector.market.calendar import TradingCalendar

DAILY_QUOTATIONS = "daily-quotations"
_COLUMNS = ("ts_ms", "seq", "price", "volume", "turnover", "tick_type")
_NO_PRICE = -1


@dataclass
class AgainstList:
    """What came of it, by symbol: each that is stored is in ``compared``, ``unread`` or ``absent``."""

    trading_day: str
    file: str
    stored_ticks: int = 0  # of the whole day
    compared: dict[str, Compared] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)  # its part of the list is in no form that we know
    absent: list[str] = field(default_factory=list)  # stored, and not in the list
    is_cut: bool = False
    not_compared: tuple[str, ...] = ()  # types that the list has nowhere

    @property
    def different(self) -> dict[str, Compared]:
        """Symbols that hold other trades than the list."""
        return {
            symbol: comparison
            for symbol, comparison in self.compared.items()
            if not comparison.is_equal(self.not_compared)
        }

    @property
    def equal(self) -> bool:
        """Everything could be compared, and nothing differs."""
        return not (self.different or self.unread or self.absent or self.is_cut)

    def sentence(self) -> str:
        """All of it in a line, and no more than was found."""
        equal = [comparison for symbol, comparison in self.compared.items() if symbol not in self.different]
        trades = sum(comparison.same_trades for comparison in equal)
        moved = sum(comparison.out_of_order for comparison in self.compared.values())
        order = "" if moved or not trades else ", in its order"
        parts = [f"{counted(len(equal), 'symbol')} with exactly its trades ({trades:,}{order})"]
        if self.different:
            missing = sum(sum(comparison.missing.values()) for comparison in self.different.values())
            extra = sum(sum(comparison.extra.values()) for comparison in self.different.values())
            parts.append(f"{len(self.different):,} with others ({missing:,} of its trades missing, {extra:,} too many)")
        if moved:
            parts.append(f"{counted(moved, 'trade')} in another order")
        if self.unread:
            parts.append(f"{len(self.unread):,} that could not be compared")
        if self.absent:
            parts.append(f"{len(self.absent):,} not in " + ("the part that is there" if self.is_cut else "it"))
        if self.not_compared:
            parts.append(f"not compared: {', '.join(self.not_compared)}, of which it has none")
        whole = "HKEX's list of trades" if not self.is_cut else "HKEX's list of trades, of which the end is cut off"
        return f"{self.trading_day} against {whole}: {', '.join(parts)}"

    def witness(self, now_ms: int) -> Witness:
        """What is kept of it."""
        return Witness(
            FORMAT_VERSION,
            self.trading_day,
            DAILY_QUOTATIONS,
            self.file,
            now_ms,
            __version__,
            self.stored_ticks,
            len(self.compared) - len(self.different),
            len(self.different),
            len(self.unread) + len(self.absent),
            self.is_cut,
            self.sentence(),
        )


def against_list(
    day: Day,
    calendar: TradingCalendar,
    page: DailyQuotations,
    symbols: Collection[str] = (),
    advance: Callable[[float], None] = lambda _symbols: None,
) -> AgainstList:
    """Compare the symbols (none named: all that are stored) as the page tells of them. StoreError when the day,
    WrongFile or TooLarge when the page cannot be read."""
    rows = day.rows_by_symbol()
    wanted = {symbol for symbol in rows if not symbols or symbol in symbols}
    result = AgainstList(day.trading_day, page.path.name, sum(rows.values()))
    borders = _borders(day, calendar)
    left = set(wanted)
    for listed in page.listed(wanted.__contains__):
        left.discard(listed.symbol)
        if listed.unread is not None:
            result.unread[listed.symbol] = listed.unread
        elif listed.symbol in result.compared:
            result.unread[listed.symbol] = "the list has it twice"
        else:
            stored = stored_trades(day.ticks([listed.symbol], _COLUMNS), page.kinds, borders)
            result.compared[listed.symbol] = compare(listed.symbol, listed.trades, stored, page.kinds)
        advance(1)
    for symbol in result.unread:
        result.compared.pop(symbol, None)
    result.absent, result.is_cut = sorted(left), page.is_cut
    result.not_compared = _not_listed(result.compared.values(), day.market.trade_types.price_making)
    return result


def stored_trades(ticks: pa.Table, kinds: list[str], borders: Ints) -> Stored:
    """A symbol's ticks in the order of the tape: by sequence, where all have one. ``kinds`` grows with new types;
    ``borders``: where each section but the first begins, UTC epoch ms."""
    if not ticks.column("seq").null_count:
        ticks = ticks.sort_by("seq")
    ts_ms = _numbers(ticks, "ts_ms", 0, pa.int64()).astype(np.int64)
    price = _numbers(ticks, "price", _NO_PRICE / MILLI)
    trades = Trades(
        np.searchsorted(borders, ts_ms, side="right").astype(np.int32),
        _kinds(ticks, kinds),
        _numbers(ticks, "volume", 0).astype(np.int64),
        np.rint(np.nan_to_num(price) * MILLI).astype(np.int64),
    )
    return Stored(trades, np.nan_to_num(_numbers(ticks, "turnover", 0.0)), ts_ms)


def _numbers(ticks: pa.Table, name: str, otherwise: float, kind: pa.DataType | None = None) -> Ints:
    column = ticks.column(name)
    column = column if kind is None else column.cast(kind)
    numbers: Ints = pc.fill_null(column, pa.scalar(otherwise, column.type)).to_numpy()
    return numbers


def _kinds(ticks: pa.Table, kinds: list[str]) -> npt.NDArray[np.int32]:
    column = ticks.column("tick_type").unify_dictionaries().combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    if not len(column):
        return np.zeros(0, np.int32)
    names = [name or "none" for name in column.dictionary.to_pylist()] + ["none"]
    places = []
    for name in names:
        if name not in kinds:
            kinds.append(name)
        places.append(kinds.index(name))
    codes = column.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
    kind_codes: npt.NDArray[np.int32] = np.array(places, np.int32)[codes]
    return kind_codes


def _borders(day: Day, calendar: TradingCalendar) -> Ints:
    """Where the sections begin by the market's hours; on a half day there is no afternoon. A day that the calendar
    calls closed is a morning."""
    sessions = {
        session.name: session for session in day.market.sessions(day.trading_day, calendar.day_kind(day.trading_day))
    }
    midnight_ms, end_ms = day.market.day_bounds(day.trading_day)
    if Phase.MORNING not in sessions:
        return np.array([midnight_ms, *[end_ms] * (len(SECTIONS) - 2)], np.int64)
    morning, closing = sessions[Phase.MORNING], sessions[CLOSING_AUCTION]
    afternoon_ms = sessions[Phase.AFTERNOON].start_ms if Phase.AFTERNOON in sessions else closing.start_ms
    return np.array([morning.start_ms, morning.end_ms, afternoon_ms, closing.start_ms], np.int64)


def _not_listed(compared: Collection[Compared], price_making: Collection[str]) -> tuple[str, ...]:
    """Types that are stored and that the list has of no symbol: it may leave them out. Trades that make the price it
    surely lists."""
    listed = {sums.tick_type for comparison in compared for sums in comparison.sums if sums.listed_trades}
    extra = {kind for comparison in compared for kind in comparison.extra}
    return tuple(sorted(extra.difference(listed, price_making)))
