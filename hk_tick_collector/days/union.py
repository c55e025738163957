"""One day out of several data roots of one market, joined as it is read: shards, twins, accounts.

A symbol that one recorder has alone is read from there. One that several have is one list of rows without repeats, and
what is said of it follows from what all of them noted, by the rule of ``joining``, which ``hk-tickctl merge`` follows,
too: the day read so and the day merged say the same. Where two of them contradict each other one is read alone, the
symbol is unproven, and ``contradictions`` names both.

A root whose file is damaged is left out and said (``left_out``); the day is what the others have. So is one whose
damage shows only when its rows are held against another's; among rows that no other root has it raises. Rows up to the
newest one of the first look are read, of every root: one state, whatever is recorded meanwhile.

Costs: what is in one root alone, as from there. Of a symbol in several the rows are held against each other, 2 µs
each, when its notes or rows are first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hk_tick_collector.core.errors import NoData, StoreCorrupt
from hk_tick_collector.core.text import days_there
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.days.groups import in_groups
from hk_tick_collector.days.sides import GROUP_ROWS, Joint, Side
from hk_tick_collector.market.market import Market
from hk_tick_collector.records.columns import NAMES
from hk_tick_collector.store.reader import AmendmentRow, CoverageRow, GapRow, Notes, SymbolRow

if TYPE_CHECKING:
    import pyarrow as pa


_T = TypeVar("_T")
MAX_DAYS = 4  # kept by a catalog, each with the notes of all its symbols


@dataclass(frozen=True)
class UnionDay(Day):
    """The day in several data roots of one market. ``of``: the day in each of them that has it, in the order listed."""

    of: tuple[Day, ...] = ()
    only_symbols: frozenset[str] | None = None  # None: all
    _joints: dict[str, Joint] = field(default_factory=dict, compare=False)
    contradicted: dict[str, None] = field(
        default_factory=dict, compare=False
    )  # ``contradictions`` so far, in that order

    @classmethod
    def joined(cls, days: Sequence[Day]) -> UnionDay:
        """Of at least one day."""
        first = days[0]
        return cls(first.trading_day, None, first.archive_root, first.market, first.data_root, tuple(days))

    @property
    def parts(self) -> tuple[Day, ...]:
        """As of ``Day``."""
        return tuple(side.day for side in self.sides)

    def of_symbols(self, symbols: Iterable[str]) -> UnionDay:
        """The same day, of these symbols alone: of the others nothing is read."""
        part = UnionDay(
            self.trading_day, None, self.archive_root, self.market, self.data_root, self.of, frozenset(symbols),
            self._joints, self.contradicted,
        )  # fmt: skip
        part.__dict__["_looked"] = self._looked
        return part

    def pinned(self, last_rowids: Sequence[int | None]) -> UnionDay:
        """The same day up to these rows of its sides."""
        pinned = UnionDay(
            self.trading_day, None, self.archive_root, self.market, self.data_root, self.of, self.only_symbols
        )
        sides = [Side(side.day) for side in self.sides]
        for side, last_rowid in zip(sides, last_rowids, strict=True):
            side.last_rowid = last_rowid
        pinned.__dict__["_looked"] = sides, list(self.left_out)
        return pinned

    @cached_property
    def _looked(self) -> tuple[list[Side], list[str]]:
        sides: list[Side] = []
        left_out: list[str] = []
        for day in self.of:
            try:
                sides.append(Side(day))
            except StoreCorrupt as exc:
                if day is self.of[-1] and not sides:
                    raise
                left_out.append(self._left_out_text(day, exc))
        return sides, left_out

    def _left_out_text(self, day: Day, exc: StoreCorrupt) -> str:
        return f"{self.trading_day}: what {day.data_root} has is left out: {exc}"

    def _of_undamaged(self, work: Callable[[], _T]) -> _T:
        """What ``work`` gives, once the roots whose rows turn out to be damaged meanwhile are left out. StoreCorrupt
        when that leaves none."""
        while True:
            try:
                return work()
            except StoreCorrupt:
                damaged = {
                    side: side.damage for sides in self._known.values() for side in sides if side.damage is not None
                }
                if not damaged or damaged.keys() >= set(self.sides):
                    raise
                for side, damage in damaged.items():
                    if side in self.sides:  # else another part of this day has found it
                        self.sides.remove(side)
                        text = self._left_out_text(side.day, damage)
                        self.left_out.append(text)
                        self.contradicted[text] = None  # who has asked already what is left out is told at the end
                self._joints.clear()
                for name in ("_known", "_alone", "_shared", "conflict"):
                    self.__dict__.pop(name, None)

    @property
    def sides(self) -> list[Side]:
        """The roots that can be read, in the order listed. Raises as ``Day.notes`` when there is none."""
        return self._looked[0]

    @property
    def left_out(self) -> list[str]:
        """A sentence for each root whose file of the day is damaged."""
        return self._looked[1]

    @property
    def contradictions(self) -> list[str]:
        """A sentence for each two roots that tell a symbol differently, of the symbols that were looked at so far; and
        for each root that was left out meanwhile."""
        return list(self.contradicted)

    # -- what Day tells of one source ----------------------------------------------------------------------------------

    @cached_property
    def manifest(self) -> None:
        """There is none of several roots."""
        return None

    @cached_property
    def overlap(self) -> None:
        """Each root has its own."""
        return None

    @cached_property
    def conflict(self) -> str | None:
        """What is to be explained of its parts."""
        return "\n".join([*self.left_out, *filter(None, (part.conflict for part in self.parts))]) or None

    @property
    def is_archived_only(self) -> bool:
        """It is read by ``batches``."""
        return False

    @property
    def is_joined(self) -> bool:
        """It is more than one file."""
        return True

    @property
    def archived_file(self) -> Path:
        """The one of a part that cannot be read in place, if there is one."""
        packed = [day for day in self.parts if day.is_archived_only and day.archived_file.suffix != ".parquet"]
        return (packed or self.parts)[0].archived_file if packed else self.archive_root / f"{self.trading_day}.parquet"

    @property
    def source(self) -> Path:
        """The first part's."""
        return self.parts[0].source

    def without_notes(self) -> Day:
        """They are needed to read the rows."""
        return self

    def check(self) -> None:
        """As of ``Day``."""
        _ = self.sides

    # -- notes ---------------------------------------------------------------------------------------------------------

    def coverage(self) -> list[CoverageRow]:
        """As of ``Day``: of a symbol that several roots have by what all of them noted."""
        joints = self._of_undamaged(lambda: self._joint_of(self._shared))
        rows = {symbol: side.coverage[symbol] for symbol, side in self._alone.items() if symbol in side.coverage}
        rows.update({symbol: joint.row for symbol, joint in joints.items()})
        return [rows[symbol] for symbol in sorted(rows)]

    def gaps(self) -> list[GapRow]:
        """As of ``Day``: what all roots of a symbol lack."""
        joints = self._of_undamaged(lambda: self._joint_of(self._shared))
        gaps = [gap for symbol, side in self._alone.items() for gap in side.gaps.get(symbol, [])]
        gaps += [gap for joint in joints.values() for gap in joint.gaps]
        return sorted(gaps, key=lambda gap: (gap.symbol, gap.gap_start_ts_ms))

    def notes(self, *, count_rows: bool = False, last_row: bool = False) -> Notes:
        """Both of them; no rows are counted, and no row is the newest of several files."""
        return Notes(self.coverage(), self.gaps())

    def symbol_rows(self) -> list[SymbolRow]:
        """As of ``Day``; the first root's word where it has one."""
        told = {row.symbol: row for part in reversed(self.parts) for row in part.symbol_rows()}
        return [told[symbol] for symbol in sorted(told) if self._wants(symbol)]

    def amendments(self) -> list[AmendmentRow]:
        """As of ``Day``, each once."""
        rows = dict.fromkeys(row for part in self.parts for row in part.amendments())
        return [row for row in rows if self._wants(row.symbol)]

    def rows_by_symbol(self) -> dict[str, int]:
        """As of ``Day``."""
        return {row.symbol: row.stored_ticks for row in self.coverage() if row.stored_ticks}

    def symbols(self) -> list[str]:
        """The symbols with ticks, in order; no row is read."""
        names = {symbol for side in self.sides for symbol in side.coverage if side.rows(symbol)}
        return sorted(filter(self._wants, names))

    # -- rows ----------------------------------------------------------------------------------------------------------

    def batches(
        self, columns: Sequence[str] = NAMES, *, workers: int = 2, last_rowid: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """As of ``Day``."""
        from hk_tick_collector.days import union_rows  # noqa: PLC0415 - Arrow takes its time

        yield from union_rows.batches(self.sides, self.sides_of(self.symbols()), columns, workers)

    def sorted_tables(
        self, columns: Sequence[str] = NAMES, *, workers: int = 2, last_rowid: int | None = None
    ) -> Iterator[pa.Table]:
        """As of ``Day``."""
        for group in in_groups(self.rows_by_symbol(), GROUP_ROWS):
            yield self.ticks(group, columns)

    def ticks(
        self,
        symbols: Sequence[str],
        columns: Sequence[str] = NAMES,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        last_rowid: int | None = None,
    ) -> pa.Table:
        """As of ``Day``."""
        from hk_tick_collector.days import union_rows  # noqa: PLC0415

        return union_rows.ticks(self.sides_of(symbols), columns, start_ms, end_ms)

    # -- whose symbol is whose -----------------------------------------------------------------------------------------

    def _wants(self, symbol: str) -> bool:
        return self.only_symbols is None or symbol in self.only_symbols

    @cached_property
    def _known(self) -> dict[str, list[Side]]:
        known: dict[str, list[Side]] = {}
        for side in self.sides:
            for symbol in filter(self._wants, side.coverage):
                known.setdefault(symbol, []).append(side)
        return known

    @cached_property
    def _alone(self) -> dict[str, Side]:
        """The symbols that one root alone knows of."""
        return {symbol: sides[0] for symbol, sides in self._known.items() if len(sides) == 1}

    @cached_property
    def _shared(self) -> list[str]:
        """Those that several do, in order."""
        return sorted(symbol for symbol, sides in self._known.items() if len(sides) > 1)

    def sides_of(self, symbols: Iterable[str]) -> dict[str, tuple[Side, ...]]:
        """Whose ticks are the ticks of these symbols, each adding to those before it; nobody's of an unknown one."""
        wanted = dict.fromkeys(symbols)
        joints = self._of_undamaged(lambda: self._joint_of([symbol for symbol in self._shared if symbol in wanted]))
        alone = self._alone
        sides_of: dict[str, tuple[Side, ...]] = {symbol: (alone[symbol],) for symbol in wanted if symbol in alone}
        sides_of.update({symbol: joint.sides for symbol, joint in joints.items()})
        return sides_of

    def _joint_of(self, symbols: Sequence[str]) -> dict[str, Joint]:
        new = [symbol for symbol in symbols if symbol not in self._joints]
        if new:
            from hk_tick_collector.days import union_rows  # noqa: PLC0415 - Arrow takes its time

            rows = {symbol: sum(side.rows(symbol) for side in self._known[symbol]) for symbol in new}
            for group in in_groups(rows, GROUP_ROWS):
                known = {symbol: self._known[symbol] for symbol in group}
                joints = union_rows.joints(self.trading_day, self.market, known)
                self._joints.update(joints)
                conflicts = [conflict for joint in joints.values() for conflict in joint.conflicts]
                so = "read, and the symbol is unproven"
                self.contradicted.update(
                    dict.fromkeys(conflict.sentence(self.trading_day, so) for conflict in conflicts)
                )
        return {symbol: self._joints[symbol] for symbol in symbols}


class UnionCatalog(Catalog):
    """The days of one market in several data roots; ``catalogs`` in the order listed, at least one."""

    def __init__(self, catalogs: Sequence[Catalog]) -> None:
        super().__init__(catalogs[0].data_root, catalogs[0].archive_root)
        self.catalogs = list(catalogs)
        self._newest: dict[str, UnionDay] = {}  # MAX_DAYS of those that were given out last
        self._contradictions: dict[str, dict[str, None]] = {}  # contradictions, by day

    @property
    def contradictions(self) -> list[str]:
        """Those of all days that were given out, as far as they were looked at."""
        return [text for texts in self._contradictions.values() for text in texts]

    @cached_property
    def market(self) -> Market:
        """The market whose days these are."""
        return self.catalogs[0].market

    def of_each_root(self) -> Sequence[Catalog]:
        """As of ``Catalog``."""
        return self.catalogs

    def live_days(self) -> list[str]:
        """Trading days with a day file in any of them, oldest first."""
        return sorted({day for catalog in self.catalogs for day in catalog.live_days()})

    def archived_days(self) -> list[str]:
        """Trading days with a manifest in any of them, oldest first."""
        return sorted({day for catalog in self.catalogs for day in catalog.archived_days()})

    def days(self) -> list[str]:
        """All trading days, oldest first."""
        return sorted({day for catalog in self.catalogs for day in catalog.days()})

    def day(self, trading_day: str) -> Day:
        """The day; of one root alone as it is there. NoData when no root has it."""
        known = self._newest.pop(trading_day, None)
        if known is not None:
            self._newest[trading_day] = known
            return known
        having = [catalog for catalog in self.catalogs if trading_day in catalog.days()]
        if not having:
            roots = ", ".join(str(catalog.data_root) for catalog in self.catalogs)
            raise NoData(f"no ticks of {trading_day} under {roots}; {days_there(self.days())}")
        if len(having) == 1:
            return having[0].day(trading_day)
        union = UnionDay.joined([catalog.day(trading_day) for catalog in having])
        self._contradictions[trading_day] = union.contradicted
        self._newest[trading_day] = union
        if len(self._newest) > MAX_DAYS:
            del self._newest[next(iter(self._newest))]
        return union
