"""Putting a day away: a consistent copy of its file as Parquet, as a packed SQLite file, or as both.

When. A day may be archived once its recording is over (market hours, 16:15, half days 12:15), nothing of it waits in
the spill, and nobody wrote to its file while it was read: a connection held open through the reading and the file's
times tell, and the reading begins anew, ATTEMPTS times. The recorder runs day and night and keeps the file open for
half an hour after the last tick; a copy of a file that is at rest is as good then as later. Ticks that come after it
make the day file differ from its archive: ``fits`` sees that at once, the next archive run replaces the archive, and
retention deletes nothing whose archive does not hold exactly what the file holds.

How. Everything is written under temporary names, synced, and read back from the disk before it counts. Then the new
manifest is put beside the old one under the name ``.YYYYMMDD.json.pending``: from here on the archive is the new one.
The files are renamed into their places and the manifest last. A run that died before that point left an archive that
was not touched; after it, the next run (``tidy``) finishes the renames.

An archive is replaced only when the day file holds every tick of it, by the archive's bytes and not by its manifest.
Otherwise the work is refused: ``restore`` joins the two.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import zstandard

from hk_tick_collector import __version__
from hk_tick_collector.archive import atomic, books, kept
from hk_tick_collector.archive.atomic import Refused, part_of
from hk_tick_collector.archive.contents import SYMBOL, DayFileTicks, Ticks, differing, differing_notes, lacking, some
from hk_tick_collector.archive.verify import (
    BLOCK_BYTES,
    OnRows,
    archive_paths,
    check_day,
    check_files,
    count,
    digest,
    opened,
)
from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import NoData, StoreCorrupt, StoreError
from hk_tick_collector.core.scratch import remove_abandoned
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.days import parquet, scan
from hk_tick_collector.days.content import ALGORITHM, DayContent
from hk_tick_collector.days.manifest import (
    FORMAT_VERSION,
    PARQUET,
    SQLITE,
    ArchivedFile,
    Manifest,
    claims_of,
    load_manifest,
    manifest_path,
    market_of_manifest,
    signature_path,
)
from hk_tick_collector.days.order import sorted_tables
from hk_tick_collector.days.schema import SCHEMA_VERSION
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.registry import DEFAULT_MARKET
from hk_tick_collector.store import data_root as roots
from hk_tick_collector.store import reader
from hk_tick_collector.store.atomic import sync_file
from hk_tick_collector.store.connect import translate
from hk_tick_collector.store.follow import place_at
from hk_tick_collector.store.inuse import pending_spill
from hk_tick_collector.store.kept import kept_files
from hk_tick_collector.store.layout import day_file, depth_dir, spill_dir, sqlite_files
from hk_tick_collector.store.read_only import open_read_only

ATTEMPTS = 3
BACKUP_STEP_PAGES = 4096  # 16 MB, some milliseconds of holding a read lock
ZSTD_LEVEL = 3
PENDING_SUFFIX = ".pending"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a day."""

    trading_day: str
    action: str  # archived | replaced | unchanged
    rows: int
    symbols: int
    verified: bool
    files: tuple[ArchivedFile, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Packed:
    """A copy under temporary names."""

    manifest: Manifest
    content: DayContent


def is_over(day: str, calendar: TradingCalendar, now_ms: int) -> bool:
    """Is the day's recording over at ``now_ms`` (UTC epoch ms)?"""
    return calendar.no_more_ticks_ms(day) <= now_ms


def check_at_rest(data_root: Path, day: str, calendar: TradingCalendar, now_ms: int) -> None:
    """Raise ``Refused`` while ticks of the day may come."""
    if not is_over(day, calendar, now_ms):
        raise Refused(f"{day} is still in session: archive it when its recording is over")
    if pending_spill(data_root, day):
        raise Refused(
            f"{day}: ticks of it wait in {spill_dir(data_root)}; the recorder stores them when it can: see that it runs"
        )


def fits(manifest: Manifest, db: Path, archive_root: Path) -> bool:
    """Does the archive look like what the day file holds? Reads a row a symbol: whoever stores a tick changes the
    coverage in the same transaction. Good enough to see that there is nothing to do, never to delete a file."""
    paths = archive_paths(archive_root, manifest.trading_day, manifest.market)
    for file in manifest.files:
        with contextlib.suppress(OSError):
            if file.kind in paths and paths[file.kind].stat().st_size == file.size_bytes:
                continue
        return False
    rows = reader.freshness(db, 0).rows
    if rows != manifest.rows or differing_notes(db, manifest):
        return False
    return kept.fits(manifest, db.parent) and books.fits(manifest, db.parent)


def is_archived(data_root: Path, archive_root: Path, day: str, kinds: Collection[str] = ()) -> bool:
    """Is there an archive with these kinds of files that ``fits`` the day file? StoreError when one cannot be read."""
    try:
        manifest = load_manifest(archive_root, day)
    except StoreCorrupt:
        return False
    if manifest is None or not {file.kind for file in manifest.files}.issuperset(kinds):
        return False
    return fits(manifest, day_file(data_root, day), archive_root)


def archive_day(
    data_root: Path,
    archive_root: Path,
    day: str,
    kinds: Collection[str],
    *,
    verify: bool = True,
    made_at_ms: int,
    on_rows: OnRows | None = None,
) -> Outcome:
    """Archive one day that is at rest (``check_at_rest``), inside ``atomic.only_job(archive_root)`` and after ``tidy``.

    ``kinds``: PARQUET, SQLITE or both; what an archive has already, it keeps having. ``verify``: read the copy back
    before it counts; a copy that replaces an archive always is. ``NoData`` without a day file, ``Refused`` when the
    archive there is holds ticks that the day file lacks or the day file does not come to rest, StoreError or OSError
    when reading or writing fails. Whatever is raised, the archive is what it was.
    """
    db = day_file(data_root, day)
    if not db.exists():
        if kept_files(data_root, day):
            raise NoData(
                f"there is no day file {db}, only depth files of {day}: they stay in {depth_dir(data_root, day)} until "
                f"there are ticks of that day to archive them with"
            )
        raise NoData(f"there is no day file {db}: nothing to archive")
    market = roots.market_of(data_root) or DEFAULT_MARKET.code
    _check_market(archive_root, day, market)
    books.keep_books(data_root, day, made_at_ms)
    paths = archive_paths(archive_root, day, market)
    there = {kind for kind, path in paths.items() if path.exists()}
    if is_archived(data_root, archive_root, day, kinds):
        check = check_day(archive_root, day, db, on_rows) if verify else None
        manifest = load_manifest(archive_root, day)
        if manifest is not None and (check is None or check.fine):
            return Outcome(day, "unchanged", manifest.rows, len(manifest.symbols), check is not None, manifest.files)
    wanted = [kind for kind in (PARQUET, SQLITE) if kind in kinds or kind in there]
    if PARQUET in wanted:
        _check_rows(db, market)
    had_one = bool(there) or manifest_path(archive_root, day).exists()
    try:
        packed = _pack(db, archive_root, day, market, wanted, made_at_ms, on_rows)
        if verify or had_one:
            _, problems = check_files(archive_root, packed.manifest, {kind: part_of(paths[kind]) for kind in wanted})
            if problems:
                raise StoreCorrupt(f"{day}: the copy is not what was read: {'; '.join(problems)}; check the disk")
        if had_one:
            check_replaceable(archive_root, day, market, DayFileTicks(db), db, packed.content)
        manifest = replace(
            packed.manifest, depth=kept.put_away(data_root, archive_root, day, _readable(archive_root, day))
        )
        _commit(archive_root, day, manifest)
        kept.forget_unlisted(archive_root, manifest)
    finally:
        _remove_parts(archive_root, day, market)
    action = "replaced" if had_one else "archived"
    return Outcome(day, action, manifest.rows, len(manifest.symbols), verify or had_one, manifest.files)


def _readable(archive_root: Path, day: str) -> Manifest | None:
    """The manifest that is there; None also for one that is damaged, whose list is then lost."""
    with contextlib.suppress(StoreCorrupt):
        return load_manifest(archive_root, day)
    return None


# -- writing the copy ------------------------------------------------------------------------------------------------


def _pack(
    db: Path, archive_root: Path, day: str, market: str, kinds: Sequence[str], made_at_ms: int, on_rows: OnRows | None
) -> _Packed:
    for _ in range(ATTEMPTS):
        with at_rest(db) as has_changed:
            packed = _pack_once(db, archive_root, day, market, kinds, made_at_ms, on_rows)
            if not has_changed():
                return packed
    raise Refused(f"{db} was written to whenever it was read; try again when no more ticks of {day} come")


def _pack_once(
    db: Path, archive_root: Path, day: str, market: str, kinds: Sequence[str], made_at_ms: int, on_rows: OnRows | None
) -> _Packed:
    paths = archive_paths(archive_root, day, market)
    content: DayContent | None = None
    if PARQUET in kinds:
        content = _write_parquet(db, paths[PARQUET], on_rows)
    if SQLITE in kinds:
        _write_packed(db, paths[SQLITE])
    if content is None:
        content = count(DayFileTicks(db), on_rows)
    files = []
    for kind in kinds:
        part = part_of(paths[kind])
        sync_file(part, forget=True)
        files.append(ArchivedFile(kind, str(paths[kind].relative_to(archive_root)), *digest(part)))
    with closing(open_read_only(db)) as conn:
        version = int(conn.execute("PRAGMA user_version").fetchone()[0])
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        trading_day=day,
        market=market,
        made_at_ms=made_at_ms,
        software_version=__version__,
        schema_version=SCHEMA_VERSION,
        source_schema_version=version,
        rows=content.rows,
        hash_algorithm=ALGORITHM,
        content_hash=content.content_hash,
        symbols=claims_of(content),
        files=tuple(files),
        coverage=tuple(reader.coverage(db)),
        gaps=tuple(reader.gaps(db)),
        symbol_rows=tuple(reader.symbol_rows(db)),
        amendments=tuple(reader.amendments(db)),
        end=place_at(db, day).mark,
    )
    return _Packed(manifest, content)


