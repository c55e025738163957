"""What an archive claims to hold: one JSON file a day, and the last thing written when a day is archived.

Without its manifest an archive file is only a file. A manifest is a claim until somebody has read the archive itself
(``archive.verify``): nothing is deleted on a manifest's word.

::

    ARCHIVE_ROOT/ticks/market=HK/day=20261120/ticks.parquet
    ARCHIVE_ROOT/sqlite/20261120.db.zst
    ARCHIVE_ROOT/depth/20261120/...depth.0f3a...gz    what was kept beside the day (store/kept.py)
    ARCHIVE_ROOT/manifests/20261120.json
    ARCHIVE_ROOT/manifests/20261120.json.sig          who made it, if that was signed (archive/signing.py)
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import asdict, dataclass, fields
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreCorrupt, StoreUnavailable
from hk_tick_collector.core.regular import open_regular, read_named
from hk_tick_collector.days.tree import hive_path
from hk_tick_collector.market.registry import DEFAULT_MARKET
from hk_tick_collector.records.columns import SCHEMA_VERSION
from hk_tick_collector.store.data_root import CODE
from hk_tick_collector.store.kept import KeptFile, kept_file
from hk_tick_collector.store.layout import check_day, parse_day
from hk_tick_collector.store.reader import AmendmentRow, CoverageRow, GapRow, SymbolRow
from hk_tick_collector.store.verdict import Replay

if TYPE_CHECKING:
    from hk_tick_collector.days.content import DayContent

FORMAT_VERSION = 1
PARQUET, SQLITE = "parquet", "sqlite"
MAX_MANIFEST_BYTES = 64 * 1024 * 1024
_HEAD_BYTES = 512
_NESTED = {"symbols", "files", "coverage", "replay", "gaps", "symbol_rows", "amendments", "depth"}  # checked one by one
_MARKET_IN_HEAD = re.compile(rb'"market": "([A-Z0-9_]{1,16})"')


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """One file of an archive."""

    kind: str  # parquet | sqlite
    path: str  # relative to the archive's root
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SymbolClaim:
    """One symbol's ticks as the manifest has them. Times are UTC epoch ms."""

    rows: int
    first_ts_ms: int | None
    last_ts_ms: int | None
    min_seq: int | None
    max_seq: int | None
    content_hash: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The archive of one day."""

    format_version: int
    trading_day: str
    market: str
    made_at_ms: int  # UTC epoch ms
    software_version: str
    schema_version: int  # of the Parquet file
    source_schema_version: int  # PRAGMA user_version of the day file
    rows: int
    hash_algorithm: str
    content_hash: str
    symbols: dict[str, SymbolClaim]
    files: tuple[ArchivedFile, ...]
    coverage: tuple[CoverageRow, ...]
    gaps: tuple[GapRow, ...]
    symbol_rows: tuple[SymbolRow, ...] = ()  # the tables of version 2
    amendments: tuple[AmendmentRow, ...] = ()
    depth: tuple[KeptFile, ...] = ()  # files that are kept beside the day, by name
    end: str | None = None  # ``Place.mark`` of the end of the day file: who stands there has read all of it

    def file(self, kind: str) -> ArchivedFile | None:
        """The archive's file of a kind, if there is one."""
        return next((file for file in self.files if file.kind == kind), None)

    def to_json(self) -> str:
        """As written to disk."""
        content = asdict(self)
        for row in content["coverage"]:
            for name in ("replay", "later_interruptions"):
                if row[name] is None:  # as most are
                    del row[name]
        if not self.depth:
            del content["depth"]
        if self.end is None:  # archives of earlier versions
            del content["end"]
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def claims_of(content: DayContent) -> dict[str, SymbolClaim]:
    """What was read, as a manifest says it, by symbol in order."""
    return {
        symbol: SymbolClaim(held.rows, held.first_ts_ms, held.last_ts_ms, held.min_seq, held.max_seq, held.content_hash)
        for symbol, held in sorted(content.symbols.items())
    }


def manifest_path(archive_root: Path, day: str) -> Path:
    """Where the manifest of a day stands."""
    return archive_root / "manifests" / f"{check_day(day)}.json"


def signature_path(archive_root: Path, day: str) -> Path:
    """Where the signature of a day's manifest stands, if somebody signed it."""
    return archive_root / "manifests" / f"{check_day(day)}.json.sig"


def parquet_path(archive_root: Path, day: str, market: str = DEFAULT_MARKET.code) -> Path:
    """Where the archived Parquet file of a day stands."""
    return hive_path(archive_root / "ticks", check_day(day), market)


def sqlite_path(archive_root: Path, day: str) -> Path:
    """Where the archived, compressed day file stands."""
    return archive_root / "sqlite" / f"{check_day(day)}.db.zst"


def kept_dir(archive_root: Path, day: str) -> Path:
    """Where the files stand that were kept beside a day."""
    return archive_root / "depth" / check_day(day)


def market_of_manifest(path: Path) -> str:
    """The market that a manifest names, whatever else it holds. StoreCorrupt when it names none."""
    try:
        market = json.loads(read_named(path, MAX_MANIFEST_BYTES))["market"]
        if CODE.fullmatch(market):
            return str(market)
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise StoreCorrupt(f"{path} is not a manifest of an archived day: {exc!r}") from exc
    raise StoreCorrupt(f"{path} names no market")


@lru_cache(maxsize=4096)
def _market_in_head(path: str, _size_bytes: int, _mtime_ns: int) -> str | None:
    """What a manifest names in its first lines; it may be a megabyte long."""
    try:
        with open_regular(Path(path)) as file:
            named = _MARKET_IN_HEAD.search(file.read(_HEAD_BYTES))
    except (OSError, StoreCorrupt):
        return None
    return named[1].decode() if named else None


