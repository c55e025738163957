"""Reading an archive back: what its bytes hold, against what its manifest claims and what the day file has.

Nothing here believes a manifest. Every file is read from end to end, its rows counted and hashed symbol by symbol
(``days.content``), its checksum computed. A packed day file is unpacked beside the archive, or in the system's
directory for temporary files when nothing can be written there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from hk_tick_collector.archive import kept
from hk_tick_collector.archive.contents import DayFileTicks, ParquetTicks, Ticks, differing, differing_notes, some
from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreCorrupt, StoreError, StoreUnavailable
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.core.scratch import Scratch
from hk_tick_collector.days.content import ALGORITHM, DayContent, new_key
from hk_tick_collector.days.manifest import (
    PARQUET,
    SQLITE,
    ArchivedFile,
    Manifest,
    claims_of,
    load_manifest,
    manifest_path,
    parquet_path,
    sqlite_path,
)
from hk_tick_collector.store import reader
from hk_tick_collector.store.book_file import STATE_KINDS, reading
from hk_tick_collector.store.connect import translate
from hk_tick_collector.store.kept import kept_files, problems_of
from hk_tick_collector.store.layout import book_file, depth_dir
from hk_tick_collector.store.read_only import open_read_only

BLOCK_BYTES = 4 * 1024 * 1024
ZSTD_HEADER_BYTES = 18  # the longest header of a frame
# A tick needs about 250 bytes with its indexes; a file may have free pages, but a day of few ticks is no gigabyte.
MOST_ROW_BYTES = 4096
SMALL_DAY_BYTES = 256 * 1024 * 1024
SPARED_BYTES = 64 * 1024 * 1024

OnRows = Callable[[float], None]


def check_without_ticks(data_root: Path, day: str) -> Check:
    """Read what there is of a day of which not one tick is: files that were kept, order books, broker queues. None of
    it is in an archive."""
    problems: list[str] = []
    listed, path = 0, book_file(data_root, day)
    try:
        entries = kept_files(data_root, day)
        listed = len(entries)
        problems += [problem for entry in entries for problem in problems_of(depth_dir(data_root, day), entry)]
        for path in (kind.file_of(data_root, day) for kind in STATE_KINDS):
            if path.is_file():
                with reading(path) as conn:
                    sound = str(conn.execute("PRAGMA quick_check(1)").fetchone()[0])
                problems += [] if sound == "ok" else [f"{path} is damaged: {sound}"]
    except StoreError as exc:
        problems.append(str(exc))
    except sqlite3.Error as exc:
        problems.append(str(translate(exc, path)))
    return Check(day, 0, 0, (), None, tuple(problems), None, listed)


def check_day_file(db: Path, day: str, on_rows: OnRows | None = None) -> Check:
    """Read a day file from end to end: whole by SQLite's own check, and each symbol with as many rows as its coverage
    counts, all of one moment also while it grows. Of an earlier recorder's file, which counts nothing, the rows alone
    are read."""
    try:
        with contextlib.closing(open_read_only(db)) as conn:
            sound = str(conn.execute("PRAGMA quick_check(1)").fetchone()[0])
        notes = reader.notes(db, last_row=True)
        content = count(DayFileTicks(db, last_rowid=notes.last_rowid), on_rows)
    except StoreError as exc:
        return Check(day, 0, 0, (), None, (str(exc),), None)
    except sqlite3.Error as exc:
        return Check(day, 0, 0, (), None, (str(translate(exc, db)),), None)
    problems = [] if sound == "ok" else [f"{db} is damaged: {sound}"]
    counted = {row.symbol: row.stored_ticks for row in notes.coverage}
    rows = {symbol: symbol_content.rows for symbol, symbol_content in content.symbols.items()}
    wrong = [symbol for symbol in sorted({*counted, *rows}) if counted.get(symbol, 0) != rows.get(symbol, 0)]
    if counted and wrong:
        told = sum(counted.get(symbol, 0) for symbol in wrong)
        there = sum(rows.get(symbol, 0) for symbol in wrong)
        problems.append(f"{db}: coverage counts {told:,} ticks of {some(wrong)}, there are {there:,} rows")
    return Check(day, content.rows, len(content.symbols), (), None, tuple(problems), content)


@dataclass(frozen=True, slots=True)
class Check:
    """What reading an archive back found. ``content``: of its first readable file, None when there is none."""

    trading_day: str
    rows: int
    symbols: int
    formats: tuple[str, ...]
    compared_with: str | None  # the day file that the archive was held against
    problems: tuple[str, ...]
    content: DayContent | None
    depth_files: int = 0  # that the manifest lists, read as well
    signed_by: str | None = None  # who signed its manifest, where that was asked and is so

    @property
    def fine(self) -> bool:
        """Are all rows there, as they were recorded?"""
        return not self.problems

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "trading_day": self.trading_day,
            "fine": self.fine,
            "rows": self.rows,
            "symbols": self.symbols,
            "formats": list(self.formats),
            "depth_files": self.depth_files,
            "compared_with": self.compared_with,
            "signed_by": self.signed_by,
            "problems": list(self.problems),
        }


def archive_paths(archive_root: Path, day: str, market: str) -> dict[str, Path]:
    """Where the files of a day's archive stand, by kind."""
    return {PARQUET: parquet_path(archive_root, day, market), SQLITE: sqlite_path(archive_root, day)}


