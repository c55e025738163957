"""Days of which there are depth files, order books or broker queues, and not one tick: they are listed, and read
when asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from hk_tick_collector.archive.verify import check_without_ticks
from hk_tick_collector.client.coverage import UNPROVEN
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.store.kept import KeptFile, keep
from hk_tick_collector.store.layout import archive_dir, book_file, depth_dir
from tests.books import record_books
from tests.brokers import record_brokers
from tests.tickctl import tickctl, tickctl_json
from tests.ticks import DAY, make_ticks
from tests.unit.client.days import recordings, store

BOOKS_ALONE, DEPTH_ALONE, QUEUES_ALONE = "20261119", "20261118", "20261117"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    store(root, make_ticks(1, 3))
    record_books(root, DAY, pushes=20)
    record_books(root, BOOKS_ALONE, pushes=20)
    record_brokers(root, QUEUES_ALONE)
    source = root.parent / "A.depth"
    source.write_bytes(b"depth")
    with source.open("rb") as file:
        keep(
            file, root, DEPTH_ALONE,
            lambda size, sha256, packed, packed_sha256: KeptFile(
                "A.depth", "A", 1, 0, size, sha256, packed, packed_sha256, 1, 1
            ),
        )  # fmt: skip
    return root


def test_they_are_among_the_days(root: Path) -> None:
    assert Catalog(root, archive_dir(root)).days_without_ticks() == [QUEUES_ALONE, DEPTH_ALONE, BOOKS_ALONE]
    queues, depth, books, whole = recordings(root).days()
    assert (queues.trading_day, queues.stored_ticks, queues.book_rows) == (QUEUES_ALONE, 0, 0)
    assert (depth.trading_day, depth.state, depth.stored_ticks, depth.depth_files, depth.book_rows) == (
        DEPTH_ALONE, UNPROVEN, 0, 1, 0,
    )  # fmt: skip
    assert (books.trading_day, books.symbols, books.depth_files) == (BOOKS_ALONE, 0, 0)
    assert books.book_rows > 20
    assert (whole.trading_day, whole.stored_ticks, whole.depth_files) == (DAY, 3, 0)
    assert whole.book_rows > 20


def test_verify_reads_them_where_they_are(root: Path) -> None:
    verified = {row["trading_day"]: row for row in tickctl_json("verify", data_root=root)}
    assert {day: (row["fine"], row["depth_files"]) for day, row in verified.items()} == {
        DEPTH_ALONE: (True, 1), BOOKS_ALONE: (True, 0), QUEUES_ALONE: (True, 0),
    }  # fmt: skip
    shown = tickctl("verify", DEPTH_ALONE, data_root=root).stdout
    assert "1 depth file and no tick; not archived" in shown
    shown = tickctl("verify", QUEUES_ALONE, data_root=root).stdout
    assert "order books or broker queues and no tick; not archived" in shown


def test_damage_of_them_is_told(root: Path) -> None:
    (packed,) = depth_dir(root, DEPTH_ALONE).glob("*.gz")
    whole, books = packed.read_bytes(), book_file(root, BOOKS_ALONE)
    sound = books.read_bytes()
    try:
        packed.write_bytes(whole[:-4] + b"....")
        books.write_bytes(sound[:4096] + b"\xff" * 4096 + sound[8192:])
        assert [bool(check_without_ticks(root, day).problems) for day in (DEPTH_ALONE, BOOKS_ALONE)] == [True, True]
    finally:
        packed.write_bytes(whole)
        books.write_bytes(sound)