def _write_parquet(db: Path, path: Path, on_rows: OnRows | None) -> DayContent:
    content = DayContent()
    columns = scan.told_columns(db)
    stored = {row.symbol: row.stored_ticks for row in reader.coverage(db)}
    expected = stored or {symbol_count.symbol: symbol_count.rows for symbol_count in reader.count_by_symbol(db, -1)}

    def counted() -> Iterator[object]:
        for batch in scan.scan_day_file(db, columns):
            content.add(batch)
            if on_rows is not None:
                on_rows(batch.num_rows)
            yield batch

    parquet.write_sorted(atomic.new_part(path), sorted_tables(counted(), expected))
    return content


def _write_packed(db: Path, path: Path) -> None:
    """The day file itself, its write-ahead log included, compressed."""
    copy = atomic.new_part(path.with_suffix(""))
    try:
        with closing(open_read_only(db)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target, pages=BACKUP_STEP_PAGES, sleep=0)
            target.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file, without companions
    except sqlite3.Error as exc:
        raise translate(exc, copy) from exc
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
    with copy.open("rb") as plain, atomic.new_part(path).open("wb") as file:
        size_bytes = copy.stat().st_size
        compressor.copy_stream(plain, file, size=size_bytes, read_size=BLOCK_BYTES, write_size=BLOCK_BYTES)
    copy.unlink()


