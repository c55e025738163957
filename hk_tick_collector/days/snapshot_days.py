"""Where a day's snapshots are: their file, or packed in the day's archive. Either is read by the same calls::

day = SnapshotPlace.of(data_root, archive_root, "20261127")
with day.opened() as path:
    for batch in days.snapshots.read(path, series_there(path)): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.text import days_there
from hk_tick_collector.days.packed import unpacked
from hk_tick_collector.store.kept import KeptFile, entry_in
from hk_tick_collector.store.layout import (
    SNAPSHOT_DIR,
    parse_day_dir,
    snapshot_archive,
    snapshot_days,
    snapshot_file,
)
from hk_tick_collector.store.snapshot_file import SNAPSHOT_FILE, SNAPSHOT_KIND


@dataclass(frozen=True)
class SnapshotPlace:
    """A day's snapshots. One of ``file`` and ``packed`` is there, or both: then ``file`` is read."""

    trading_day: str
    file: Path | None
    packed: Path | None = None
    entry: KeptFile | None = None  # what the archive says of ``packed``

    @classmethod
    def of(cls, data_root: Path, archive_root: Path, trading_day: str) -> SnapshotPlace:
        """NoData when there are none of that day; StoreCorrupt, StoreUnavailable for an entry that cannot be read."""
        live = snapshot_file(data_root, trading_day)
        if live.is_file():
            return cls(trading_day, live)
        entry = entry_in(snapshot_archive(archive_root, trading_day), live.name)
        if entry is None:
            days = days_with_snapshots(data_root, archive_root)
            there = days_there(days) if days else SNAPSHOT_FILE.advice
            raise NoData(f"no snapshots are recorded of {trading_day}; {there}")
        return cls(trading_day, None, snapshot_archive(archive_root, trading_day) / entry.packed_name, entry)

    @property
    def path(self) -> Path:
        """The file of one that is not in the archive alone."""
        assert self.file is not None
        return self.file

    @property
    def source(self) -> Path:
        """What names it, the same whenever it is asked for."""
        return self.path

    def narrowed(self, symbols: Sequence[str]) -> SnapshotPlace:
        """For who reads these alone, all when it is empty: what is made for the reader then holds no snapshot of
        others."""
        return self

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """The file, to be read while the context lasts. As of ``packed.unpacked`` for one of the archive."""
        if self.file is not None:
            yield self.file
            return
        assert self.packed is not None
        assert self.entry is not None
        with unpacked(self.packed, self.entry, "snapshots") as path:
            yield path


class SnapshotDays:
    """The days with snapshots under a data root and its archive."""

    kind = SNAPSHOT_KIND

    def __init__(self, data_root: Path, archive_root: Path) -> None:
        self.data_root, self.archive_root = data_root, archive_root

    def days(self) -> list[str]:
        """Oldest first."""
        return days_with_snapshots(self.data_root, self.archive_root)

    def live_days(self) -> list[str]:
        """Those with a file of their own, oldest first; the archive is not looked at."""
        return snapshot_days(self.data_root)

    def day(self, trading_day: str) -> SnapshotPlace:
        """One of them. As of ``SnapshotPlace.of``."""
        return SnapshotPlace.of(self.data_root, self.archive_root, trading_day)

    def in_a_file(self, trading_day: str) -> SnapshotPlace | None:
        """One that can be read again and again without unpacking it; None when it is not there."""
        live = snapshot_file(self.data_root, trading_day)
        return SnapshotPlace(trading_day, live) if live.is_file() else None


def days_with_snapshots(data_root: Path, archive_root: Path) -> list[str]:
    """Those with a file or with an archive, oldest first; the archive's files are not opened."""
    names = {path.parent.name for path in archive_root.glob(f"{SNAPSHOT_DIR}/????????/*.gz")}
    return sorted({*snapshot_days(data_root), *filter(parse_day_dir, names)})
