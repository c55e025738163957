"""Copies of archived days in a store (``stores.ArchiveStore``), and bringing them back.

A day is sent from an archive's directory: the files first, the manifest last. A run that dies in between leaves files
that no manifest names, or, where a copy was being replaced, a manifest whose file is already the next one; then
``verify`` says so, and the next run finishes the work. What a copy in the store holds is never believed by its
manifest: before a copy is replaced its bytes are read, and it must hold no tick that the new one lacks.

Reading goes the other way: ``fetch_day`` brings a day into a directory of its own, which is an archive like any other.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hk_tick_collector.archive import books, kept
from hk_tick_collector.archive.atomic import Refused
from hk_tick_collector.archive.contents import differing_notes, some
from hk_tick_collector.archive.pack import Outcome, check_replaceable
from hk_tick_collector.archive.signing import Signers, is_signature
from hk_tick_collector.archive.stores import ArchiveStore, Stored
from hk_tick_collector.archive.verify import Check, OnRows, archive_paths, check_day, count, digest, opened
from hk_tick_collector.core.errors import NoData, RecorderError, StoreCorrupt
from hk_tick_collector.core.scratch import Scratch, remove_abandoned
from hk_tick_collector.days.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    kept_dir,
    load_manifest,
    manifest_path,
    signature_path,
)
from hk_tick_collector.store import reader
from hk_tick_collector.store.layout import parse_day

MAX_SIGNATURE_BYTES = 65_536

Sign = Callable[[Path], None]  # puts the signature of a manifest beside it


@dataclass(frozen=True, slots=True)
class _File:
    """A file that a manifest lists."""

    name: str
    size_bytes: int
    sha256: str


@contextlib.contextmanager
def staging(directory: Path | None = None) -> Iterator[Path]:
    """A directory for a day on its way, gone after the block. ``directory``: beside what, else where the system keeps
    temporary files (TMPDIR)."""
    with Scratch("copy", directory) as path:
        yield path


def tidy(directory: Path) -> None:
    """Remove what a run that died left. Inside ``atomic.only_job(directory)``."""
    remove_abandoned(directory)


def sent_days(store: ArchiveStore) -> list[str]:
    """The days that have a manifest in the store, oldest first. StoreUnavailable."""
    names = (Path(name) for name in store.names(f"{_name(manifest_path, '20000101').partition('/')[0]}/"))
    return sorted(day for name in names if name.suffix == ".json" and (day := parse_day(name.with_suffix(".db"))))


def fetch_day(store: ArchiveStore, day: str, target: Path) -> Manifest | None:
    """Bring a day's copy into the directory ``target``, with its signature; its manifest, None when the store has none.

    What the store lacks is lacking in ``target``: whoever reads it says so. StoreCorrupt for a manifest that is none or
    a file larger than it says, StoreUnavailable, OSError.
    """
    manifest = fetch_manifest(store, day, target)
    if manifest is not None:
        for file in _files(manifest):
            _fetch(store, file.name, target, file.size_bytes)
    return manifest


@contextlib.contextmanager
def fetched(
    store: ArchiveStore, day: str, beside: Path | None = None, signers: Signers | None = None
) -> Iterator[Path]:
    """A day's copy in a directory of its own for the length of the block; ``signers``: only one that they signed.
    Errors as of ``fetch_day`` and ``Signers.signer_of``; what the block raises names the store's place, too."""
    with staging(beside) as there:
        try:
            if fetch_day(store, day, there) is not None and signers is not None:
                signers.signer_of(there, day)
            yield there
        except RecorderError as exc:
            raise type(exc)(_named(str(exc), there, store)) from exc


def check_copy(
    store: ArchiveStore, day: str, db: Path | None, on_rows: OnRows | None = None, signers: Signers | None = None
) -> Check:
    """Read a day's copy from end to end, and hold it against ``db`` as well when that is given; as ``check_day``."""
    with staging() as there:
        try:
            fetch_day(store, day, there)
        except StoreCorrupt as exc:
            return Check(day, 0, 0, (), None, (_named(str(exc), there, store),), None)
        check = check_day(there, day, db, on_rows, is_copy=True)
        if signers is not None:
            check = signers.judged(there, check)
        return replace(check, problems=tuple(_named(problem, there, store) for problem in check.problems))


def _named(text: str, there: Path, store: ArchiveStore) -> str:
    return text.replace(str(there), store.place)


def fetch_manifest(store: ArchiveStore, day: str, target: Path) -> Manifest | None:
    """Its manifest and signature alone. Errors as ``fetch_day``."""
    if _fetch(store, _name(manifest_path, day), target, MAX_MANIFEST_BYTES) is None:
        return None
    _fetch(store, _name(signature_path, day), target, MAX_SIGNATURE_BYTES)
    return load_manifest(target, day)


def _fetch(store: ArchiveStore, name: str, target: Path, most_bytes: int) -> Stored | None:
    path = target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = store.read(name, path, most_bytes)
    if stored is not None and path.stat().st_size > most_bytes:
        raise StoreCorrupt(f"{store.place}/{name} has {stored.size_bytes:,} bytes, {most_bytes:,} at most belong there")
    return stored