def check_day(
    archive_root: Path, day: str, db: Path | None, on_rows: OnRows | None = None, *, is_copy: bool = False
) -> Check:
    """Read a day's archive back; hold it against ``db`` as well when that is given. Problems are told, not raised.

    ``is_copy``: it comes from where others may have forged rows so that the sums of ``days.content`` stay. Then every
    file is held against ``db`` once more, counted with a key that nobody knows."""
    try:
        manifest = load_manifest(archive_root, day)
    except StoreError as exc:
        return Check(day, 0, 0, (), None, (str(exc),), None)
    if manifest is None:
        text = f"{day} is not archived: there is no {manifest_path(archive_root, day)}"
        return Check(day, 0, 0, (), None, (text,), None)
    content, problems = check_files(archive_root, manifest, archive_paths(archive_root, day, manifest.market), on_rows)
    if content is not None and db is not None:
        problems += compare_with_day_file(content, manifest, db)
        if is_copy and not problems:
            problems += _forgeries(archive_root, manifest, db)
    problems += kept.differences(archive_root, manifest, db.parent if db is not None else None)
    kinds = tuple(file.kind for file in manifest.files)
    compared_with = None if db is None else str(db)
    if content is None:
        return Check(day, 0, 0, kinds, compared_with, tuple(problems), None, len(manifest.depth))
    symbols, depth_files = len(content.symbols), len(manifest.depth)
    return Check(day, content.rows, symbols, kinds, compared_with, tuple(problems), content, depth_files)


def check_files(
    archive_root: Path,
    manifest: Manifest,
    paths: Mapping[str, Path],
    on_rows: OnRows | None = None,
    *,
    only: str | None = None,
) -> tuple[DayContent | None, list[str]]:
    """Read the files at ``paths`` (by kind) and hold each against the manifest. Returns the contents of the first one
    that can be read, and every difference. ``only``: the one kind to look at."""
    files, problems = _named_files(archive_root, manifest, only)
    first: DayContent | None = None
    for file in files:
        content = _check_file(archive_root, manifest, file, paths[file.kind], problems, on_rows)
        first = first or content
    return first, problems


def check_bytes(archive_root: Path, manifest: Manifest, *, only: str) -> list[str]:
    """What is wrong with an archive's file of one kind as far as its size and checksum tell; its rows are not read."""
    files, problems = _named_files(archive_root, manifest, only)
    for file in files:
        try:
            problems += _bytes_differ(file, archive_root / file.path)
        except StoreError as exc:
            problems.append(str(exc))
    return problems


def _named_files(archive_root: Path, manifest: Manifest, only: str | None) -> tuple[list[ArchivedFile], list[str]]:
    """The files of a manifest that stand where they should, and what is wrong with the manifest itself."""
    problems: list[str] = []
    if manifest.hash_algorithm != ALGORITHM:
        problems.append(f"its manifest counts with {manifest.hash_algorithm}, this program with {ALGORITHM}")
    if not manifest.files:
        problems.append("its manifest names no file")
    files = []
    places = archive_paths(archive_root, manifest.trading_day, manifest.market)
    for file in manifest.files:
        if only not in (None, file.kind):
            continue
        place = places.get(file.kind)
        if place is None or archive_root / file.path != place:
            problems.append(f"its manifest names a file of a kind or place that is not known: {file.kind} {file.path}")
        else:
            files.append(file)
    return files, problems


