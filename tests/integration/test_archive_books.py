"""A day's order books go with its ticks: archived, verified, deleted when they are safe, and brought back."""

from __future__ import annotations

import json
from pathlib import Path

from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import BookPush, PushEntry
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_file
from tests.books import lively_pushes
from tests.tickctl import record_day, tickctl_json

DAYS = ("20251117", "20251118", "20251119")


def _books(root: Path, day: str, *, close: bool = True) -> BookWriter:
    record_day(root, day, count=100)
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: 0)
    pushes: list[BookPush] = list(lively_pushes(("HK.00700",), 500))
    writer.write(day, [PushEntry(push) for push in pushes], len(pushes))
    if close:
        writer.close()
    return writer


def test_books_are_archived_verified_deleted_and_restored(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for day in DAYS:
        _books(root, day)
    path = book_file(root, DAYS[0])
    content = path.read_bytes()
    assert [row["action"] for row in tickctl_json("archive", data_root=root)] == ["archived"] * 3
    assert [row["action"] for row in tickctl_json("archive", DAYS[0], data_root=root)] == ["unchanged"]
    assert all(row["fine"] for row in tickctl_json("verify", data_root=root))

    tickctl_json("retain", "--keep-days", 2, data_root=root)
    assert not path.exists()
    shown = tickctl_json("book", "700", "--days", DAYS[0], data_root=root)  # from the archive
    tickctl_json("export", "hftbacktest", "--days", DAYS[0], "-o", tmp_path / "packed", data_root=root)
    (best,) = tickctl_json(
        "query", "SELECT count(*) AS n, max(bid_px_0) AS top, arg_max(bid_px_0, update_no) AS last FROM books",
        "--days", f"..{DAYS[1]}", "--symbols", "700", data_root=root,
    )  # fmt: skip
    assert (best["n"], best["last"]) == (1000, shown["bids"][0]["price"])
    assert book_file(root, DAYS[1]).exists()
    tickctl_json("restore", DAYS[0], data_root=root)
    assert path.read_bytes() == content
    tickctl_json("export", "hftbacktest", "--days", DAYS[0], "-o", tmp_path / "live", data_root=root)
    (exported,) = (tmp_path / "packed").glob("*_meta.json")
    assert json.loads(exported.read_text())["depth"] == "pushes"
    (events,) = (tmp_path / "packed").glob(f"HK.00700_{DAYS[0]}.npz")
    assert events.read_bytes() == (tmp_path / "live" / events.name).read_bytes()
    assert path.stat().st_mode & 0o777 == 0o640
    assert [row["action"] for row in tickctl_json("archive", DAYS[0], data_root=root)] == ["unchanged"]


def test_an_archive_that_is_damaged_deletes_no_books_and_brings_none_back(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for day in DAYS:
        _books(root, day)
    tickctl_json("archive", data_root=root)
    (packed,) = (root / "_archive/depth" / DAYS[0]).glob("*.gz")
    packed.write_bytes(packed.read_bytes()[:-9] + b"\0" * 9)
    assert not all(row["fine"] for row in tickctl_json("verify", data_root=root, code=1))
    tickctl_json("retain", "--keep-days", 2, data_root=root, code=1)
    assert book_file(root, DAYS[0]).exists()


def test_books_that_are_still_open_follow_when_they_are_closed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    writer = _books(root, DAYS[0], close=False)
    assert [row["action"] for row in tickctl_json("archive", data_root=root)] == ["archived"]
    assert not list((root / "_archive").glob("depth/*/*.gz"))
    writer.close()
    assert [row["action"] for row in tickctl_json("archive", data_root=root)] == ["replaced"]
    assert len(list((root / "_archive").glob("depth/*/*.gz"))) == 1
