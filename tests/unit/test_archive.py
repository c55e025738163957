"""Archive, verification, restoring and retention on real files: what comes back, and what is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from hk_tick_collector.archive import atomic, copies, pack, restore, retain, signing, verify
from hk_tick_collector.archive.atomic import Busy, Refused
from hk_tick_collector.archive.contents import rows_of
from hk_tick_collector.archive.places import open_store
from hk_tick_collector.archive.stores import DirectoryStore
from hk_tick_collector.core.errors import InputError, NoData, StoreCorrupt, StoreError, StoreUnavailable
from hk_tick_collector.core.facts import UNREAD_TICK, GapFound, HeadProven, Unproven, Verified
from hk_tick_collector.days import arrow_sql, order, parquet
from hk_tick_collector.days.manifest import PARQUET, SQLITE, load_manifest, manifest_path, parquet_path, sqlite_path
from hk_tick_collector.days.schema import COLUMNS
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import HK_TZ
from hk_tick_collector.records.tick import FIRST_ORIGIN, Origin, Tick
from hk_tick_collector.store import data_root, reader
from hk_tick_collector.store.connect import ROW_COLUMNS
from hk_tick_collector.store.kept import SPARED_BYTES, KeptFile, keep, kept_files, problems_of
from hk_tick_collector.store.layout import book_file, depth_dir
from hk_tick_collector.store.writer import DayFileWriter
from tests.forgery import forge_price
from tests.stored import iter_ticks
from tests.tickctl import day_ticks, record_day
from tests.unit.test_store_connect import LEGACY_ROW, make_legacy

DAY = "20251120"  # a Thursday
CALENDAR = TradingCalendar(HK)
BOTH = (PARQUET, SQLITE)

Rows = list[tuple[Any, ...]]


def at(text: str) -> int:
    """Hong Kong time as UTC epoch ms."""
    return int(datetime.fromisoformat(text).replace(tzinfo=HK_TZ).timestamp() * 1000)


NOW_MS = at("2025-12-01T17:00:00")


class Place:
    """A data root and its archive."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.archive = directory / "archive"
        self.data.mkdir(parents=True)

    @property
    def db(self) -> Path:
        return self.data / f"{DAY}.db"

    def put_away(self, *kinds: str, **options: Any) -> pack.Outcome:
        with atomic.only_job(self.archive):
            pack.tidy(self.archive)
            return pack.archive_day(
                self.data, self.archive, DAY, kinds or (PARQUET,), **{"made_at_ms": NOW_MS, **options}
            )

    def check(self, *, beside: bool = True) -> verify.Check:
        return verify.check_day(self.archive, DAY, self.db if beside else None)

    def bring_back(self, into: Path | None = None) -> restore.Restored:
        target = into or self.data
        with atomic.only_job(self.archive), atomic.only_job(target, restore.LOCK_FILE):
            return restore.restore_day(self.archive, DAY, target, now_ms=NOW_MS)

    def retain(self, **options: Any) -> retain.Verdict:
        return retain.retain_day(self.data, self.archive, DAY, CALENDAR, NOW_MS, **options)

    def lose_day_file(self) -> None:
        for path in self.data.glob("*.db*"):
            path.unlink()

    def files(self) -> list[str]:
        """Everything under the archive but the lock."""
        return sorted(str(path.relative_to(self.archive)) for path in self.archive.rglob("*") if path.is_file())[1:]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def rows(db: Path) -> Rows:
    with contextlib.closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn:
        return sorted(conn.execute(f"SELECT {', '.join(ROW_COLUMNS)} FROM ticks"), key=repr)


def record(place: Place, ticks: list[Tick], facts: list[Any] | None = None, origin: Origin = FIRST_ORIGIN) -> None:
    writer = DayFileWriter(place.data, origin=origin)
    for first in range(0, len(ticks), 100):
        writer.write(ticks[first : first + 100])
    writer.write((), facts or [])
    writer.close()


def odd_ticks() -> list[Tick]:
    """NULLs, ticks without a sequence, equal ones, a collision, texts that are not ASCII."""
    plain = day_ticks("HK.00700", 50, DAY)
    without = [tick._replace(seq=None, occurrence=n % 2) for n, tick in enumerate(day_ticks("HK.00005", 20, DAY))]
    nulls = [
        tick._replace(seq=None, price=None, volume=None, turnover=None, direction=None, tick_type=None,
                      push_data_type=None, opend_recv_ts_ms=None, type_sign=None, push_type="poll")
        for tick in day_ticks("HK.00388", 3, DAY)
    ]  # fmt: skip
    collision = plain[7]._replace(price=1.25, volume=77, type_sign="Ω")
    return [*plain, *without, *nulls, collision]


def lost(symbol: str = "HK.00700") -> list[Any]:
    noticed_ms = at("2025-11-20T16:12:00")
    return [
        HeadProven(symbol, DAY, 1),
        Verified(symbol, DAY, 90, noticed_ms),
        GapFound(symbol, DAY, 60, 69, noticed_ms, "OpenD no longer shows them"),
    ]


# -- archive ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [(PARQUET,), (SQLITE,), BOTH])
def test_a_day_is_archived_once(place: Place, kinds: tuple[str, ...]) -> None:
    stored = record_day(place.data, DAY, count=200, lost=(5, 6))
    first = place.put_away(*kinds)
    assert (first.action, first.rows, first.symbols, first.verified) == ("archived", stored, 3, True)
    assert tuple(file.kind for file in first.files) == kinds
    manifest = load_manifest(place.archive, DAY)
    assert manifest is not None
    assert (manifest.rows, manifest.symbols["HK.00005"].rows) == (stored, 198)
    assert list(manifest.coverage) == reader.coverage(place.db)
    assert list(manifest.gaps) == reader.gaps(place.db)
    assert len(manifest.gaps) == 1
    assert place.check().fine
    before = place.files()
    assert place.put_away(*kinds).action == "unchanged"
    assert place.files() == before
    assert {path.stat().st_mode & 0o777 for path in place.archive.rglob("*") if path.is_file()} == {0o640}
    assert {path.stat().st_mode & 0o777 for path in place.archive.rglob("*") if path.is_dir()} == {0o750}


def test_another_format_joins_the_one_that_is_there(place: Place) -> None:
    record_day(place.data, DAY, count=50)
    place.put_away(PARQUET)
    again = place.put_away(SQLITE)
    assert (again.action, [file.kind for file in again.files]) == ("replaced", [PARQUET, SQLITE])
    assert place.check().formats == BOTH
    assert place.put_away(PARQUET).action == "unchanged"


def test_without_verification_unless_an_archive_is_replaced(place: Place) -> None:
    ticks = day_ticks("HK.00700", 50, DAY)
    record(place, ticks[:40])
    assert place.put_away(verify=False).verified is False
    assert place.put_away(verify=False).action == "unchanged"
    record(place, ticks)
    again = place.put_away(verify=False)
    assert (again.action, again.verified) == ("replaced", True)


@pytest.mark.parametrize("had_one", [False, True])
def test_a_copy_that_came_out_wrong_does_not_count(
    place: Place, monkeypatch: pytest.MonkeyPatch, had_one: bool
) -> None:
    """A disk, or a library, that writes something else than it was given."""
    ticks = day_ticks("HK.00700", 50, DAY)
    record(place, ticks[:40])
    if had_one:
        place.put_away()
    before = place.files()
    record(place, ticks)
    write_sorted = pack.parquet.write_sorted
    monkeypatch.setattr(pack.parquet, "write_sorted", lambda path, tables: write_sorted(path, list(tables)[:0]))
    with pytest.raises(StoreCorrupt, match="the copy is not what was read"):
        place.put_away()
    assert place.files() == before
    assert not had_one or place.check(beside=False).rows == 40