def _check_file(
    archive_root: Path,
    manifest: Manifest,
    file: ArchivedFile,
    path: Path,
    problems: list[str],
    on_rows: OnRows | None,
) -> DayContent | None:
    """What a file holds, None when it cannot be read; ``problems`` takes every difference from the manifest."""
    try:
        problems += _bytes_differ(file, path)
        with opened(file.kind, path, archive_root, manifest.rows) as ticks:
            content = count(ticks, on_rows)
            problems += differences(content, manifest, path)
            if isinstance(ticks, DayFileTicks):
                problems += _notes_differ(ticks.db, manifest, f"in {path}")
    except StoreError as exc:
        problems.append(str(exc))
        return None
    return content


def _bytes_differ(file: ArchivedFile, path: Path) -> list[str]:
    size_bytes, checksum = digest(path)
    if size_bytes != file.size_bytes:
        return [f"{path} has {size_bytes} bytes, its manifest says {file.size_bytes}"]
    return [] if checksum == file.sha256 else [f"{path} has another checksum than its manifest says"]


def differences(content: DayContent, manifest: Manifest, path: Path) -> list[str]:
    """Where the rows of a file are not those that the manifest claims."""
    problems = []
    symbols = differing(content.symbols, manifest.symbols)
    if symbols:
        problems.append(f"{path} does not hold the ticks that its manifest claims: {some(symbols)}")
    elif claims_of(content) != manifest.symbols:
        problems.append(f"{path}: its manifest has other first and last times or sequences")
    if (content.rows, content.content_hash) != (manifest.rows, manifest.content_hash):
        problems.append(f"{path} holds {content.rows} ticks ({content.content_hash}), its manifest says {manifest.rows}"
                        f" ({manifest.content_hash})")  # fmt: skip
    return problems


def compare_with_day_file(content: DayContent, manifest: Manifest, db: Path) -> list[str]:
    """Where the day file is not what was archived; a StoreError of the day file is one more difference."""
    try:
        stored = count(DayFileTicks(db))
        problems = _notes_differ(db, manifest, f"of {db}")
    except StoreError as exc:
        return [f"the day file cannot be compared: {exc}"]
    symbols = differing(stored.symbols, content.symbols)
    if symbols:
        problems.insert(
            0,
            f"{db} holds {stored.rows} ticks and the archive {content.rows}, not the same: {some(symbols)}; "
            f"bring the archive up to date with: hk-tickctl archive {manifest.trading_day}",
        )
    return problems


def _forgeries(archive_root: Path, manifest: Manifest, db: Path) -> list[str]:
    """The files of an archive whose rows are not the day file's, though their sums are."""
    problems, key = [], new_key()
    try:
        stored = count(DayFileTicks(db), key=key).symbols
        for file in manifest.files:
            path = archive_root / file.path
            with opened(file.kind, path, archive_root, manifest.rows) as ticks:
                symbols = differing(stored, count(ticks, key=key).symbols)
            if symbols:
                problems.append(
                    f"{path} was forged: its sums are those of {db} and its ticks are not: {some(symbols)}; keep the "
                    "day file, find out who can write there, and archive to another place"
                )
    except StoreError as exc:
        return [f"the copy cannot be compared with the day file: {exc}"]
    return problems


def _notes_differ(db: Path, manifest: Manifest, where: str) -> list[str]:
    return [
        f"the {name} {where} {'is' if name == 'coverage' else 'are'} not what the manifest has"
        for name in differing_notes(db, manifest)
    ]


def count(ticks: Ticks, on_rows: OnRows | None = None, *, key: bytes = b"") -> DayContent:
    """Read all rows of a file. ``key``: as of ``DayContent``. StoreError as of its reader."""
    content = DayContent(key)
    for batch in ticks.batches():
        content.add(batch)
        if on_rows is not None:
            on_rows(batch.num_rows)
    return content


