"""Where a day's order books are, or its broker queues: their file, or packed in the day's archive. Either is read
by the same calls.

A day's source is its book file while that exists, else what its archive holds of it. A packed file is unpacked into a
temporary file while it is read (``BookDay.opened``), hashed on the way, and never further than its manifest says::

    day = BookDays(data_root, archive_root).day("20261120")
    with day.opened() as path:
        for batch in days.books.read(path, Form.WIDE): ...
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.core.errors import NoData, StoreError
from hk_tick_collector.core.text import days_there
from hk_tick_collector.days.manifest import archived_days, kept_dir, load_manifest
from hk_tick_collector.days.packed import unpacked
from hk_tick_collector.store import data_root as owned
from hk_tick_collector.store.book_file import BOOK_KIND, reading
from hk_tick_collector.store.kept import KeptFile
from hk_tick_collector.store.layout import broker_file
from hk_tick_collector.store.position import Place
from hk_tick_collector.store.side_file import SideKind


@dataclass(frozen=True)
class BookDay:
    """A day's order books. One of ``file`` and ``packed`` is there, or both: then ``file`` is read."""

    trading_day: str
    root: Path  # of its archive
    file: Path | None
    packed: Path | None = None
    entry: KeptFile | None = None  # what the manifest says of ``packed``

    @property
    def where(self) -> str:
        """``live``, ``archived`` or ``both``, as of ticks."""
        return "archived" if self.file is None else "live" if self.packed is None else "both"

    def rows(self) -> int:
        """How many rows there are, as cheap as can be: a break is one too. Raises as ``open_for_reading``."""
        if self.file is None:
            return self.entry.records if self.entry is not None else 0
        with reading(self.file) as conn:
            return int(conn.execute("SELECT max(rowid) FROM pushes").fetchone()[0] or 0)

    @contextmanager
    def opened(self, symbols: Sequence[str] | None = None) -> Iterator[Path]:
        """The book file, to be read while the context lasts; of ``symbols`` at least. StoreUnavailable, StoreCorrupt
        when an archived one cannot be unpacked, or is not what its manifest says."""
        if self.file is not None:
            yield self.file
            return
        assert self.packed is not None
        assert self.entry is not None
        noun = "broker queues" if self.entry.name == broker_file(Path(), self.trading_day).name else "books"
        with unpacked(self.packed, self.entry, noun) as path:
            yield path


class BookDays:
    """The days with order books, or those with broker queues, under a data root and its archive."""

    def __init__(self, data_root: Path, archive_root: Path, kind: SideKind = BOOK_KIND) -> None:
        self.kind = kind
        self.data_root = data_root
        self.archive_root = archive_root

    def days(self) -> list[str]:
        """Oldest first."""
        live = self.kind.days_of(self.data_root)
        mine = set(archived_days(self.archive_root, owned.market_of(self.data_root)))
        name = self.kind.file_of(Path(), "20000101").name[len("20000101") :]
        packed = self.archive_root.glob(f"depth/????????/????????{name}.*.gz")
        return sorted({*live, *(path.parent.name for path in packed if path.parent.name in mine)})

    def live_days(self) -> list[str]:
        """Those with a file of their own, oldest first; the archive is not looked at."""
        return list(self.kind.days_of(self.data_root))

    def passed_over(self, newest_day: str) -> list[str]:
        """Days behind this one that are archived and have no book file: who follows files meets nothing of them."""
        live = set(self.kind.days_of(self.data_root))
        return [day for day in self.days() if day > newest_day and day not in live]

    def was_end(self, place: Place) -> bool:
        """Does the archive of a day say that its books ended there, by their number? False when it cannot be read."""
        with contextlib.suppress(StoreError):
            entry = self._entry(place.day, self.kind.file_of(self.data_root, place.day).name)
            return entry is not None and entry.records == place.rowid
        return False

    def day(self, trading_day: str) -> BookDay:
        """One of them. NoData when there are none of it; StoreCorrupt, StoreUnavailable as of ``load_manifest``."""
        live = self.kind.file_of(self.data_root, trading_day)
        file = live if live.is_file() else None
        entry = self._entry(trading_day, live.name)
        if file is None and entry is None:
            days = self.days()
            there = f"; {days_there(days)}" if days else f"; {self.kind.file.advice}"
            raise NoData(f"no {self.kind.file.noun} are recorded of {trading_day}{there}")
        packed = None if entry is None else kept_dir(self.archive_root, trading_day) / entry.packed_name
        return BookDay(trading_day, self.archive_root, file, packed, entry)

    def _entry(self, trading_day: str, name: str) -> KeptFile | None:
        if not any(kept_dir(self.archive_root, trading_day).glob(f"{name}.*.gz")):
            return None  # a manifest may be a megabyte long
        manifest = load_manifest(self.archive_root, trading_day)
        owner = owned.market_of(self.data_root)
        if manifest is None or owner not in (None, manifest.market):
            return None
        return next((entry for entry in manifest.depth if entry.name == name), None)