def test_later_ticks_replace_the_archive(place: Place) -> None:
    record(place, day_ticks("HK.00700", 50, DAY))
    place.put_away(*BOTH)
    record(place, day_ticks("HK.00700", 5, DAY, first=51, seed=2))
    assert not place.check().fine
    assert not pack.is_archived(place.data, place.archive, DAY)
    assert place.put_away().action == "replaced"
    assert place.check().rows == 55
    assert place.check().fine
    assert pack.is_archived(place.data, place.archive, DAY)


def test_a_sequence_found_out_later_is_the_same_tick(place: Place) -> None:
    ticks = day_ticks("HK.00700", 30, DAY)
    record(place, [ticks[0], ticks[1]._replace(seq=None)])
    place.put_away()
    record(place, ticks)  # the recorder gives the stored row its sequence
    assert len(rows(place.db)) == 30
    assert place.put_away().action == "replaced"


def test_an_archive_that_holds_more_is_not_replaced(place: Place) -> None:
    ticks = day_ticks("HK.00700", 50, DAY)
    record(place, ticks)
    place.put_away()
    archived = place.files(), parquet_path(place.archive, DAY).read_bytes()
    place.lose_day_file()
    record(place, [*ticks[:20], *day_ticks("HK.00005", 100, DAY)])
    with pytest.raises(Refused, match=r"lacks .HK.00700, perhaps more.: join them with: hk-tickctl restore 20251120"):
        place.put_away()
    assert (place.files(), parquet_path(place.archive, DAY).read_bytes()) == archived
    assert place.bring_back().added_rows == 30
    assert place.put_away().action == "replaced"
    assert place.check().rows == 150
    assert place.check().fine


def damage_parquet(place: Place) -> None:
    path = parquet_path(place.archive, DAY)
    path.write_bytes(path.read_bytes()[:-100])


def garbage_parquet(place: Place) -> None:
    parquet_path(place.archive, DAY).write_bytes(b"PAR1 this is no parquet PAR1")


def flipped_byte(place: Place) -> None:
    path = parquet_path(place.archive, DAY)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


def no_parquet(place: Place) -> None:
    parquet_path(place.archive, DAY).unlink()


def rewritten(**changes: Any) -> Callable[[Place], None]:
    """A manifest that lies."""

    def lie(place: Place) -> None:
        path = manifest_path(place.archive, DAY)
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return lie


def lie_of_symbol(place: Place) -> None:
    path = manifest_path(place.archive, DAY)
    content = json.loads(path.read_text())
    content["symbols"]["HK.00700"]["rows"] += 1
    path.write_text(json.dumps(content))


def lie_of_time(place: Place) -> None:
    path = manifest_path(place.archive, DAY)
    content = json.loads(path.read_text())
    content["symbols"]["HK.00700"]["first_ts_ms"] += 1
    path.write_text(json.dumps(content))


def lie_of_file(**changes: Any) -> Callable[[Place], None]:
    def lie(place: Place) -> None:
        path = manifest_path(place.archive, DAY)
        content = json.loads(path.read_text())
        content["files"][0].update(changes)
        path.write_text(json.dumps(content))

    return lie


def price_as_text(place: Place) -> None:
    """Another program's file with our names, its manifest and sums made to fit."""
    path = parquet_path(place.archive, DAY)
    table = pq.read_table(path)
    at_price = table.schema.get_field_index("price")
    texts = table.column("price").cast(pa.string())
    pq.write_table(table.set_column(at_price, pa.field("price", pa.string()), texts), path)
    content = path.read_bytes()
    lie_of_file(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())(place)


def nested(place: Place) -> None:
    deep = "[" * 200_000 + "]" * 200_000
    path = manifest_path(place.archive, DAY)
    path.write_text(path.read_text().replace('"coverage": [', f'"coverage": {deep}, "x": [', 1))


def fifo_in_place_of(path_of: Callable[[Path, str], Path]) -> Callable[[Place], None]:
    def harm(place: Place) -> None:
        path = path_of(place.archive, DAY)
        path.unlink()
        os.mkfifo(path)

    return harm


def endless_in_place_of(path_of: Callable[[Path, str], Path]) -> Callable[[Place], None]:
    def harm(place: Place) -> None:
        path = path_of(place.archive, DAY)
        path.unlink()
        path.symlink_to("/dev/zero")

    return harm


LIES = [
    (price_as_text, "price is string, not double"),
    (nested, "not a manifest"),
    (fifo_in_place_of(manifest_path), "manifests.*is not a regular file"),
    (fifo_in_place_of(parquet_path), r"ticks\.parquet is not a regular file"),
    (endless_in_place_of(manifest_path), "manifests.*is not a regular file"),
    (endless_in_place_of(parquet_path), r"ticks\.parquet is not a regular file"),
    (damage_parquet, "bytes, its manifest says"),
    (garbage_parquet, "no Parquet file"),
    (flipped_byte, "checksum|damaged|does not hold"),
    (no_parquet, "No such file"),
    (rewritten(rows=1), "its manifest says 1"),
    (rewritten(content_hash="0" * 32), "its manifest says"),
    (rewritten(symbols={}), "does not hold the ticks that its manifest claims: HK.00700"),
    (rewritten(files=[]), "names no file"),
    (rewritten(hash_algorithm="crc32"), "counts with crc32"),
    (rewritten(coverage=[]), "coverage"),
    (lie_of_symbol, "does not hold the ticks that its manifest claims: HK.00700"),
    (lie_of_time, "other first and last times"),
    (lie_of_file(sha256="0" * 64), "another checksum"),
    (lie_of_file(size_bytes=1), "its manifest says 1"),
    (lie_of_file(path="ticks/other.parquet"), "kind or place"),
    (lie_of_file(kind="tar"), "kind or place"),
    (lambda place: manifest_path(place.archive, DAY).write_text("{"), "not a manifest"),
    (rewritten(trading_day="20251119"), "another day"),
    (rewritten(format_version=99), "format version 99"),
    (lambda place: manifest_path(place.archive, DAY).unlink(), "is not archived"),
]


@pytest.mark.parametrize(("harm", "words"), LIES)
def test_every_lie_and_damage_is_found_and_costs_nothing(
    place: Place, harm: Callable[[Place], None], words: str
) -> None:
    record(place, day_ticks("HK.00700", 50, DAY))
    place.put_away()
    stored = rows(place.db)
    harm(place)
    check = place.check()
    assert not check.fine
    assert re.search(words, " ".join(check.problems)), check.problems
    verdict = place.retain()
    assert verdict.action == "refused"
    assert rows(place.db) == stored
    if harm is not LIES[-2][0]:  # of a newer version: left alone
        assert place.put_away().action in ("replaced", "archived")
        assert place.check().fine


@pytest.mark.parametrize(("harm", "words"), [lie for lie in LIES if lie[1] != "coverage"])
def test_out_of_a_lie_or_damage_nothing_is_restored(place: Place, harm: Callable[[Place], None], words: str) -> None:
    """But of notes alone, which Parquet does not hold."""
    record(place, day_ticks("HK.00700", 50, DAY))
    place.put_away()
    place.lose_day_file()
    harm(place)
    words = "it is empty" if words == "names no file" else words
    with pytest.raises((StoreError, NoData), match=words):
        place.bring_back()
    assert [path.name for path in place.data.iterdir()] == [restore.LOCK_FILE]