def kinds_sent(store: ArchiveStore, day: str, target: Path) -> set[str]:
    """The kinds of files that the store's copy has. ``target``: a directory to read its manifest into."""
    with contextlib.suppress(StoreCorrupt):
        manifest = fetch_manifest(store, day, target)
        return {file.kind for file in manifest.files} if manifest is not None else set()
    return set()


def is_sent(store: ArchiveStore, day: str, db: Path, target: Path, *, is_signed: bool = False) -> bool:
    """Does the store's copy look like what the day file holds? As ``pack.fits``, by its manifest and the sizes of its
    files. ``target``: a directory to read it into. ``is_signed``: the very manifest has to be, by whomever."""
    try:
        manifest = fetch_manifest(store, day, target)
        is_whole = manifest is not None and not _damaged(store, manifest, target, is_read=False)
    except StoreCorrupt:
        return False
    if manifest is None or not is_whole or (is_signed and not is_signature(target, day)):
        return False
    if reader.freshness(db, 0).rows != manifest.rows or differing_notes(db, manifest):
        return False
    return kept.fits(manifest, db.parent) and books.fits(manifest, db.parent)


def send_day(
    archive_root: Path, day: str, store: ArchiveStore, work: Path, *, read_back: bool = True, sign: Sign | None = None
) -> Outcome:
    """Send an archived day to the store; what is there already stays.

    ``work``: an empty directory for what must be read from the store. ``read_back``: read the copy from the store and
    compare all of it before its manifest is put. ``sign``: our manifest is signed anew. NoData when the day is not
    archived, ``Refused`` when the store's copy holds ticks that this one lacks or is signed and this one is not,
    ``Taken`` when somebody else wrote there meanwhile, StoreError, OSError.
    """
    manifest = load_manifest(archive_root, day)
    if manifest is None:
        raise NoData(f"{day} is not archived: there is no {manifest_path(archive_root, day)}")
    before = _Before.of(store, day, work)
    before.check_market(manifest, store)
    if before.is_same(manifest):
        damaged = _damaged(store, manifest, work, is_read=read_back)
        if damaged:
            _send_files(archive_root, manifest, store, work, before, damaged)
            _read_back(store, manifest, work)
        if sign is not None:
            _put_manifest(archive_root, manifest, store, work, before.version)
            _sign(store, day, work, sign)
        return _outcome("replaced" if damaged else "unchanged", manifest, read_back)
    before.check_kinds(manifest, store)
    before.check_depth(manifest, store)
    if before.is_signed and sign is None:
        raise Refused(f"the copy of {day} in {store.place} is signed: sign the one that replaces it (--sign KEY)")
    replaced = _send_files(archive_root, manifest, store, work, before)
    if read_back:
        _read_back(store, manifest, work)
    _put_manifest(archive_root, manifest, store, work, before.version)
    _sign(store, day, work, sign)
    return _outcome("replaced" if replaced or before.version else "archived", manifest, read_back)


@dataclass(frozen=True, slots=True)
class _Before:
    """The copy that the store has of a day. ``version``: of its manifest, None when there is none."""

    version: str | None
    manifest: Manifest | None  # None also for one that is damaged
    is_signed: bool

    @classmethod
    def of(cls, store: ArchiveStore, day: str, work: Path) -> _Before:
        name = _name(manifest_path, day)
        there = store.stat(name)
        if there is None:
            return cls(None, None, False)
        manifest = None
        with contextlib.suppress(StoreCorrupt):
            manifest = fetch_manifest(store, day, work)
        return cls(there.version, manifest, store.stat(_name(signature_path, day)) is not None)

    def check_market(self, manifest: Manifest, store: ArchiveStore) -> None:
        """``Refused`` when it is of another market, whose files stand elsewhere in the store."""
        if self.manifest is not None and self.manifest.market != manifest.market:
            held = f"{manifest.trading_day} of market {self.manifest.market}"
            raise Refused(f"{store.place} holds {held}: give each market its own place")

    def check_kinds(self, manifest: Manifest, store: ArchiveStore) -> None:
        """``Refused`` when it has kinds of files that the new manifest would leave out."""
        held = {file.kind for file in self.manifest.files} if self.manifest is not None else set()
        if not held.issubset(file.kind for file in manifest.files):
            raise Refused(f"the copy of {manifest.trading_day} in {store.place} has {' and '.join(sorted(held))} files:"
                          " archive the day with --format both first")  # fmt: skip

    def check_depth(self, manifest: Manifest, store: ArchiveStore) -> None:
        """``Refused`` when it lists files kept beside the day, or more of one, that the new manifest leaves out."""
        held = self.manifest.depth if self.manifest is not None else ()
        sizes = {entry.name: entry.size_bytes for entry in manifest.depth}
        lost = [entry.name for entry in held if sizes.get(entry.name, -1) < entry.size_bytes]
        if lost:
            day = manifest.trading_day
            raise Refused(
                f"the copy of {day} in {store.place} keeps {some(lost)}, which this archive lacks or has less of: "
                "import the file again, or bring the day's books back from there, then archive it"
            )

    def is_same(self, manifest: Manifest) -> bool:
        """Was it made of the same day, whenever and by whichever version?"""
        if self.manifest is None:
            return False
        made, version = manifest.made_at_ms, manifest.software_version
        held = replace(self.manifest, made_at_ms=made, software_version=version, end=manifest.end)
        return held == manifest


