"""Which days there are, live and archived, and one way to read either.

A day's source is its day file while that exists, its archive otherwise. When both exist (ticks that came after the day
file was deleted began a new one) the archive is the source if it holds all of the file and more, and otherwise both
are read, each tick once (``overlap``); ``conflict`` says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hk_tick_collector.core.errors import NoData, StoreCorrupt, StoreError, StoreUnavailable
from hk_tick_collector.core.text import days_there
from hk_tick_collector.days.book_days import BookDay, BookDays
from hk_tick_collector.days.manifest import (
    PARQUET,
    SQLITE,
    Manifest,
    archived_days,
    load_manifest,
    manifest_path,
    parquet_path,
    sqlite_path,
)
from hk_tick_collector.days.overlap import (
    KEY_COLUMNS,
    Overlap,
    is_likely_more,
    joined_row,
    overlap_of,
    uncovered,
)
from hk_tick_collector.days.snapshot_days import SnapshotDays, SnapshotPlace
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.registry import DEFAULT_MARKET, market_of
from hk_tick_collector.records.columns import NAMES
from hk_tick_collector.store import data_root, layout, reader
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND, StateKind
from hk_tick_collector.store.kept import kept_days
from hk_tick_collector.store.position import Place
from hk_tick_collector.store.reader import AmendmentRow, CoverageRow, GapRow, Notes, SymbolRow

if TYPE_CHECKING:
    import pyarrow as pa

    from hk_tick_collector.days.rows import DayFiles


@dataclass(frozen=True)
class Day:
    """One recorded day."""

    trading_day: str
    db: Path | None  # the day file
    archive_root: Path
    market: Market = DEFAULT_MARKET
    data_root: Path | None = None  # where its reports are

    @cached_property
    def manifest(self) -> Manifest | None:
        """What its archive claims, if that is of the day file's market. StoreCorrupt, StoreUnavailable as of
        ``load_manifest``."""
        manifest = load_manifest(self.archive_root, self.trading_day)
        is_other = manifest is not None and self.db is not None and manifest.market != self.market.code
        return None if is_other else manifest

    @cached_property
    def overlap(self) -> Overlap | None:
        """How day file and archive stand to each other; None when there is only one of them."""
        if self.db is None or self.manifest is None:
            return None
        overlap = overlap_of(self._live_coverage, self.manifest)
        if overlap.is_live_whole or self.archived_file.suffix == ".parquet":
            return overlap
        # A packed archive cannot be read in place: the day file is the day where it looks like more.
        doubtful = {
            symbol for symbol in overlap.differing if not is_likely_more(self._live_coverage[symbol], self.manifest)
        }
        return replace(overlap, differing=frozenset(doubtful))

    @cached_property
    def conflict(self) -> str | None:
        """Why the archive is read although there is a day file; None when there is nothing to explain."""
        if self.overlap is None or self.overlap.is_live_whole or self.manifest is None:
            return None
        stored_ticks = sum(row.stored_ticks for row in self._live_coverage.values())
        read = "the archive is read" if self.overlap.is_archive_whole else "neither holds all, both are read"
        return (
            f"{self.trading_day}: the archive holds {self.manifest.rows} ticks and {self.db} {stored_ticks}; {read}. "
            f"Join them with: hk-tickctl restore {self.trading_day}"
        )

    @property
    def is_archived_only(self) -> bool:
        """Is the archive what is read?"""
        return self.db is None or (self.overlap is not None and self.overlap.is_archive_whole)

    @property
    def is_joined(self) -> bool:
        """Are the day file and the archive read?"""
        return self.overlap is not None and not (self.overlap.is_live_whole or self.overlap.is_archive_whole)

    @property
    def parquet(self) -> Path:
        """Its archived Parquet file. StoreUnavailable when the archive has none, only the packed day file."""
        if self.archived_file.suffix != ".parquet":
            raise StoreUnavailable(
                f"{self.trading_day} is archived as a packed day file only, which cannot be read in place; "
                f"bring it back with: hk-tickctl restore {self.trading_day}"
            )
        return self.archived_file

    @property
    def archived_file(self) -> Path:
        """The file of its archive, or where that would be."""
        kinds = {file.kind for file in self.manifest.files} if self.manifest is not None else {PARQUET}
        if kinds == {SQLITE}:
            return sqlite_path(self.archive_root, self.trading_day)
        return parquet_path(self.archive_root, self.trading_day, self.market.code)

    @property
    def content_mark(self) -> str:
        """Another text when what a day without a day file holds is another; empty without an archive."""
        return self.manifest.content_hash if self.manifest is not None else ""

    @property
    def parts(self) -> tuple[Day, ...]:
        """The days that it is made of, each in one data root: itself, unless it is read from several (``union``)."""
        return (self,)

    @property
    def is_copied(self) -> bool:
        """Does it lie in a ClickHouse?"""
        return False

    @property
    def tables_not_kept(self) -> frozenset[str]:
        """Tables of a query that are not kept where the day lies, so that nobody takes their absence for no record."""
        return frozenset()

    def of_symbols(self, symbols: Iterable[str]) -> Day:
        """The same day for whoever asks of these symbols alone; here it costs nothing to know of the others."""
        return self

    @property
    def left_out(self) -> list[str]:
        """A sentence for each part that cannot be read, where others can (``union``)."""
        return []

    @property
    def contradictions(self) -> list[str]:
        """A sentence for what its parts tell differently, as far as they were looked at (``union``)."""
        return []

    def as_it_is_now(self) -> Day:
        """A day file that was archived and deleted since it was looked at (rows may be taken for hours) is read from
        its archive, which holds the same rows."""
        if self.db is None or self.db.exists():
            return self
        archived = replace(self, db=None)
        return self if archived.manifest is None else archived

    def check(self) -> None:
        """Raises as ``coverage`` when it cannot be read."""
        self.coverage()

    def without_notes(self) -> Day:
        """The same archived day for whoever reads its rows alone: what its manifest says of symbols (a megabyte) is let
        go. A day that has a day file too needs it, and stays as it is."""
        if self.db is not None or self.manifest is None:
            return self
        slim = replace(self)
        slim.__dict__["manifest"] = replace(self.manifest, symbols={}, coverage=(), gaps=(), symbol_rows=())
        return slim

    @property
    def source(self) -> Path:
        """The file that is read."""
        if self.is_archived_only:
            return self.archived_file
        assert self.db is not None
        return self.db

    def coverage(self) -> list[CoverageRow]:
        """What the recorder noted of each symbol's completeness, by symbol; empty for a file of an earlier recorder."""
        if self.is_archived_only:
            return list(self._claim().coverage)
        assert self.db is not None
        return self._joined_coverage if self.is_joined else reader.coverage(self.db)

    def gaps(self) -> list[GapRow]:
        """Its gaps, open and closed; of a symbol that stands in both sources, those of the one with more ticks."""
        if self.is_archived_only:
            return list(self._claim().gaps)
        assert self.db is not None
        live = reader.gaps(self.db)
        if not self.is_joined:
            return live
        claims, counts = self._claim().symbols, self._live_coverage
        archives = {
            symbol for symbol in claims if symbol not in counts or claims[symbol].rows > counts[symbol].stored_ticks
        }
        gaps = [gap for gap in live if gap.symbol not in archives]
        gaps += [gap for gap in self._claim().gaps if gap.symbol in archives]
        return sorted(gaps, key=lambda gap: (gap.symbol, gap.gap_start_ts_ms))

    def symbol_rows(self) -> list[SymbolRow]:
        """What the symbols were on that day, by symbol; the day file's word where it has one."""
        told = self._claim().symbol_rows if self._reads_archive else ()
        live = reader.symbol_rows(self.db) if self.db is not None and not self.is_archived_only else []
        by_symbol = {row.symbol: row for row in (*told, *live)}
        return [by_symbol[symbol] for symbol in sorted(by_symbol)]

    def books(self) -> BookDay:
        """Its order books. NoData when there are none."""
        return self._states(BOOK_KIND)

    def brokers(self) -> BookDay:
        """Its broker queues. NoData when there are none."""
        return self._states(BROKER_KIND)

    def snapshots(self) -> SnapshotPlace:
        """Its snapshots. NoData when there are none; StoreCorrupt, StoreUnavailable."""
        if self.data_root is None:
            raise NoData(f"no snapshots are recorded of {self.trading_day}")
        return SnapshotPlace.of(self.data_root, self.archive_root, self.trading_day)

    def _states(self, kind: StateKind) -> BookDay:
        if self.data_root is None:
            raise NoData(f"no {kind.file.noun} are recorded of {self.trading_day}")
        return BookDays(self.data_root, self.archive_root, kind).day(self.trading_day)

    def stock_names(self) -> dict[str, str]:
        """The names that the source gave on that day, by symbol."""
        return {row.symbol: row.name for row in self.symbol_rows() if row.name}

    def amendments(self) -> list[AmendmentRow]:
        """Trades that the source corrected or cancelled later, in the order stored."""
        told = self._claim().amendments if self._reads_archive else ()
        live = reader.amendments(self.db) if self.db is not None and not self.is_archived_only else []
        return list(dict.fromkeys((*told, *live)))

    @property
    def _reads_archive(self) -> bool:
        return self.is_archived_only or self.is_joined

    def notes(self, *, count_rows: bool = False, last_row: bool = False) -> Notes:
        """Both of them, of one moment, and when the rows were last read; of a day file also how many there are and
        which is the newest: who reads the rows up to that one (``ticks``) has one state with the notes."""
        if self.is_archived_only:
            return Notes(self.coverage(), self.gaps())
        if self.is_joined:
            return Notes(self.coverage(), self.gaps(), last_rowid=self._live_notes.last_rowid)
        assert self.db is not None
        return reader.notes(self.db, count_rows=count_rows, last_row=last_row)

    def rows_by_symbol(self) -> dict[str, int]:
        """How many ticks each symbol has, in the order of symbols. Costs one row a symbol, or for an earlier recorder's
        file a scan."""
        rows = self.coverage()
        if rows or self.is_archived_only:
            return {row.symbol: row.stored_ticks for row in rows if row.stored_ticks}
        assert self.db is not None
        return {count.symbol: count.rows for count in sorted(reader.count_by_symbol(self.db, -1))}

    def symbols(self) -> list[str]:
        """The symbols with ticks, in order; costs what ``rows_by_symbol`` does."""
        return list(self.rows_by_symbol())

    def batches(
        self, columns: Sequence[str] = NAMES, *, workers: int = 2, last_rowid: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Every tick, in no particular order, as batches of ``days.schema.ticks_schema(columns)``. ``last_rowid`` as of
        ``ticks``."""
        from hk_tick_collector.days import rows  # noqa: PLC0415 - Arrow takes its time

        return rows.batches(self._files, columns, workers=workers, last_rowid=last_rowid)

    def sorted_tables(
        self, columns: Sequence[str] = NAMES, *, workers: int = 2, last_rowid: int | None = None
    ) -> Iterator[pa.Table]:
        """Every tick, as tables in the order of symbol, time, sequence, which are among ``columns``. ``last_rowid`` as
        of ``ticks``."""
        from hk_tick_collector.days import rows  # noqa: PLC0415

        return rows.sorted_tables(self._files, self.rows_by_symbol, columns, workers=workers, last_rowid=last_rowid)

    def ticks(
        self,
        symbols: Sequence[str],
        columns: Sequence[str] = NAMES,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        last_rowid: int | None = None,
    ) -> pa.Table:
        """The ticks of a few symbols in the order of symbol, time, sequence; times in UTC epoch ms, end exclusive.
        ``last_rowid`` leaves out what was stored in the day file later (of an archive: nothing)."""
        from hk_tick_collector.days import rows  # noqa: PLC0415

        return rows.ticks(self._files, symbols, columns, start_ms, end_ms, last_rowid)

    def ticks_by_symbol(self, symbols: Sequence[str], columns: Sequence[str] = NAMES) -> Iterator[tuple[str, pa.Table]]:
        """What ``ticks`` gives of each symbol alone, for less: small ones are read together. Each symbol once, in the
        order given."""
        from hk_tick_collector.days import rows  # noqa: PLC0415

        yield from rows.by_symbol(self.ticks, self.rows_by_symbol(), symbols, columns)

    @property
    def _files(self) -> DayFiles:
        from hk_tick_collector.days.rows import DayFiles  # noqa: PLC0415

        db = None if self.is_archived_only else self.db
        return DayFiles(db, self.overlap if self.is_joined else None, lambda: self.parquet)

    @cached_property
    def _live_notes(self) -> Notes:
        assert self.db is not None
        return reader.notes(self.db, last_row=True)

    @cached_property
    def _live_coverage(self) -> dict[str, CoverageRow]:
        """The day file's, by symbol. Of a file that an earlier recorder made only the counts."""
        assert self.db is not None
        rows = {row.symbol: row for row in self._live_notes.coverage}
        return rows or {counted.symbol: uncovered(counted) for counted in reader.count_by_symbol(self.db, -1)}

    @cached_property
    def _joined_coverage(self) -> list[CoverageRow]:
        from hk_tick_collector.days.rows import added  # noqa: PLC0415

        assert self.overlap is not None
        archived = {row.symbol: row for row in self._claim().coverage}
        rows = {**self._live_coverage}
        rows.update({symbol: archived[symbol] for symbol in self.overlap.archived_only if symbol in archived})
        for symbol in self.overlap.differing:
            rows[symbol] = joined_row(rows[symbol], archived.get(symbol), added(self._files, symbol, KEY_COLUMNS))
        return [rows[symbol] for symbol in sorted(rows)]

    def _claim(self) -> Manifest:
        if self.manifest is None:
            raise StoreCorrupt(
                f"{self.trading_day} has no manifest: {manifest_path(self.archive_root, self.trading_day)}"
            )
        return self.manifest


class Catalog:
    """The days under a data root and its archive."""

    def __init__(self, data_root: Path, archive_root: Path) -> None:
        self.data_root = data_root
        self.archive_root = archive_root

    @cached_property
    def market(self) -> Market:
        """The market whose days these are. ConfigError when this version does not know it."""
        return market_of(data_root.market_of(self.data_root))

    @property
    def book_days(self) -> BookDays:
        """The days with order books."""
        return BookDays(self.data_root, self.archive_root)

    @property
    def broker_days(self) -> BookDays:
        """The days with broker queues."""
        return BookDays(self.data_root, self.archive_root, BROKER_KIND)

    @property
    def snapshot_days(self) -> SnapshotDays:
        """The days with snapshots."""
        return SnapshotDays(self.data_root, self.archive_root)

    def days_without_ticks(self) -> list[str]:
        """Days of which there are order books, broker queues, or files that were kept beside them, and not one tick;
        oldest first."""
        there = {*self.book_days.days(), *self.broker_days.days(), *kept_days(self.data_root)}
        return sorted(there.difference(self.days()))

    def of_each_root(self) -> Sequence[Catalog]:
        """The catalogue of each data root that it is made of: itself, unless there are several (``union``)."""
        return (self,)

    def days_beside(self) -> list[str]:
        """Days of which there are order books, broker queues or snapshots, and not one tick; oldest first."""
        beside = {*self.book_days.days(), *self.broker_days.days(), *self.snapshot_days.days()}
        return sorted(beside.difference(self.days()))

    def day_beside(self, trading_day: str) -> Day:
        """One of ``days_beside``, for what it has beside ticks."""
        return Day(trading_day, None, self.archive_root, self.market, self.data_root)

    def live_days(self) -> list[str]:
        """Trading days with a day file, oldest first."""
        return [day for path in layout.day_files(self.data_root) if (day := layout.parse_day(path))]

    def archived_days(self) -> list[str]:
        """Trading days of the data root's market with a manifest, oldest first."""
        return archived_days(self.archive_root, data_root.market_of(self.data_root))

    def days(self) -> list[str]:
        """All trading days, oldest first."""
        return sorted({*self.live_days(), *self.archived_days()})

    def passed_over(self, after: str) -> list[str]:
        """Days after that one (YYYYMMDD, or "" for none) that are archived and have no day file any more: who follows
        day files gets nothing of them."""
        live = set(self.live_days())
        return [day for day in self.archived_days() if after and day > after and day not in live]

    def was_end(self, place: Place) -> bool:
        """Does the archive of a day say that its file ended there? Who stands at that place has read all of the day.
        False without an archive, for one of an earlier version, and when it cannot be read."""
        with contextlib.suppress(StoreError):
            manifest = load_manifest(self.archive_root, place.day)
            return manifest is not None and manifest.end == place.mark
        return False

    def _is_archived(self, day: Day) -> bool:
        owner = data_root.market_of(self.data_root)
        return day.manifest is not None and owner in (None, day.manifest.market)

    def day(self, trading_day: str) -> Day:
        """One day. ``NoData`` when there is neither a day file nor an archive of it."""
        db = layout.day_file(self.data_root, trading_day)
        day = Day(trading_day, db if db.exists() else None, self.archive_root, self.market, self.data_root)
        if day.db is None and not self._is_archived(day):
            days = self.days()
            known = days_there(days)
            raise NoData(f"no ticks of {trading_day} under {self.data_root} or {self.archive_root}; {known}")
        return day