def test_rows_that_an_index_refuses_are_the_archives_fault(place: Place) -> None:
    """Its manifest and sums fit, and no day file can hold it."""
    record(place, day_ticks("HK.00700", 50, DAY))
    place.put_away()
    place.lose_day_file()
    path = parquet_path(place.archive, DAY)
    table = pa.Table.from_batches(parquet.read_batches(path)).unify_dictionaries()
    parquet.write_sorted(path, [pa.concat_tables([table.slice(0, 49), table.slice(48, 1)])])
    content = path.read_bytes()
    lie_of_file(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())(place)
    with pytest.raises(StoreCorrupt, match=r"cannot be trusted: .*does not hold the ticks that its manifest claims"):
        place.bring_back()
    assert [path.name for path in place.data.iterdir()] == [restore.LOCK_FILE]


@pytest.mark.parametrize("kind", BOTH)
def test_a_restored_file_that_is_not_what_the_archive_holds_does_not_appear(
    place: Place, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    record(place, day_ticks("HK.00700", 50, DAY))
    place.put_away(kind)
    place.lose_day_file()

    def fail_as_a_disk_does(part: Path) -> None:
        with contextlib.closing(sqlite3.connect(part)) as conn, conn:
            conn.execute("UPDATE ticks SET volume = volume + 1 WHERE rowid = 7")
        make_logged(part)

    make_logged = restore.make_logged
    monkeypatch.setattr(restore, "make_logged", fail_as_a_disk_does)
    with pytest.raises(StoreCorrupt, match="what was written is not what the archive holds; check the disk"):
        place.bring_back()
    assert [path.name for path in place.data.iterdir()] == [restore.LOCK_FILE]


def bomb(path: Path, size_bytes: int, *, declared: bool = True) -> None:
    """A small file that unpacks to as many zeros."""
    compressor = zstandard.ZstdCompressor(write_content_size=declared)
    with path.open("wb") as file, compressor.stream_writer(file, size=size_bytes if declared else -1) as writer:
        for _ in range(size_bytes // verify.BLOCK_BYTES):
            writer.write(bytes(verify.BLOCK_BYTES))


@pytest.mark.parametrize(
    ("declared", "free_bytes", "words"),
    [
        (True, 1 << 50, "more than a day of 50 ticks can need"),
        (False, 1 << 50, "does not say how large it was"),
        (True, 1 << 20, "make room"),
    ],
)
def test_a_packed_file_that_unpacks_to_gigabytes_is_not_unpacked(
    place: Place, monkeypatch: pytest.MonkeyPatch, declared: bool, free_bytes: int, words: str
) -> None:
    record(place, day_ticks("HK.00700", 50, DAY))
    place.put_away(SQLITE)
    size_bytes = verify.SMALL_DAY_BYTES * 2 if free_bytes > verify.SMALL_DAY_BYTES else verify.BLOCK_BYTES
    bomb(sqlite_path(place.archive, DAY), size_bytes, declared=declared)
    assert sqlite_path(place.archive, DAY).stat().st_size < 100_000
    room = os.statvfs_result((1, 1, free_bytes, free_bytes, free_bytes, 1, 1, 1, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: room)
    written: list[Path] = []
    monkeypatch.setattr(zstandard, "ZstdDecompressor", lambda: written.append(place.db))
    assert words in " ".join(place.check().problems)
    place.lose_day_file()
    with pytest.raises(StoreCorrupt, match=words):
        place.bring_back()
    assert not written


def test_a_packed_file_that_is_cut_short_is_not_restored(place: Place) -> None:
    record(place, day_ticks("HK.00700", 5000, DAY))
    place.put_away(SQLITE)
    path = sqlite_path(place.archive, DAY)
    whole = path.read_bytes()
    for length in (3, len(whole) // 2, len(whole) - 1000):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreCorrupt, match="cut short"):
            verify.unpack(path, place.data / "out", 5000)


def test_a_damaged_archive_that_held_other_ticks_is_kept(place: Place) -> None:
    record(place, day_ticks("HK.00700", 50, DAY))
    place.put_away()
    damage_parquet(place)
    place.lose_day_file()
    record(place, day_ticks("HK.00005", 50, DAY))
    damaged = parquet_path(place.archive, DAY).read_bytes()
    with pytest.raises(Refused, match=r"is damaged .* does not hold what it held \(HK.00700\): move"):
        place.put_away()
    assert parquet_path(place.archive, DAY).read_bytes() == damaged


def test_of_two_formats_one_is_enough(place: Place) -> None:
    stored = record_day(place.data, DAY, count=50)
    place.put_away(*BOTH)
    original = rows(place.db)
    place.lose_day_file()
    sqlite_path(place.archive, DAY).write_bytes(b"garbage")
    assert not place.check(beside=False).fine
    assert place.bring_back().rows == stored
    assert rows(place.db) == original


@pytest.mark.parametrize(
    ("day", "now", "refused"),
    [
        (DAY, "2025-11-20T16:14:59", True),
        (DAY, "2025-11-20T16:15:00", False),
        ("20251224", "2025-12-24T12:14:59", True),  # a half day
        ("20251224", "2025-12-24T12:15:00", False),
        ("20251122", "2025-11-22T23:59:59", True),  # a Saturday: nobody knows until when ticks come
        ("20251122", "2025-11-23T00:00:00", False),
    ],
)
def test_a_day_in_session_is_left_alone(place: Place, day: str, now: str, refused: bool) -> None:
    expected = pytest.raises(Refused, match="still in session") if refused else contextlib.nullcontext()
    with expected:
        pack.check_at_rest(place.data, day, CALENDAR, at(now))


def test_an_archive_of_another_market_is_not_replaced(place: Place) -> None:
    data_root.claim(place.data, "CME")
    record(place, day_ticks("CME.ESZ26", 9, DAY), origin=Origin("CME", "sierra"))
    place.put_away(PARQUET)
    manifest = load_manifest(place.archive, DAY)
    assert manifest is not None
    assert (manifest.market, manifest.rows) == ("CME", 9)
    path = manifest_path(place.archive, DAY)
    path.write_text(path.read_text().replace('"market": "CME"', '"market": "US"'))
    with pytest.raises(Refused, match="of market US, the day file is of CME: give each market an archive of its own"):
        place.put_away(PARQUET)


def sent(place: Place, store: DirectoryStore, **options: Any) -> pack.Outcome:
    """The archived day as it is sent to a directory."""
    with copies.staging() as work:
        return copies.send_day(place.archive, DAY, store, work, **options)


def bucket_in(directory: Path) -> DirectoryStore:
    (directory / "bucket").mkdir()
    return DirectoryStore(directory / "bucket")


def test_a_copy_of_another_market_is_not_replaced(place: Place, tmp_path: Path) -> None:
    store = bucket_in(tmp_path)
    record(place, day_ticks("HK.00700", 9, DAY))
    place.put_away(PARQUET)
    sent(place, store)
    other = Place(tmp_path / "other")
    data_root.claim(other.data, "CME")
    record(other, day_ticks("CME.ESZ26", 9, DAY), origin=Origin("CME", "sierra"))
    other.put_away(PARQUET)
    with pytest.raises(Refused, match="of market HK: give each market its own place"):
        sent(other, store)
    assert manifest_path(store.root, DAY).read_bytes() == manifest_path(place.archive, DAY).read_bytes()


def test_a_copy_whose_file_is_gone_is_not_replaced_by_one_with_less(place: Place, tmp_path: Path) -> None:
    store = bucket_in(tmp_path)
    record(place, day_ticks("HK.00700", 9, DAY))
    place.put_away(PARQUET)
    sent(place, store)
    parquet_path(store.root, DAY).unlink()
    other = Place(tmp_path / "other")
    record(other, day_ticks("HK.00700", 5, DAY))
    other.put_away(PARQUET)
    with pytest.raises(Refused, match="does not hold what it held"):
        sent(other, store)
    assert manifest_path(store.root, DAY).read_bytes() == manifest_path(place.archive, DAY).read_bytes()


def test_a_copy_with_forged_rows_that_have_the_same_sums_costs_no_day_file(place: Place, tmp_path: Path) -> None:
    store = bucket_in(tmp_path)
    record(place, odd_ticks())
    place.put_away(PARQUET)
    sent(place, store)
    assert copies.check_copy(store, DAY, place.db).fine
    forge_price(store.root, DAY)
    assert verify.check_day(store.root, DAY, place.db).fine  # by the sums alone
    (problem,) = copies.check_copy(store, DAY, place.db).problems
    assert "was forged" in problem
    assert str(store.root) in problem
    with copies.fetched(store, DAY) as there:
        verdict = retain.retain_day(place.data, there, DAY, CALENDAR, NOW_MS, is_copy=True)
    assert verdict.action == "refused"
    assert "was forged" in str(verdict.reason)
    assert place.db.exists()


@pytest.mark.parametrize("kinds", [(PARQUET,), (SQLITE,), BOTH])
def test_an_honest_copy_of_every_form_lets_the_day_file_go(place: Place, kinds: tuple[str, ...]) -> None:
    record(place, odd_ticks(), lost())
    place.put_away(*kinds)
    assert place.retain(is_copy=True).action == "deleted"


def test_a_copy_of_a_file_of_an_earlier_version_is_the_same(place: Place) -> None:
    make_legacy(place.db, LEGACY_ROW)
    place.put_away(*BOTH)
    assert verify.check_day(place.archive, DAY, place.db, is_copy=True).problems == ()


def keep_beside(place: Place, path: Path, name: str = "A.depth") -> None:
    """A file of a source, kept beside the day."""

    def describe(size_bytes: int, sha256: str, packed_bytes: int, packed_sha256: str) -> KeptFile:
        return KeptFile(name, "A", 1, 0, size_bytes, sha256, packed_bytes, packed_sha256, 1, NOW_MS)

    with path.open("rb") as source:
        keep(source, place.data, DAY, describe)


def test_a_copy_keeps_what_was_kept_beside_the_day(place: Place, tmp_path: Path) -> None:
    store = bucket_in(tmp_path)
    record(place, day_ticks("HK.00700", 9, DAY))
    (place.data / "source").write_bytes(b"depth")
    keep_beside(place, place.data / "source")
    place.put_away(PARQUET)
    sent(place, store)
    other = Place(tmp_path / "other")
    shutil.copyfile(place.db, other.db)
    other.put_away(PARQUET)
    with pytest.raises(Refused, match=r"keeps A\.depth, which this archive lacks"):
        sent(other, store)
    assert manifest_path(store.root, DAY).read_bytes() == manifest_path(place.archive, DAY).read_bytes()
    (other.data / "source").write_bytes(b"depth and more")
    keep_beside(other, other.data / "source")
    other.put_away(PARQUET)
    assert sent(other, store).action == "replaced"


def with_books_and_depth(place: Place, tmp_path: Path) -> DirectoryStore:
    """A copy elsewhere of a day that has both."""
    store = bucket_in(tmp_path)
    record(place, day_ticks("HK.00700", 9, DAY))
    (place.data / "source").write_bytes(b"books")
    keep_beside(place, place.data / "source", book_file(place.data, DAY).name)
    (place.data / "source").write_bytes(b"depth")
    keep_beside(place, place.data / "source")
    place.put_away(PARQUET)
    sent(place, store)
    return store


def back_from(store: DirectoryStore, target: Path) -> restore.Restored:
    target.mkdir(exist_ok=True)
    with copies.fetched(store, DAY) as there, atomic.only_job(target, restore.LOCK_FILE):
        return restore.restore_day(there, DAY, target, now_ms=NOW_MS, is_copy=True)


def test_a_copy_brings_books_and_depth_back_and_can_be_sent_again(place: Place, tmp_path: Path) -> None:
    store = with_books_and_depth(place, tmp_path)
    target = Place(tmp_path / "new")
    assert back_from(store, target.data).action == "restored"
    assert book_file(target.data, DAY).read_bytes() == b"books"
    (entry,) = kept_files(target.data, DAY)
    assert (entry.name, problems_of(depth_dir(target.data, DAY), entry)) == ("A.depth", [])
    # Retention leaves the list, and takes the packed file: it comes back as well.
    (depth_dir(target.data, DAY) / entry.packed_name).unlink()
    assert back_from(store, target.data).action == "unchanged"
    assert problems_of(depth_dir(target.data, DAY), entry) == []
    # Another file under that name stays.
    (tmp_path / "more").write_bytes(b"depth and more")
    keep_beside(target, tmp_path / "more")
    back_from(store, target.data)
    assert [file.size_bytes for file in kept_files(target.data, DAY)] == [14]


def test_books_that_the_disk_cannot_take_are_not_unpacked(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a manifest says of their size may be anything, and the archive may come from somebody else."""
    store = with_books_and_depth(place, tmp_path)
    disk = SimpleNamespace(f_bavail=SPARED_BYTES + len(b"depth") - 1, f_frsize=1, f_blocks=10)
    monkeypatch.setattr("hk_tick_collector.store.kept.os.statvfs", lambda _: disk)
    with pytest.raises(StoreUnavailable, match=r"ticks of 20251120 are there, .*order books stay.*: make room"):
        restore.restore_day(place.archive, DAY, tmp_path / "new", now_ms=NOW_MS)
    assert not book_file(tmp_path / "new", DAY).exists()
    assert not list(book_file(tmp_path / "new", DAY).parent.glob(".*.part"))
    assert len(rows(tmp_path / "new" / f"{DAY}.db")) == 9
    assert store.root.exists()


def test_damaged_books_and_depth_do_not_keep_the_ticks_away(place: Place, tmp_path: Path) -> None:
    store = with_books_and_depth(place, tmp_path)
    depth, books = sorted((store.root / "depth" / DAY).glob("*.gz"), reverse=True)
    depth.write_bytes(depth.read_bytes()[:-9] + b"\0" * 9)
    with pytest.raises(StoreUnavailable, match=r"ticks of 20251120 are there, .*A\.depth.* is not what was packed"):
        back_from(store, tmp_path / "new")
    assert len(rows(tmp_path / "new" / f"{DAY}.db")) == 9
    assert not kept_files(tmp_path / "new", DAY)
    assert book_file(tmp_path / "new", DAY).read_bytes() == b"books"
    books.write_bytes(books.read_bytes()[:-9] + b"\0" * 9)
    with pytest.raises(StoreUnavailable, match=r"ticks of 20251120 are there, its order books stay in the archive"):
        back_from(store, tmp_path / "newer")
    assert len(rows(tmp_path / "newer" / f"{DAY}.db")) == 9


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("files", {"size_bytes": "x"}), ("files", {"size_bytes": -1}), ("files", {"size_bytes": True}),
        ("files", {"kind": []}), ("files", {"path": 7}), ("files", {"sha256": None}),
        ("coverage", {"stored_ticks": 2**70}), ("coverage", {"symbol": "\ud800"}), ("coverage", {"holes": {}}),
        ("gaps", {"reason": "\ud800"}), ("gaps", {"missing_ticks": -(2**70)}), ("gaps", {"trading_day": []}),
    ],
)  # fmt: skip
def test_a_manifest_with_senseless_values_is_none(place: Place, part: str, changes: dict[str, Any]) -> None:
    ticks = day_ticks("HK.00700", 90, DAY)
    record(place, ticks[:59] + ticks[69:], lost())
    place.put_away(PARQUET)
    path = manifest_path(place.archive, DAY)
    content = json.loads(path.read_text())
    content[part][0].update(changes)
    path.write_text(json.dumps(content))
    assert any("not a manifest of an archived day" in problem for problem in place.check().problems)
    with pytest.raises(StoreCorrupt, match="not a manifest of an archived day"):
        load_manifest(place.archive, DAY)


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_damaged_file_of_a_copy_is_sent_again(place: Place, tmp_path: Path, is_gone: bool) -> None:
    store = bucket_in(tmp_path)
    record(place, day_ticks("HK.00700", 9, DAY))
    place.put_away(PARQUET)
    sent(place, store)
    path = parquet_path(store.root, DAY)
    whole = path.read_bytes()
    path.unlink() if is_gone else path.write_bytes(whole[:-9] + b"\0" * 9)
    with copies.staging() as work:
        assert copies.is_sent(store, DAY, place.db, work) is not is_gone  # bytes are read when it is sent again
    assert sent(place, store).action == "replaced"
    assert path.read_bytes() == whole
    assert sent(place, store).action == "unchanged"


def test_a_signature_counts_for_its_manifest_alone_and_is_of_our_bytes(place: Place, tmp_path: Path) -> None:
    key, store = tmp_path / "key", bucket_in(tmp_path)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    record(place, day_ticks("HK.00700", 9, DAY))
    place.put_away(PARQUET)
    sent(place, store, sign=lambda path: signing.sign(path, key))

    def is_signed() -> bool:
        with copies.staging() as work:
            return copies.is_sent(store, DAY, place.db, work, is_signed=True)

    assert is_signed()
    theirs, ours = manifest_path(store.root, DAY), manifest_path(place.archive, DAY)
    theirs.write_text(theirs.read_text().replace(f'"made_at_ms": {NOW_MS}', '"made_at_ms": 1'))
    assert not is_signed()
    assert sent(place, store, sign=lambda path: signing.sign(path, key)).action == "unchanged"
    assert theirs.read_bytes() == ours.read_bytes()
    assert is_signed()


@pytest.mark.parametrize("market", ["../..", "", None])
def test_a_manifest_with_a_senseless_market_is_none(place: Place, market: str | None) -> None:
    record(place, day_ticks("HK.00700", 9, DAY))
    place.put_away(PARQUET)
    path = manifest_path(place.archive, DAY)
    path.write_text(json.dumps({**json.loads(path.read_text()), "market": market}))
    with pytest.raises(StoreCorrupt, match="not a manifest of an archived day"):
        load_manifest(place.archive, DAY)


def test_a_run_that_died_before_its_renames_is_finished_in_the_directory_of_its_market(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_root.claim(place.data, "CME")
    record(place, day_ticks("CME.ESZ26", 9, DAY), origin=Origin("CME", "sierra"))
    with monkeypatch.context() as broken:
        broken.setattr(pack, "_finish", _no_power)
        with pytest.raises(OSError, match="power"):
            place.put_away(PARQUET)
    assert load_manifest(place.archive, DAY) is None
    pack.tidy(place.archive)
    assert parquet_path(place.archive, DAY, "CME").exists()
    assert load_manifest(place.archive, DAY) is not None


def _no_power(*_: object) -> None:
    raise OSError("no power")


def test_a_day_with_ticks_in_the_spill_is_left_alone(place: Place) -> None:
    spill = SpillQueue(place.data)
    spill.open()
    spill.append(day_ticks("HK.00700", 3, DAY))
    spill.close()
    with pytest.raises(Refused, match=r"wait in .*_spill"):
        pack.check_at_rest(place.data, DAY, CALENDAR, NOW_MS)
    pack.check_at_rest(place.data, "20251119", CALENDAR, NOW_MS)
    record(place, day_ticks("HK.00700", 9, DAY))
    place.put_away()
    assert "wait in" in (place.retain().reason or "")
    assert place.db.exists()


class Beside:
    """A recorder's writer in a process of its own, told what to do line by line."""

    SCRIPT = """
import sys
from pathlib import Path
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.writer import DayFileWriter
from hk_tick_collector.core.errors import StoreError
from tests.tickctl import day_ticks
writer = DayFileWriter(Path(sys.argv[1]), SqliteOptions(busy_timeout_ms=200))
print("ready", flush=True)
for line in sys.stdin:
    word, *numbers = line.split()
    if word == "write":
        ticks = day_ticks("HK.00700", int(numbers[1]), sys.argv[2], first=int(numbers[0]), seed=9)
        print("writing", flush=True)
        while True:
            try:
                result = writer.write(ticks)
                break
            except StoreError as exc:
                print("waiting", exc, flush=True)
        print("written", result.inserted_rows, flush=True)
    else:
        writer.close()
        print("closed", flush=True)
"""

    def __init__(self, data_root: Path) -> None:
        self.proc = subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT, str(data_root), DAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, bufsize=1,
        )  # fmt: skip
        self.expect("ready")

    def tell(self, line: str) -> None:
        assert self.proc.stdin is not None
        self.proc.stdin.write(line + "\n")
        self.proc.stdin.flush()

    def expect(self, word: str) -> str:
        """The next line that begins with ``word``."""
        assert self.proc.stdout is not None
        for line in self.proc.stdout:
            if line.startswith(word):
                return line
        raise AssertionError(f"the writer ended without {word!r}")

    def write(self, first: int, count: int) -> None:
        self.tell(f"write {first} {count}")
        self.expect("written")

    def close(self) -> None:
        self.tell("close")
        self.expect("closed")

    def end(self) -> None:
        self.proc.kill()
        self.proc.communicate()


@pytest.fixture
def beside(place: Place) -> Iterator[Beside]:
    writer = Beside(place.data)
    try:
        yield writer
    finally:
        writer.end()


def test_a_recorder_that_holds_the_file_open_does_not_hinder(place: Place, beside: Beside) -> None:
    beside.write(1, 40)
    assert place.put_away(*BOTH).rows == 40
    beside.write(41, 2)  # late ticks, after the archive
    assert not pack.is_archived(place.data, place.archive, DAY)
    assert (place.put_away().action, place.check().rows) == ("replaced", 42)
    assert "is open in pid" in (place.retain().reason or "")
    beside.close()
    assert place.retain().action == "deleted"


def test_ticks_that_come_while_the_file_is_read_are_in_the_archive(place: Place, beside: Beside) -> None:
    beside.write(1, 40)
    late = iter([(41, 5), (46, 5)])

    def on_rows(_: float) -> None:
        for first, count in late:
            beside.write(first, count)
            break

    assert place.put_away(on_rows=on_rows).rows == 50
    assert place.check().fine


def test_a_file_that_never_rests_is_refused(place: Place, beside: Beside) -> None:
    beside.write(1, 40)
    numbers = iter(range(41, 1000))
    with pytest.raises(Refused, match="was written to whenever it was read"):
        place.put_away(on_rows=lambda _: beside.write(next(numbers), 1))
    assert place.files() == []


def test_one_job_at_a_time(place: Place) -> None:
    record_day(place.data, DAY, count=5)
    place.put_away()
    with atomic.only_job(place.archive):
        with pytest.raises(Busy, match="another job works on"), atomic.only_job(place.archive):
            pass
        with pytest.raises(Busy), atomic.beside_readers(place.archive):
            pass
    readers = atomic.beside_readers(place.archive), atomic.beside_readers(place.archive)
    with readers[0], readers[1], pytest.raises(Busy), atomic.only_job(place.archive):
        pass
    with atomic.beside_readers(place.archive / "nowhere"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_root_makes_belongs_to_the_owner_of_the_data(place: Place) -> None:
    record_day(place.data, DAY, count=5)
    os.chown(place.data.parent, 12345, 12346)
    place.put_away(*BOTH)
    place.bring_back(place.data.parent / "back")
    made = [*place.archive.rglob("*"), *(place.data.parent / "back").rglob("*")]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(12345, 12346)}


# -- restore ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
def test_all_columns_coverage_and_gaps_come_back(place: Place, kind: str) -> None:
    later = day_ticks("HK.00700", 40, DAY, first=70, seed=3)
    record(place, odd_ticks())
    record(place, later[:35], lost())
    original = rows(place.db), reader.coverage(place.db), reader.gaps(place.db)
    assert any(row[ROW_COLUMNS.index("occurrence")] < 0 for row in original[0])
    place.put_away(kind)
    place.lose_day_file()
    done = place.bring_back()
    assert (done.action, done.rows) == ("restored", len(original[0]))
    assert (rows(place.db), reader.coverage(place.db), reader.gaps(place.db)) == original
    assert place.check().fine
    assert [path.name for path in place.data.iterdir() if path.name.startswith(".2")] == []
    assert place.db.stat().st_mode & 0o777 == 0o640
    record(place, later)  # the recorder goes on with it
    assert len(rows(place.db)) == len(original[0]) + 5


@pytest.mark.parametrize("bucket_rows", [70, 1_000_000])
def test_rows_come_back_in_the_order_in_which_they_were_stored(
    place: Place, monkeypatch: pytest.MonkeyPatch, bucket_rows: int
) -> None:
    monkeypatch.setattr(order, "BUCKET_ROWS", bucket_rows)
    record(place, day_ticks("HK.09988", 300, DAY))
    time.sleep(0.005)
    record(place, day_ticks("HK.00005", 300, DAY))
    schema = tables_and_indexes(place.db)
    place.put_away()
    place.lose_day_file()
    place.bring_back()
    assert tables_and_indexes(place.db) == schema
    symbols = [tick.symbol for tick in iter_ticks(place.db)]
    assert symbols == ["HK.09988"] * 300 + ["HK.00005"] * 300


def test_a_day_is_restored_in_one_reading_of_its_rows_and_none_of_them_one_by_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five million ticks are to come back in half a minute."""
    record(place, day_ticks("HK.00700", 300, DAY))
    place.put_away()
    place.lose_day_file()
    readings, read_batches = list[tuple[str, ...]](), parquet.read_batches
    monkeypatch.setattr(order, "BUCKET_ROWS", 70)
    monkeypatch.setattr(arrow_sql, "_read_live", None)
    monkeypatch.setattr(
        parquet,
        "read_batches",
        lambda path, names=COLUMNS: (readings.append(tuple(names)), read_batches(path, names))[1],
    )
    assert place.bring_back().action == "restored"
    assert [len(names) > 1 for names in readings] == [False, True]


def tables_and_indexes(db: Path) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(db)) as conn:
        return dict(conn.execute("SELECT name, sql FROM sqlite_master"))


def test_restoring_into_another_directory_leaves_the_data_root_alone(place: Place, tmp_path: Path) -> None:
    record_day(place.data, DAY, count=20)
    place.put_away()
    target = tmp_path / "research" / "files"
    assert place.bring_back(target).action == "restored"
    assert rows(target / f"{DAY}.db") == rows(place.db)


def test_a_file_of_an_earlier_recorder_is_archived_and_comes_back(place: Place) -> None:
    make_legacy(place.db, LEGACY_ROW, (*LEGACY_ROW[:7], None, *LEGACY_ROW[8:]))
    with contextlib.closing(sqlite3.connect(place.db)) as conn:
        original = conn.execute("SELECT market, symbol, ts_ms, price, seq, inserted_at_ms FROM ticks").fetchall()
    assert original
    place.put_away(*BOTH)
    assert place.check().fine
    place.lose_day_file()
    sqlite_path(place.archive, DAY).write_bytes(b"")
    place.bring_back()
    with contextlib.closing(sqlite3.connect(place.db)) as conn:
        back = conn.execute("SELECT market, symbol, ts_ms, price, seq, inserted_at_ms FROM ticks").fetchall()
    assert sorted(back, key=repr) == sorted(original, key=repr)


def test_nothing_to_restore(place: Place) -> None:
    with pytest.raises(NoData, match="is not archived"):
        place.bring_back()
    record_day(place.data, DAY, count=20)
    place.put_away()
    before = place.db.stat().st_mtime_ns
    assert (place.bring_back().action, place.db.stat().st_mtime_ns) == ("unchanged", before)
    place.lose_day_file()
    damage_parquet(place)
    with pytest.raises(StoreCorrupt, match="cannot be trusted"):
        place.bring_back()
    assert not place.db.exists()


@pytest.mark.parametrize("kind", BOTH)
def test_a_second_file_of_the_day_is_joined(place: Place, kind: str) -> None:
    """The file was lost, the recorder began another and fetched the newest ticks again."""
    ticks = day_ticks("HK.00700", 80, DAY)
    record(place, [*ticks, *day_ticks("HK.00005", 10, DAY)], [HeadProven("HK.00700", DAY, 1)])
    place.put_away(kind)
    archived = rows(place.db)
    place.lose_day_file()
    again = [tick._replace(push_type="backfill", recv_ts_ms=tick.recv_ts_ms + 9, push_data_type=None) for tick in ticks]
    record(place, [*again[50:], *day_ticks("HK.00700", 100, DAY)[80:]], [Verified("HK.00700", DAY, 100, NOW_MS)])
    done = place.bring_back()
    assert (done.action, done.added_rows, done.rows) == ("joined", 60, 110)
    joined = rows(place.db)
    assert set(archived) <= set(joined)
    assert len(joined) == 110
    coverage = {row.symbol: row for row in reader.coverage(place.db)}
    assert (coverage["HK.00700"].state, coverage["HK.00700"].stored_ticks) == ("proven", 100)
    assert place.put_away().action == "replaced"
    assert place.bring_back().action == "unchanged"
    assert place.retain().action == "deleted"


@pytest.mark.parametrize("doubt", [None, UNREAD_TICK])
def test_a_file_with_all_ticks_and_none_of_the_notes_gets_the_notes_back(place: Place, doubt: str | None) -> None:
    """Proof and doubt alike: else the day would stay unproven, or be proven by whoever asks next."""
    ticks = day_ticks("HK.00700", 80, DAY)
    proof = [HeadProven("HK.00700", DAY, 1), Verified("HK.00700", DAY, 80, NOW_MS)]
    record(place, ticks, [*proof, *([Unproven("HK.00700", DAY, doubt)] if doubt else [])])
    place.put_away()
    place.lose_day_file()
    record(place, ticks)
    place.bring_back()
    (row,) = reader.coverage(place.db)
    assert (row.state, row.reason, row.verified_until_ms) == ("unproven" if doubt else "proven", doubt, NOW_MS)


def test_what_cannot_be_the_same_tick_is_there_twice_and_nothing_else(place: Place) -> None:
    ticks = day_ticks("HK.00700", 10, DAY)
    record(place, [*ticks[:5], ticks[5]._replace(seq=None), ticks[6]], lost())
    place.put_away()
    place.lose_day_file()
    record(place, [ticks[0]._replace(price=9999.0), ticks[5], ticks[6]._replace(seq=None)])
    done = place.bring_back()
    joined = rows(place.db)
    # ticks 0 to 6 and the other trade with the sequence of tick 0; 5 and 6 are each one trade, with its sequence
    assert len(joined) == 8 == done.rows
    assert sum(row[ROW_COLUMNS.index("price")] == 9999.0 for row in joined) == 1
    assert sum(row[ROW_COLUMNS.index("seq")] is None for row in joined) == 1
    assert [gap.missing_ticks for gap in reader.gaps(place.db)] == [10]
    assert place.put_away().action == "replaced"
    assert place.bring_back().action == "unchanged"


def test_bought_and_sold_with_equal_numbers_and_no_sequence_stay_two_when_joined(place: Place) -> None:
    bought = day_ticks("HK.00700", 1, DAY)[0]._replace(seq=None, direction="BUY")
    sold = bought._replace(direction="SELL")
    record(place, [sold])
    place.put_away()
    place.lose_day_file()
    record(place, [bought])
    assert place.bring_back().rows == 2
    assert sorted(row[ROW_COLUMNS.index("direction")] for row in rows(place.db)) == ["BUY", "SELL"]
    assert place.bring_back().action == "unchanged"


def test_milliseconds_that_were_found_out_later_make_no_other_tick(place: Place) -> None:
    ticks = day_ticks("HK.00700", 10, DAY)
    cut = [tick._replace(ts_ms=tick.ts_ms // 1000 * 1000) for tick in ticks]
    record(place, [*cut[:5], *[tick._replace(seq=None) for tick in cut[5:]]])
    place.put_away()
    record(place, ticks)
    assert place.put_away().action == "replaced"  # the day file holds every tick of the archive
    place.lose_day_file()
    record(place, cut)
    assert place.bring_back().rows == 10
    assert [row[ROW_COLUMNS.index("ts_ms")] for row in sorted(rows(place.db), key=lambda row: row[6])] == [
        tick.ts_ms for tick in ticks
    ]


def test_a_tick_of_another_market_or_provider_keeps_its_own_when_it_is_joined(place: Place) -> None:
    """The recorder's own rows are all HK and futu; a file of another program may say otherwise."""
    record(place, day_ticks("HK.00700", 10, DAY))
    with contextlib.closing(sqlite3.connect(place.db)) as conn:
        conn.execute("UPDATE ticks SET market = 'XX', provider = 'other' WHERE rowid <= 5")
        conn.commit()
    before = rows(place.db)
    place.put_away(SQLITE)
    place.lose_day_file()
    record(place, day_ticks("HK.00700", 10, DAY)[7:])
    assert place.bring_back().added_rows == 7
    columns = [ROW_COLUMNS.index(name) for name in ("seq", "market", "provider")]
    joined = sorted([row[n] for n in columns] for row in rows(place.db))
    assert joined == sorted([row[n] for n in columns] for row in before)


def test_a_file_in_use_is_not_joined(place: Place, beside: Beside) -> None:
    record(place, day_ticks("HK.00005", 10, DAY))
    place.put_away()
    place.lose_day_file()
    beside.write(1, 5)
    with pytest.raises(Refused, match="is open in pid"):
        place.bring_back()
    beside.close()
    assert place.bring_back().rows == 15


def test_a_file_that_appears_while_one_is_built_is_joined(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    record(place, day_ticks("HK.00005", 10, DAY))
    place.put_away()
    place.lose_day_file()
    link = os.link

    def late_link(source: Any, target: Any) -> None:
        record(place, day_ticks("HK.00700", 5, DAY))
        link(source, target)

    monkeypatch.setattr(restore.os, "link", late_link)
    assert place.bring_back().rows == 15


def test_a_wal_without_its_file_is_kept_and_not_applied(place: Place) -> None:
    record_day(place.data, DAY, count=20)
    place.put_away()
    original = rows(place.db)
    place.lose_day_file()
    Path(f"{place.db}-wal").write_bytes(b"somebody's newest rows")
    place.bring_back()
    assert rows(place.db) == original
    assert [path.read_bytes() for path in place.data.glob("*corrupt-*-wal")] == [b"somebody's newest rows"]


# -- retain ----------------------------------------------------------------------------------------------------------


def test_which_days_are_due() -> None:
    days = ["20251113", "20251114", "20251117", "20251118", "20251119", "20251120"]
    now_ms = at("2025-11-20T17:00:00")
    assert retain.due_days(days, 5, CALENDAR, now_ms) == ["20251113"]
    assert retain.due_days(days, 3, CALENDAR, now_ms) == ["20251113", "20251114", "20251117"]
    assert retain.due_days(days, 1, CALENDAR, now_ms) == ["20251113", "20251114", "20251117", "20251118"]
    assert retain.due_days(days, 6, CALENDAR, now_ms) == []
    to_come = ["20251224", "20991231", "99991231"]  # ticks with a wrong date made them: they keep no day back
    assert retain.due_days([*days, *to_come], 5, CALENDAR, now_ms) == ["20251113"]
    assert retain.due_days(days, 1, CALENDAR, at("2025-11-24T09:00:00")) == days[:-1]


def test_only_what_the_archive_holds_exactly_is_deleted(place: Place) -> None:
    ticks = day_ticks("HK.00700", 25, DAY)
    record(place, ticks[:20])
    assert "is not archived" in (place.retain().reason or "")
    place.put_away()
    record(place, ticks)
    verdict = place.retain()
    assert (verdict.action, verdict.fine) == ("refused", False)
    assert "not the same: HK.00700" in (verdict.reason or "")
    place.put_away()
    with contextlib.closing(sqlite3.connect(place.db)) as conn:
        conn.execute("UPDATE ticks SET turnover = turnover + 0.001 WHERE rowid = 3")
        conn.commit()
    assert "not the same: HK.00700" in (place.retain().reason or "")
    with contextlib.closing(sqlite3.connect(place.db)) as conn:
        conn.execute("UPDATE ticks SET turnover = turnover - 0.001 WHERE rowid = 3")
        conn.execute("UPDATE coverage SET verified_counter = 7")
        conn.commit()
    assert "coverage" in (place.retain().reason or "")
    assert len(rows(place.db)) == 25


def test_dry_run_changes_nothing(place: Place) -> None:
    record_day(place.data, DAY, count=20)
    place.put_away()
    before = place.db.read_bytes(), place.db.stat().st_mtime_ns
    verdict = place.retain(dry_run=True)
    assert (verdict.action, verdict.rows, verdict.freed_bytes) == ("would delete", 60, len(before[0]))
    assert (place.db.read_bytes(), place.db.stat().st_mtime_ns) == before
    assert place.retain().action == "deleted"
    assert [path.name for path in place.data.iterdir()] == []


def test_rows_left_in_a_wal_by_a_crash_are_part_of_the_file(place: Place) -> None:
    writer = DayFileWriter(place.data)
    writer.write(day_ticks("HK.00700", 30, DAY))
    crashed = place.data.parent / "crashed"
    shutil.copytree(place.data, crashed)
    writer.close()
    place.data = crashed
    assert Path(f"{place.db}-wal").stat().st_size
    assert place.put_away().rows == 30
    assert place.retain().action == "deleted"
    assert list(crashed.iterdir()) == []


def test_a_refused_file_is_left_as_the_recorder_made_it(place: Place) -> None:
    record_day(place.data, DAY, count=20)
    assert place.retain().action == "refused"
    with contextlib.closing(sqlite3.connect(place.db)) as conn:
        assert conn.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


@pytest.mark.parametrize("age_sec", [0.0, retain.STAMP_SEC / 2])
def test_a_file_is_compared_once_its_time_is_so_old_that_a_later_write_shows(
    place: Place, monkeypatch: pytest.MonkeyPatch, age_sec: float
) -> None:
    record_day(place.data, DAY, count=1)
    written_sec = retain._stamp(place.db)[-1] / 1e9
    clock = [written_sec + age_sec]
    monkeypatch.setattr(retain.time, "time", lambda: clock[0])
    monkeypatch.setattr(retain.time, "sleep", lambda sec: clock.append(clock.pop() + sec + 1e-6))
    assert retain._settled_stamp(place.db) == retain._stamp(place.db)
    assert clock[0] - written_sec >= retain.STAMP_SEC


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_a_file_that_cannot_be_looked_at_is_refused_with_the_reason(place: Place, how: str) -> None:
    """And costs no other day: ``retain`` goes on to the next one."""
    record_day(place.data, DAY, count=20)
    place.put_away()
    if how == "damaged":
        place.db.write_bytes(b"no database" * 100)
    else:
        place.db.unlink()
    verdict = place.retain()
    assert (verdict.action, verdict.rows, verdict.fine) == ("refused", 0, False)
    assert (verdict.reason or "").startswith(f"{place.db} stays: ")
    assert place.db.exists() is (how == "damaged")


def test_an_open_reader_keeps_the_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    record_day(place.data, DAY, count=20)
    place.put_away()
    script = "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute('SELECT COUNT(*) FROM ticks').fetchall(); "
    with subprocess.Popen(
        [sys.executable, "-c", f"{script} print('open', flush=True); sys.stdin.read()", str(place.db)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        assert f"is open in pid {child.pid}" in (place.retain().reason or "")
        # Also when this user may not look into the process: SQLite's own locks tell.
        monkeypatch.setattr(retain, "open_elsewhere", lambda _: _Unseen)
        assert "is open in another program" in (place.retain().reason or "")
        child.stdin.close()
        child.wait(60)
    assert place.retain().action == "deleted"


class _Unseen:
    """What ``open_elsewhere`` tells an ordinary user."""

    pids = ()
    caveat = "the system does not let us look into 1 process (1): see that none of them has it open"


def test_without_a_log_the_kernel_says_whether_an_unseen_process_has_the_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_day(place.data, DAY, count=20)
    place.put_away()
    with contextlib.closing(sqlite3.connect(place.db)) as conn:
        conn.execute("PRAGMA journal_mode = DELETE")
    monkeypatch.setattr(retain, "open_elsewhere", lambda _: _Unseen)
    with place.db.open("rb") as file, subprocess.Popen(["sleep", "60"], stdin=file) as child:
        file.close()
        try:
            assert "may be open elsewhere: the system does not let us look" in (place.retain().reason or "")
        finally:
            child.kill()
    assert place.retain().action == "deleted"


def test_a_writer_that_comes_in_the_last_moment_waits_and_loses_nothing(
    place: Place, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens the file between the last look for open files and the deletion."""
    record(place, day_ticks("HK.00700", 20, DAY))
    place.put_away()
    check = retain._check_closed
    checked: list[Path] = []

    def late(db: Path) -> None:
        check(db)
        checked.append(db)
        if len(checked) == 2:  # under the exclusive lock
            beside.tell("write 21 5")
            beside.expect("waiting")  # for the lock, once through its whole patience

    monkeypatch.setattr(retain, "_check_closed", late)
    assert place.retain().action == "deleted"
    beside.expect("written")
    beside.close()
    assert len(rows(place.db)) == 5
    assert place.bring_back().rows == 25


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ticks SET price = price + 1 WHERE rowid = 3",
        "DELETE FROM ticks WHERE rowid = 3",
        "UPDATE gaps SET state = 'closed'",
    ],
)
def test_a_program_that_changes_a_row_behind_the_comparison_keeps_the_file(
    place: Place, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """In rollback mode, as retention left the file: no log and no lock tell of it afterwards, only the file's times."""
    record(place, day_ticks("HK.00700", 20, DAY)[:10] + day_ticks("HK.00700", 20, DAY)[12:], lost())
    place.put_away()
    check = retain.check_day

    def changed(*arguments: Any, **options: Any) -> Any:
        checked = check(*arguments, **options)
        assert checked.fine
        with contextlib.closing(sqlite3.connect(place.db)) as conn, conn:
            assert conn.execute("PRAGMA journal_mode").fetchone() == ("delete",)
            conn.execute(change)
        return checked

    monkeypatch.setattr(retain, "check_day", changed)
    verdict = place.retain()
    assert (verdict.action, verdict.reason) == (
        "refused",
        f"{place.db} was written to while it was compared with its archive",
    )
    assert place.db.exists()


def test_a_writer_that_comes_while_the_archive_is_read_keeps_the_file(
    place: Place, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(place, day_ticks("HK.00700", 20, DAY))
    place.put_away()
    check = retain.check_day

    def slow(*arguments: Any, **options: Any) -> Any:
        checked = check(*arguments, **options)
        beside.write(21, 5)
        beside.close()
        return checked

    monkeypatch.setattr(retain, "check_day", slow)
    assert "was opened by another program meanwhile" in (place.retain().reason or "")
    assert len(rows(place.db)) == 25


def test_random_meetings_of_a_writer_and_retention_lose_nothing(place: Place, beside: Beside) -> None:
    expected: set[int] = set()
    number = 1
    for _ in range(15):
        with atomic.only_job(place.archive), atomic.only_job(place.data, restore.LOCK_FILE):
            pack.tidy(place.archive)
            if place.db.exists():
                with contextlib.suppress(Refused, NoData):
                    restore.restore_day(place.archive, DAY, place.data, now_ms=NOW_MS)
                with contextlib.suppress(Refused):
                    pack.archive_day(place.data, place.archive, DAY, (PARQUET,), made_at_ms=NOW_MS)
            beside.tell(f"write {number} 3")
            expected |= set(range(number, number + 3))
            number += 3
            if number % 2:
                beside.tell("close")
            place.retain()
            beside.expect("written")
    beside.close()
    if place.db.exists():
        place.bring_back()
        kept = rows(place.db)
    else:
        target = place.data.parent / "back"
        place.bring_back(target)
        kept = rows(target / f"{DAY}.db")
    counters = [row[ROW_COLUMNS.index("seq")] & 0xFFFFFFFF for row in kept]
    assert sorted(counters) == sorted(expected)


def test_rows_are_what_arrow_says_of_them_in_parts_and_without_words() -> None:
    parts = [
        pa.array(words, pa.string()).dictionary_encode() for words in (["a", None, "b", "a"], [], ["c", "a", None])
    ]
    table = pa.table({"words": pa.chunked_array(parts), "numbers": pa.array([1, None, 3, 4, 5, 6, 7], pa.int64())})
    expected = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    assert rows_of(table, ("words", "numbers")) == expected
    (batch, *_) = table.to_batches()
    assert rows_of(batch, ("numbers", "words")) == [(number, word) for word, number in expected[: batch.num_rows]]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s3://x/y", "the bucket with 3 to 63"),  # too short
        ("s3://desk-ticks/a/../b", "without .."),
        ("s3://Desk/hk", "a-z"),
        ("ftp://host/place", "ftp:// is not a place to archive to: give s3://BUCKET/PREFIX or a directory"),
    ],
)
def test_a_place_that_is_none_is_told_what_is_wrong(place: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        open_store(place)
