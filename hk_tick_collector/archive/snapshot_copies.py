"""Copies of archived snapshots in a store (``stores.ArchiveStore``), under the names that they have in the archive.

The packed file goes first and is read back, its entry last: who finds an entry finds the file. A packed file is named
after its content and never deleted, and a copy is replaced only by one that holds every snapshot of it.
"""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.archive.atomic import Refused
from hk_tick_collector.archive.copies import staging
from hk_tick_collector.archive.snapshots import entry_of
from hk_tick_collector.archive.stores import ArchiveStore
from hk_tick_collector.archive.whole import unpack
from hk_tick_collector.core.errors import NoData, StoreCorrupt
from hk_tick_collector.store.kept import LIST_SUFFIX, MAX_LIST_BYTES, KeptFile, digest_of, problems_of
from hk_tick_collector.store.layout import SNAPSHOT_DIR, parse_day_dir, snapshot_archive, snapshot_file
from hk_tick_collector.store.snapshot_file import reading

_LACKING = """SELECT count(*) FROM held.snapshots h JOIN held.series s USING (series_id)
WHERE NOT EXISTS (SELECT 1 FROM main.snapshots n JOIN main.series t USING (series_id)
 WHERE t.symbol = s.symbol AND t.package = s.package AND t.category = s.category
 AND n.ts_sec = h.ts_sec AND n.digest = h.digest)"""


def sent_days(store: ArchiveStore) -> list[str]:
    """The days that have an entry in the store, oldest first. StoreUnavailable."""
    names = [Path(name) for name in store.names(f"{SNAPSHOT_DIR}/") if name.endswith(LIST_SUFFIX)]
    return sorted(day for name in names if (day := parse_day_dir(name.parent.name)))


def fetch_entry(store: ArchiveStore, day: str, target: Path) -> KeptFile | None:
    """What the store says of a day, brought into the archive ``target``; None when it has none. StoreCorrupt for an
    entry that is none, StoreUnavailable, OSError."""
    name = _entry_name(day)
    path = target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return None if store.read(name, path, MAX_LIST_BYTES) is None else entry_of(target, day)


def fetch(store: ArchiveStore, day: str, target: Path) -> KeptFile:
    """Bring a day's copy into the archive ``target``, read to its end. NoData when the store has none, StoreCorrupt for
    one that is not what its entry says; StoreUnavailable, OSError."""
    entry = fetch_entry(store, day, target)
    if entry is None:
        raise NoData(f"no snapshots of {day} are in {store.place}")
    directory = snapshot_archive(target, day)
    store.read(_packed_name(day, entry), directory / entry.packed_name, entry.packed_bytes)
    problems = problems_of(directory, entry)
    if problems:
        raise StoreCorrupt("; ".join(problems).replace(str(target), store.place))
    return entry


def send(store: ArchiveStore, archive_root: Path, day: str) -> tuple[KeptFile, str]:
    """Send an archived day, and read it back from the store; its entry, and archived, replaced or unchanged.
    Refused when the copy there holds snapshots that this one lacks; NoData, StoreError, OSError; ``Taken`` when
    somebody else wrote there meanwhile."""
    entry = entry_of(archive_root, day)
    if entry is None:
        raise NoData(f"no snapshots of {day} are archived")
    name, version = _entry_name(day), _version(store, _entry_name(day))
    with staging() as there:
        held = None if version is None else _held(store, day, there)
        if held is not None and held.content == entry.content:
            return held, "unchanged"
        if held is not None:
            _check_replaces(archive_root, entry, there, held, day, store)
    packed = snapshot_archive(archive_root, day) / entry.packed_name
    packed_version = _version(store, _packed_name(day, entry))
    store.write(packed, _packed_name(day, entry), entry.packed_sha256, packed_version)
    with staging() as there:
        back = there / entry.packed_name
        store.read(_packed_name(day, entry), back, entry.packed_bytes)
        if digest_of(back) != (entry.packed_bytes, entry.packed_sha256):
            raise StoreCorrupt(f"{store.place}/{_packed_name(day, entry)} is not what was sent: archive the day again")
    listed = snapshot_archive(archive_root, day) / Path(name).name
    store.write(listed, name, digest_of(listed)[1], version)
    return entry, "archived" if version is None else "replaced"


def _held(store: ArchiveStore, day: str, there: Path) -> KeptFile | None:
    """The copy that the store has, whole; None for one that is damaged, which may be replaced."""
    try:
        return fetch(store, day, there)
    except (StoreCorrupt, NoData):
        return None


def _check_replaces(
    archive_root: Path, entry: KeptFile, there: Path, held: KeptFile, day: str, store: ArchiveStore
) -> None:
    with staging() as place:
        new, old = snapshot_file(place / "new", day), snapshot_file(place / "old", day)
        unpack(snapshot_archive(archive_root, day), entry, new)
        unpack(snapshot_archive(there, day), held, old)
        with reading(new) as conn:
            conn.execute("ATTACH ? AS held", (f"{old.as_uri()}?mode=ro&immutable=1",))
            lacking = conn.execute(_LACKING).fetchone()[0]
    if lacking:
        raise Refused(f"the copy of {day} in {store.place} holds {lacking:,} snapshots that this archive lacks")


def _version(store: ArchiveStore, name: str) -> str | None:
    stored = store.stat(name)
    return None if stored is None else stored.version


def _entry_name(day: str) -> str:
    return f"{SNAPSHOT_DIR}/{day}/{snapshot_file(Path(), day).name}{LIST_SUFFIX}"


def _packed_name(day: str, entry: KeptFile) -> str:
    return f"{SNAPSHOT_DIR}/{day}/{entry.packed_name}"