@contextlib.contextmanager
def at_rest(db: Path) -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether anybody committed to the day file since the block began."""
    with closing(open_read_only(db)) as conn:
        before = (_signature(db), _data_version(conn, db))
        yield lambda: (_signature(db), _data_version(conn, db)) != before


def _data_version(conn: sqlite3.Connection, db: Path) -> int:
    try:
        return int(conn.execute("PRAGMA data_version").fetchone()[0])
    except sqlite3.Error as exc:
        raise translate(exc, db) from exc


def _signature(db: Path) -> list[tuple[int, int, int, int]]:
    """Which files these are and when they were last written; an empty write-ahead log is none."""
    file_states = []
    for path in (db, Path(f"{db}-wal")):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise unavailable(path, exc) from exc
        if status.st_size:
            file_states.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return file_states


# -- replacing ---------------------------------------------------------------------------------------------------------


def _check_market(archive_root: Path, day: str, market: str) -> None:
    """Raise ``Refused`` where the day is archived already and its archive is another market's."""
    with contextlib.suppress(StoreCorrupt):  # what it holds is looked at before it is replaced
        manifest = load_manifest(archive_root, day)
        if manifest is not None and manifest.market != market:
            raise Refused(
                f"{archive_root} holds {day} of market {manifest.market}, the day file is of {market}: "
                "give each market an archive of its own (ARCHIVE_ROOT)"
            )


