"""Reading an archive back: what its bytes hold, against what its manifest claims and what the day file has.

Nothing here believes a manifest. Every file is read from end to end, its rows counted and hashed symbol by symbol
(``days.content``), its checksum computed. A packed day file is unpacked beside the archive, or in the system's
directory for temporary files when nothing can be written there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import zstandard

from hk_tick_collector.archive.atomic import PART_SUFFIX
from hk_tick_collector.archive.contents import DayFileTicks, ParquetTicks, Ticks, differing, some
from hk_tick_collector.core.errors import StoreCorrupt, StoreError, StoreUnavailable
from hk_tick_collector.days.content import ALGORITHM, DayContent
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
from hk_tick_collector.store.connect import unavailable
from hk_tick_collector.store.layout import sqlite_files

BLOCK_BYTES = 4 * 1024 * 1024

OnRows = Callable[[float], None]


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
            "compared_with": self.compared_with,
            "problems": list(self.problems),
        }


def archive_paths(archive_root: Path, day: str) -> dict[str, Path]:
    """Where the files of a day's archive stand, by kind."""
    return {PARQUET: parquet_path(archive_root, day), SQLITE: sqlite_path(archive_root, day)}


def check_day(archive_root: Path, day: str, db: Path | None, on_rows: OnRows | None = None) -> Check:
    """Read a day's archive back; hold it against ``db`` as well when that is given. Problems are told, not raised."""
    try:
        manifest = load_manifest(archive_root, day)
    except StoreError as exc:
        return Check(day, 0, 0, (), None, (str(exc),), None)
    if manifest is None:
        text = f"{day} is not archived: there is no {manifest_path(archive_root, day)}"
        return Check(day, 0, 0, (), None, (text,), None)
    content, problems = check_files(archive_root, manifest, archive_paths(archive_root, day), on_rows)
    if content is not None and db is not None:
        problems += compare_with_day_file(content, manifest, db)
    kinds = tuple(file.kind for file in manifest.files)
    compared_with = None if db is None else str(db)
    if content is None:
        return Check(day, 0, 0, kinds, compared_with, tuple(problems), None)
    return Check(day, content.rows, len(content.symbols), kinds, compared_with, tuple(problems), content)


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
    problems: list[str] = []
    first: DayContent | None = None
    if manifest.hash_algorithm != ALGORITHM:
        problems.append(f"its manifest counts with {manifest.hash_algorithm}, this program with {ALGORITHM}")
    if not manifest.files:
        problems.append("its manifest names no file")
    places = archive_paths(archive_root, manifest.trading_day)
    for file in manifest.files:
        if only not in (None, file.kind):
            continue
        place = places.get(file.kind)
        if place is None or archive_root / file.path != place:
            problems.append(f"its manifest names a file of a kind or place that is not known: {file.kind} {file.path}")
            continue
        content = _check_file(archive_root, manifest, file, paths[file.kind], problems, on_rows)
        first = first or content
    return first, problems


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
        size_bytes, checksum = digest(path)
        if size_bytes != file.size_bytes:
            problems.append(f"{path} has {size_bytes} bytes, its manifest says {file.size_bytes}")
        elif checksum != file.sha256:
            problems.append(f"{path} has another checksum than its manifest says")
        with opened(file.kind, path, archive_root) as ticks:
            content = count(ticks, on_rows)
            problems += _differences(content, manifest, path)
            if isinstance(ticks, DayFileTicks):
                problems += _notes_differ(ticks.db, manifest, f"in {path}")
    except StoreError as exc:
        problems.append(str(exc))
        return None
    return content


def _differences(content: DayContent, manifest: Manifest, path: Path) -> list[str]:
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


def _notes_differ(db: Path, manifest: Manifest, where: str) -> list[str]:
    problems = []
    if reader.coverage(db) != list(manifest.coverage):
        problems.append(f"the coverage {where} is not what the manifest has")
    if reader.gaps(db) != list(manifest.gaps):
        problems.append(f"the gaps {where} are not what the manifest has")
    return problems


def count(ticks: Ticks, on_rows: OnRows | None = None) -> DayContent:
    """Read all rows of a file. StoreError as of its reader."""
    content = DayContent()
    for batch in ticks.batches():
        content.add(batch)
        if on_rows is not None:
            on_rows(batch.num_rows)
    return content


def digest(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file's bytes. StoreUnavailable when they cannot be read."""
    found = hashlib.sha256()
    size_bytes = 0
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                found.update(block)
                size_bytes += len(block)
    except OSError as exc:
        raise StoreUnavailable(f"{path}: {exc.strerror or exc}") from exc
    return size_bytes, found.hexdigest()


@contextlib.contextmanager
def opened(kind: str, path: Path, archive_root: Path) -> Iterator[Ticks]:
    """The ticks of an archive's file; a packed day file is unpacked for as long as the block lasts."""
    if kind == PARQUET:
        yield ParquetTicks(path)
        return
    beside = archive_root / "sqlite"
    directory = beside if os.access(beside, os.W_OK) else None
    descriptor, name = tempfile.mkstemp(prefix=".unpacked-", suffix=PART_SUFFIX, dir=directory)
    os.close(descriptor)
    unpacked = Path(name)
    try:
        unpack(path, unpacked)
        yield DayFileTicks(unpacked)
    finally:
        for one in sqlite_files(unpacked):
            one.unlink(missing_ok=True)


def unpack(path: Path, target: Path) -> None:
    """Decompress a packed day file into ``target``. StoreCorrupt when it is damaged, StoreUnavailable when the disk
    refuses."""
    try:
        source = path.open("rb")
    except OSError as exc:
        raise StoreUnavailable(f"{path}: {exc.strerror or exc}") from exc
    try:
        with source, target.open("wb") as file:
            zstandard.ZstdDecompressor().copy_stream(source, file, read_size=BLOCK_BYTES, write_size=BLOCK_BYTES)
    except zstandard.ZstdError as exc:
        raise StoreCorrupt(f"{path} is no packed day file, or one that was cut short: {exc}") from exc
    except OSError as exc:
        raise unavailable(target, exc) from exc