def _put_manifest(archive_root: Path, manifest: Manifest, store: ArchiveStore, work: Path, version: str | None) -> None:
    """The archive's manifest into the store, unless these very bytes are there, and into ``work``: what is signed there
    is ours, never what came from the store."""
    path, here = manifest_path(archive_root, manifest.trading_day), manifest_path(work, manifest.trading_day)
    if not here.exists() or digest(here) != digest(path):
        store.write(path, _name(manifest_path, manifest.trading_day), digest(path)[1], version)
    shutil.copyfile(path, _placed(here))


def _send_files(
    archive_root: Path,
    manifest: Manifest,
    store: ArchiveStore,
    work: Path,
    before: _Before,
    damaged: Collection[str] = (),
) -> bool:
    """Was anything replaced? ``damaged``: names that are sent whatever the store says of them."""
    versions: dict[str, str | None] = {}
    for file in _files(manifest):
        there = store.stat(file.name)
        is_there = there is not None and (there.size_bytes, there.sha256) == (file.size_bytes, file.sha256)
        if not is_there or file.name in damaged:
            versions[file.name] = None if there is None else there.version
    if before.version is not None or any(versions.values()):
        _check_holds_all(archive_root, manifest, store, work)
    for file in _files(manifest):
        if file.name in versions:
            store.write(archive_root / file.name, file.name, file.sha256, versions[file.name])
    return any(versions.values())


def _check_holds_all(archive_root: Path, manifest: Manifest, store: ArchiveStore, work: Path) -> None:
    """``Refused`` unless the archive holds every tick that the store's files hold, by their bytes."""
    day, market = manifest.trading_day, manifest.market
    with staging(work) as there:
        with contextlib.suppress(StoreCorrupt):
            fetch_manifest(store, day, there)
        for name in (str(path) for path in archive_paths(Path(), day, market).values()):
            stored = store.stat(name)
            if stored is not None:
                _fetch(store, name, there, stored.size_bytes)
        file = manifest.files[0]
        with opened(file.kind, archive_root / file.path, archive_root, manifest.rows) as ticks:
            try:
                check_replaceable(there, day, market, ticks, archive_root / file.path, count(ticks))
            except (Refused, StoreCorrupt) as exc:
                raise type(exc)(_named(str(exc), there, store)) from exc


def _read_back(store: ArchiveStore, manifest: Manifest, work: Path) -> None:
    """StoreCorrupt unless the store's files are what the manifest says, byte for byte."""
    for name in _damaged(store, manifest, work, is_read=True):
        raise StoreCorrupt(f"{store.place}/{name} is not what was sent: archive the day again")


def _damaged(store: ArchiveStore, manifest: Manifest, work: Path, *, is_read: bool) -> list[str]:
    """The names that are gone from the store or are not what the manifest says: byte for byte when ``is_read``, else
    by their sizes."""
    damaged: list[str] = []
    with staging(work) as there:
        for file in _files(manifest):
            path = _placed(there / file.name)
            held = store.read(file.name, path, file.size_bytes) if is_read else store.stat(file.name)
            is_good = held is not None and held.size_bytes == file.size_bytes
            if not is_good or (is_read and digest(path) != (file.size_bytes, file.sha256)):
                damaged.append(file.name)
            path.unlink(missing_ok=True)
    return damaged


def _sign(store: ArchiveStore, day: str, work: Path, sign: Sign | None) -> None:
    """Sign the manifest in ``work``, which ``_put_manifest`` put there, and put the signature beside it."""
    if sign is None:
        return
    sign(manifest_path(work, day))
    path, name = signature_path(work, day), _name(signature_path, day)
    there = store.stat(name)
    store.write(path, name, digest(path)[1], None if there is None else there.version)


def _outcome(action: str, manifest: Manifest, verified: bool) -> Outcome:
    return Outcome(manifest.trading_day, action, manifest.rows, len(manifest.symbols), verified, manifest.files)


def _files(manifest: Manifest) -> list[_File]:
    """All that a manifest lists, under their names in a store. StoreCorrupt for a place that no archive has."""
    day = manifest.trading_day
    places = {kind: str(path) for kind, path in archive_paths(Path(), day, manifest.market).items()}
    if any(places.get(file.kind) != file.path for file in manifest.files):
        raise StoreCorrupt(f"the manifest of {day} names a file of a kind or place that is not known")
    files = [_File(file.path, file.size_bytes, file.sha256) for file in manifest.files]
    depth = str(kept_dir(Path(), day))
    return files + [
        _File(f"{depth}/{entry.packed_name}", entry.packed_bytes, entry.packed_sha256) for entry in manifest.depth
    ]


def _name(place: Callable[[Path, str], Path], day: str) -> str:
    return str(place(Path(), day))


def _placed(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