def digest(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file's bytes. StoreUnavailable when they cannot be read."""
    sha256 = hashlib.sha256()
    size_bytes = 0
    try:
        with open_regular(path) as file:
            while block := file.read(BLOCK_BYTES):
                sha256.update(block)
                size_bytes += len(block)
    except OSError as exc:
        raise unavailable(path, exc) from exc
    return size_bytes, sha256.hexdigest()


@contextlib.contextmanager
def opened(kind: str, path: Path, archive_root: Path, rows: int | None = None) -> Iterator[Ticks]:
    """The ticks of an archive's file; a packed day file is unpacked for as long as the block lasts. ``rows``: what its
    manifest says, None when that is not known."""
    if kind == PARQUET:
        yield ParquetTicks(path)
        return
    beside = archive_root / "sqlite"
    directory = beside if os.access(beside, os.W_OK) else None
    with Scratch("day", directory) as place:
        unpacked = place / ".unpacked"
        unpack(path, unpacked, rows)
        yield DayFileTicks(unpacked)


def unpack(path: Path, target: Path, rows: int | None = None) -> None:
    """Decompress a packed day file into ``target``: never more than it declares, than ``rows`` can need, or than the
    disk can spare. StoreCorrupt when it is damaged or too large, StoreUnavailable when the disk refuses or is too
    small."""
    try:
        source = open_regular(path)
    except OSError as exc:
        raise unavailable(path, exc) from exc
    try:
        with source:
            size_bytes = _unpacked_bytes(path, source.read(ZSTD_HEADER_BYTES), rows)
            _check_room(path, target, size_bytes)
            source.seek(0)
            with target.open("wb") as file:
                room: Any = _Room(path, file, size_bytes)
                zstandard.ZstdDecompressor().copy_stream(source, room, read_size=BLOCK_BYTES, write_size=BLOCK_BYTES)
                room.check_full()
    except zstandard.ZstdError as exc:
        raise StoreCorrupt(f"{path} is not a packed day file, or one that was cut short: {exc}") from exc
    except OSError as exc:
        raise unavailable(target, exc) from exc


class _Room:
    """A file that takes so many bytes and no more."""

    def __init__(self, path: Path, file: BinaryIO, size_bytes: int) -> None:
        self._path, self._file, self._left_bytes = path, file, size_bytes

    def write(self, block: bytes) -> int:
        """StoreCorrupt when it is full."""
        self._left_bytes -= len(block)
        if self._left_bytes < 0:
            raise StoreCorrupt(f"{self._path} holds more than it says: it is not a packed day file")
        return self._file.write(block)

    def check_full(self) -> None:
        """StoreCorrupt when there is room left: zstd says nothing of a stream that ends early."""
        if self._left_bytes:
            raise StoreCorrupt(f"{self._path} is not a packed day file, or one that was cut short")


def _unpacked_bytes(path: Path, header: bytes, rows: int | None) -> int:
    """What it says it unpacks to. StoreCorrupt when it does not say, or more than so many rows can need."""
    size_bytes = int(zstandard.frame_content_size(header))
    if size_bytes < 0:
        raise StoreCorrupt(f"{path} is not a packed day file: it does not say how large it was")
    most_bytes = None if rows is None else SMALL_DAY_BYTES + rows * MOST_ROW_BYTES
    if most_bytes is not None and size_bytes > most_bytes:
        raise StoreCorrupt(f"{path} unpacks to {size_bytes} bytes, more than a day of {rows} ticks can need")
    return size_bytes


def _check_room(path: Path, target: Path, size_bytes: int) -> None:
    disk = os.statvfs(target.parent)
    free_bytes = disk.f_bavail * disk.f_frsize
    spared_bytes = min(SPARED_BYTES, disk.f_blocks * disk.f_frsize // 10)  # an archive may have a small disk of its own
    if size_bytes + spared_bytes > free_bytes:
        raise StoreUnavailable(
            f"{path} unpacks to {size_bytes:,} bytes and {target.parent} has {free_bytes:,} free, of which "
            f"{spared_bytes:,} stay for the recorder: make room"
        )
