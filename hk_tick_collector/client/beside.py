"""What a question means for records with files beside those of ticks: order books, snapshots. One way for both kinds.

Of several data roots the first one with a symbol tells; what was stored after the question was asked is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from hk_tick_collector.client.coverage import NOT_RECORDED, WHOLE_DAY, Coverage, SymbolCoverage
from hk_tick_collector.client.errors import NoData, UnknownSymbol
from hk_tick_collector.client.plan import MarketRoots, blank, bound_ms, days_meant, symbols_by_market, unrecorded
from hk_tick_collector.client.question import Stretch
from hk_tick_collector.days.union import UnionCatalog


class Read(Protocol):
    """A part of a day in one data root."""

    @property
    def trading_day(self) -> str: ...

    @property
    def coverage(self) -> list[SymbolCoverage]:
        """Of the symbols that this data root tells of."""

    @property
    def is_empty(self) -> bool:
        """Is there nothing in it of what was asked for?"""


ReadT = TypeVar("ReadT", bound=Read)
# The parts of one day: of these symbols (None: all), between two moments in UTC epoch milliseconds (None: no bound).
ReadsOfDay = Callable[[MarketRoots, str, tuple[str, ...] | None, int | None, int | None], list[ReadT]]


@dataclass
class Plan(Generic[ReadT]):
    """What to read, by day and data root, and the coverage of what cannot be."""

    reads: list[ReadT] = field(default_factory=list)
    not_there: list[SymbolCoverage] = field(default_factory=list)

    @property
    def coverage(self) -> Coverage:
        """Of all of it, by day and symbol."""
        rows = [*self.not_there, *(row for read in self.reads for row in read.coverage)]
        return Coverage(sorted(rows, key=lambda row: (row.trading_day, row.symbol)))


def plan_of(
    markets: Sequence[MarketRoots],
    stretch: Stretch,
    reads_of: ReadsOfDay[ReadT],
    noun: str,
    hint: str,
    named: Sequence[str] = (),
) -> Plan[ReadT]:
    """``markets``: with a catalogue of the days of this kind. ``noun``: ``order books``; ``named``: what else than
    symbols was asked for by name. BadQuestion for what is no day or symbol, NoData when nothing of these days is
    recorded, UnknownSymbol when none of these symbols is; errors of the store."""
    plan: Plan[ReadT] = Plan()
    nothing: list[NoData] = []
    for recorded, symbols in symbols_by_market(markets, stretch.symbols):
        try:
            _add(plan, recorded, symbols, stretch, reads_of, noun)
        except NoData as exc:
            nothing.append(exc)
    if not plan.reads and not plan.not_there:
        told = nothing[0] if nothing else NoData(f"no {noun} are recorded of these days")
        raise NoData(f"no {noun}: {told.args[0]}", hint)
    if plan.reads and all(read.is_empty for read in plan.reads):
        days = sorted({read.trading_day for read in plan.reads})
        words = ", ".join((*stretch.symbols, *named)[:5]) or "any symbol"
        raise UnknownSymbol(f"no {noun} of {words} are recorded on {', '.join(days[:5])}", hint)
    plan.reads.sort(key=lambda read: read.trading_day)  # stable: data roots stay in their order
    return plan


def with_places(markets: Sequence[MarketRoots], places: type[UnionCatalog]) -> list[MarketRoots]:
    """The same markets with the days of another kind of record."""
    return [replace(recorded, catalog=places(recorded.catalog.catalogs)) for recorded in markets]


def _add(
    plan: Plan[ReadT],
    recorded: MarketRoots,
    symbols: tuple[str, ...] | None,
    stretch: Stretch,
    reads_of: ReadsOfDay[ReadT],
    noun: str,
) -> None:
    """One market's part."""
    start_ms, end_ms = (bound_ms(recorded.market, end) for end in (stretch.start, stretch.end))
    for name in days_meant(recorded, stretch, start_ms, end_ms):
        reads = reads_of(recorded, name, symbols, start_ms, end_ms)
        plan.reads += reads
        told = {row.symbol for read in reads for row in read.coverage}
        why = f"no {noun} of it are recorded on this day"
        plan.not_there += [blank(name, symbol, NOT_RECORDED, why) for symbol in symbols or () if symbol not in told]
    for name, reason in unrecorded(recorded, stretch, start_ms, end_ms):
        plan.not_there += [blank(name, symbol, NOT_RECORDED, reason) for symbol in symbols or (WHOLE_DAY,)]
