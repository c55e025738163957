"""A day's snapshots in SQLite: what the file is, and how it is read. ``snapshots.sql`` describes its tables.

What the file can claim is in it: a snapshot a second was made or was not, and the source's own copy of the day says
which (``copies``). ``quality.snapshots`` judges by that.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from hk_tick_collector.core.errors import StoreCorrupt, StoreUnavailable
from hk_tick_collector.records.snapshot import Series
from hk_tick_collector.store.layout import snapshot_days, snapshot_file
from hk_tick_collector.store.side_file import NothingYet, SideFile, SideKind

APPLICATION_ID = int.from_bytes(b"HKSN", "big")
VERSION = 1
MAX_BITS_BYTES = 65_536  # of a day's seconds there are 11,000

SNAPSHOT_FILE = SideFile(
    "snapshots", "snapshots", ("snapshots.sql",), APPLICATION_ID, VERSION, "SOURCE=gexbot records them (docs/gexbot.md)"
)
SNAPSHOT_KIND = SideKind("snapshots", SNAPSHOT_FILE, snapshot_file, snapshot_days)
open_for_writing = SNAPSHOT_FILE.open_for_writing
reading = SNAPSHOT_FILE.reading


def pack_seconds(seconds: Iterable[int]) -> tuple[int, bytes]:
    """The first one, and all of them as bits from there on, compressed."""
    there = set(seconds)
    first = min(there, default=0)
    bits = bytearray((max(there, default=0) - first) // 8 + 1)
    for second in there:
        bits[(second - first) // 8] |= 1 << (second - first) % 8
    return first, zlib.compress(bytes(bits))


def unpack_seconds(first: int, packed: bytes) -> set[int]:
    """The other way. StoreCorrupt for what is none."""
    try:
        bits = inflate(packed, MAX_BITS_BYTES)
    except zlib.error as exc:
        raise StoreCorrupt(f"the seconds of a copy cannot be read: {exc}") from exc
    return {first + 8 * at + bit for at, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1}


def inflate(packed: bytes, max_bytes: int) -> bytes:
    """All of it. zlib.error for what is damaged, cut off, or more than that."""
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(packed, max_bytes + 1)
    if not unpacker.eof or unpacker.unused_data or len(content) > max_bytes:
        raise zlib.error(f"it does not end where it should, or has more than {max_bytes:,} bytes")
    return content


def copied_series(data_root: Path, day: str) -> set[Series]:
    """Of which series the source's copy of a day was read to its end. Empty where there is no file, or none that can be
    read now."""
    path = snapshot_file(data_root, day)
    if not path.is_file():
        return set()
    try:
        with reading(path) as conn:
            sql = "SELECT DISTINCT symbol, package, category FROM copies JOIN series USING (series_id)"
            return {Series(*row) for row in conn.execute(sql)}
    except (NothingYet, StoreCorrupt, StoreUnavailable):
        return set()


def series_of(path: Path) -> Iterator[tuple[int, Series]]:
    """What a file has, by name. As ``reading`` raises."""
    with reading(path) as conn:
        sql = "SELECT series_id, symbol, package, category FROM series ORDER BY symbol, package, category"
        rows = conn.execute(sql).fetchall()
    for series_id, *words in rows:
        yield int(series_id), Series(*words)