def archived_days(archive_root: Path, market: str | None) -> list[str]:
    """Trading days with a manifest that names this market, or any where it is None, oldest first. One that cannot be
    read is among them: whoever reads the day says what is wrong."""
    days = []
    for path in (archive_root / "manifests").glob("????????.json"):
        day = parse_day(path.with_suffix(".db"))
        if day and (market is None or _named_market(path) in (None, market)):
            days.append(day)
    return sorted(days)


def _named_market(path: Path) -> str | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return _market_in_head(str(path), status.st_size, status.st_mtime_ns)


def load_manifest(archive_root: Path, day: str) -> Manifest | None:
    """The manifest of a day, None when there is none. StoreCorrupt when it cannot be one, StoreUnavailable when it
    cannot be read or a newer version wrote it."""
    path = manifest_path(archive_root, day)
    try:
        with open_regular(path) as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise unavailable(path, exc) from exc
    if len(text) > MAX_MANIFEST_BYTES:
        raise StoreCorrupt(f"{path} is larger than any manifest: {MAX_MANIFEST_BYTES} bytes at most")
    try:
        raw = json.loads(text)
        version = raw["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise StoreCorrupt(f"{path} is not a manifest of an archived day: {exc}") from exc
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise StoreUnavailable(f"{path} has format version {version!r}, this program knows {FORMAT_VERSION}")
    _check_known(raw, path)
    try:
        manifest = _parse(raw)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise StoreCorrupt(f"{path} is not a manifest of an archived day: {exc!r}") from exc
    if manifest.trading_day != day:
        raise StoreCorrupt(f"{path} is the manifest of another day ({manifest.trading_day})")
    return manifest


def _check_known(raw: dict[str, Any], path: Path) -> None:
    for name in ("schema_version", "source_schema_version"):
        version = raw.get(name)
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise StoreUnavailable(
                f"{path}: the day was archived by a newer program ({name.replace('_', ' ')} {version}, this one knows "
                f"{SCHEMA_VERSION}): install the newer version to read it"
            )


def _parse(raw: dict[str, Any]) -> Manifest:
    known = {
        **raw,
        "symbols": {str(name): _build(SymbolClaim, claim) for name, claim in raw["symbols"].items()},
        "files": tuple(_build(ArchivedFile, file) for file in raw["files"]),
        "coverage": tuple(_coverage_row(row) for row in raw["coverage"]),
        "gaps": tuple(_build(GapRow, row) for row in raw["gaps"]),
        "symbol_rows": tuple(_build(SymbolRow, row) for row in raw.get("symbol_rows", ())),
        "amendments": tuple(_build(AmendmentRow, row) for row in raw.get("amendments", ())),
        "depth": tuple(kept_file(file) for file in raw.get("depth", ())),
    }
    manifest: Manifest = _build(Manifest, known)
    _check_values(manifest)
    if any(Path(file.path).is_absolute() or ".." in Path(file.path).parts for file in manifest.files):
        raise ValueError("a file's path leads out of the archive")
    if not isinstance(manifest.end, str | None):
        raise ValueError("its end is not a text")
    if not CODE.fullmatch(manifest.market):  # it becomes a part of a path
        raise ValueError(f"{manifest.market!r} is not a market")
    if not isinstance(manifest.rows, int) or any(
        not isinstance(claim.rows, int) for claim in manifest.symbols.values()
    ):
        raise ValueError("a row count is not a number")
    return manifest


def _check_values(manifest: Manifest) -> None:
    """ValueError for a value that SQLite or a path could not take, or that is of no use where it stands."""
    for file in manifest.files:
        if not all(isinstance(text, str) for text in (file.kind, file.path, file.sha256)):
            raise ValueError("a file's kind, path or checksum is not a text")
        if type(file.size_bytes) is not int or file.size_bytes < 0:
            raise ValueError("a file's size is not a number")
    replays = [row.replay for row in manifest.coverage if row.replay is not None]
    notes = (manifest.coverage, replays, manifest.gaps, manifest.symbol_rows, manifest.amendments)
    rows = [manifest, *manifest.files, *manifest.symbols.values(), *(row for part in notes for row in part)]
    for row in rows:
        kind: Any = type(row)
        for name, _ in _fields(kind):
            _check_value(name, getattr(row, name))
    for name in manifest.symbols:
        name.encode()


def _check_value(name: str, value: object) -> None:
    if isinstance(value, str):
        value.encode()  # half of a surrogate pair is a ValueError
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{name} is larger than any number of 64 bits")
    elif not (value is None or isinstance(value, float) or name in _NESTED):
        raise ValueError(f"{name} is neither a text nor a number")


def _coverage_row(values: dict[str, Any]) -> CoverageRow:
    replay = values.get("replay")
    row: CoverageRow = _build(CoverageRow, {**values, "replay": None if replay is None else _build(Replay, replay)})
    return row


def _build(kind: Any, values: dict[str, Any]) -> Any:
    """From a manifest's values. What a manifest that was written before a field was lacks has its default."""
    return kind(**{name: values[name] for name, is_always_there in _fields(kind) if is_always_there or name in values})


@cache
def _fields(kind: Any) -> list[tuple[str, bool]]:
    """A row's fields, and which every manifest has. Asked once a kind: a day has thousands of rows."""
    return [(field.name, field.default is NO_DEFAULT) for field in fields(kind)]