def _check_rows(db: Path, market: str) -> None:
    """Raise ``Refused`` where the day file has rows of another market: in a Parquet tree the path says the market."""
    with closing(open_read_only(db)) as conn:
        try:
            other = conn.execute("SELECT symbol, market FROM ticks WHERE market IS NOT ? LIMIT 1", (market,)).fetchone()
        except sqlite3.Error as exc:
            raise StoreCorrupt(f"{db} cannot be read: {exc}") from exc
    if other is not None:
        symbol, named = (printable(cut(str(value))) for value in other)
        raise Refused(
            f"{db} holds ticks of market {named} ({symbol}) and is among the days of market {market}: "
            f"move the file to a DATA_ROOT of market {named}"
        )


def check_replaceable(
    archive_root: Path, day: str, market: str, holder: Ticks, name: Path, content: DayContent
) -> None:
    """Raise ``Refused`` unless ``holder`` holds all that the archive there is holds. ``name``: its file, ``content``:
    what it contains."""
    manifest: Manifest | None = None
    damage: list[str] = []
    try:
        manifest = load_manifest(archive_root, day)
    except StoreCorrupt as exc:
        damage.append(str(exc))
    readable = 0
    for kind, path in archive_paths(archive_root, day, market).items():
        if not path.exists():
            if manifest is not None and manifest.file(kind) is not None:
                damage.append(f"{path} is gone")
            continue
        try:
            _check_holds_all(kind, path, archive_root, day, holder, name, content)
            readable += 1
        except StoreError as exc:
            # A refusal of the system (rights, no room to unpack) says nothing about the file; Arrow has no errno for
            # bytes that make no sense.
            if getattr(exc.__cause__, "errno", None) is not None:
                raise
            damage.append(str(exc))
    if manifest is not None:
        changed = [] if readable else differing(content.symbols, manifest.symbols)
        lost = [symbol for symbol in changed if symbol in manifest.symbols]
    else:
        lost = ["all symbols"] if damage and not readable and manifest_path(archive_root, day).exists() else []
    if lost:
        raise Refused(
            f"the archive of {day} is damaged ({'; '.join(damage)}) and {name} does not hold what it held "
            f"({some(lost)}): move the damaged files away, then archive again"
        )


def _check_holds_all(
    kind: str, path: Path, archive_root: Path, day: str, holder: Ticks, name: Path, content: DayContent
) -> None:
    with opened(kind, path, archive_root) as ticks:
        archived = count(ticks)
        symbols = differing(archived.symbols, content.symbols)
        for rows in lacking(ticks, archived, holder.rows, symbols):
            raise Refused(
                f"the archive of {day} holds ticks that {name} lacks ({rows[0][SYMBOL]}, perhaps more): "
                f"join them with: hk-tickctl restore {day}, then archive again"
            )


# -- from temporary names to an archive --------------------------------------------------------------------------------


def _commit(archive_root: Path, day: str, manifest: Manifest) -> None:
    path = manifest_path(archive_root, day)
    part = atomic.write_part(path, manifest.to_json())
    with atomic.uninterrupted():
        atomic.rename(part, _pending(path))
        _finish(archive_root, day, manifest.market)


def _pending(path: Path) -> Path:
    return path.with_name(f".{path.name}{PENDING_SUFFIX}")


def _finish(archive_root: Path, day: str, market: str) -> None:
    signature_path(archive_root, day).unlink(missing_ok=True)  # of the manifest that goes
    for path in archive_paths(archive_root, day, market).values():
        if part_of(path).exists():
            atomic.rename(part_of(path), path)
    path = manifest_path(archive_root, day)
    atomic.rename(_pending(path), path)


def tidy(archive_root: Path) -> None:
    """Finish or undo what a run that died left. Inside ``atomic.only_job(archive_root)``."""
    for pending in (archive_root / "manifests").glob(f".*{PENDING_SUFFIX}"):
        _finish(archive_root, pending.name[1:9], market_of_manifest(pending))
    for pattern in ("manifests/.*", "sqlite/.*", "ticks/market=*/day=*/.*"):
        for path in archive_root.glob(f"{pattern}{atomic.PART_SUFFIX}*"):
            path.unlink(missing_ok=True)
    remove_abandoned(archive_root / "sqlite")


def _remove_parts(archive_root: Path, day: str, market: str) -> None:
    """Of a day whose copy did not become its archive; nothing is there otherwise."""
    manifest = manifest_path(archive_root, day)
    if _pending(manifest).exists():
        return
    paths = archive_paths(archive_root, day, market)
    for path in (*paths.values(), manifest):
        part_of(path).unlink(missing_ok=True)
    for path in sqlite_files(part_of(paths[SQLITE].with_suffix(""))):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # there is an archive in it
        paths[PARQUET].parent.rmdir()
