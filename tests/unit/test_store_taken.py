"""Files of books, broker queues and snapshots that somebody removes while they cannot be copied: what they held waits
for room, and makes room for what comes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import StoreError, StoreUnavailable
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import PushEntry
from hk_tick_collector.store import rescue, taken
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND, StateKind
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import snapshot_file
from hk_tick_collector.store.snapshot_writer import SnapshotWriter
from hk_tick_collector.store.writer import DayFileWriter
from tests import snapshots
from tests.books import DAY, OPEN_US, lively_pushes
from tests.brokers import lively_queues
from tests.unit import store_ticks

TENCENT = "HK.00700"


@dataclass
class Written:
    """A writer of one kind, and what it writes."""

    writer: BookWriter | SnapshotWriter
    path: Path
    table: str
    write: Callable[[int], None]  # that many new rows

    def count(self, path: Path) -> int:
        with closing(sqlite3.connect(path)) as conn:
            return int(conn.execute(f"SELECT count(*) FROM {self.table}").fetchone()[0])

    def remove(self) -> None:
        for file in self.path.parent.glob(f"{self.path.name}*"):
            file.unlink()

    def kept(self) -> list[int]:
        """Rows of each file beside the one that is written."""
        return [self.count(path) for path in self.path.parent.glob(f"{self.path.name}.corrupt-*")]

    def refuse_copies(self) -> Path:
        """No copy can be made until this is gone."""
        refused = rescue.rescue_path(self.path)
        refused.mkdir(parents=True)
        return refused

    def has_one_without_a_name(self) -> bool:
        paths = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return any(path.startswith(f"{self.path}") and path.endswith("(deleted)") for path in paths)

    def look_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A minute is over."""
        monkeypatch.setattr(taken, "AGAIN_SEC", 0.0)
        monkeypatch.setattr(self.writer._taken, "_again_at_sec", 0.0)


def _of_states(root: Path, kind: StateKind) -> Written:
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000, kind=kind)
    pushes = iter((lively_pushes if kind is BOOK_KIND else lively_queues)((TENCENT,), 10_000))

    def write(rows: int) -> None:
        writer.write(DAY, [PushEntry(next(pushes)) for _ in range(rows)], rows, 0, object())

    return Written(writer, kind.file_of(root, DAY), "pushes", write)


def _of_snapshots(root: Path) -> Written:
    writer = SnapshotWriter(root, SqliteOptions(), lambda: snapshots.OPEN_SEC * 1000)
    seconds = iter(range(10_000))

    def write(rows: int) -> None:
        writer.write([snapshots.snapshot(snapshots.SPX, next(seconds)) for _ in range(rows)])

    return Written(writer, snapshot_file(root, snapshots.DAY), "snapshots", write)


KINDS: dict[str, Callable[[Path], Written]] = {
    "books": partial(_of_states, kind=BOOK_KIND),
    "brokers": partial(_of_states, kind=BROKER_KIND),
    "snapshots": _of_snapshots,
}


@pytest.fixture(params=KINDS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Written]:
    made = KINDS[request.param](tmp_path)
    yield made
    with suppress(StoreError):
        made.writer.close()


@pytest.fixture(params=["books", "brokers"])
def states(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Written]:
    made = KINDS[request.param](tmp_path)
    yield made
    with suppress(StoreError):
        made.writer.close()


def _lose_the_name(written: Written) -> Path:
    """Five rows are in a file that was removed and cannot be copied, three in the one that took its path."""
    written.write(5)
    refused = written.refuse_copies()
    written.remove()
    written.write(3)
    return refused


@pytest.mark.parametrize("when", ["later", "at the end", "never"])
def test_what_a_removed_file_held_is_kept_as_soon_as_there_is_room(
    written: Written, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    refused = _lose_the_name(written)
    assert written.has_one_without_a_name()
    assert "a copy of what it had is tried again" in caplog.text
    assert "OpenD" not in caplog.text, "nobody tells these again"
    if when != "never":
        refused.rmdir()
    if when == "later":
        written.write(1)
        assert not written.kept(), "it is not tried with every row"
        written.look_again(monkeypatch)
        written.write(1)
        assert written.kept() == [5]
        assert not written.has_one_without_a_name()
    written.writer.close()
    assert written.kept() == ([] if when == "never" else [5])
    assert written.count(written.path) == (5 if when == "later" else 3)
    assert ("day_file_let_go" in caplog.text) == (when == "never")
    assert ("day_file_rescued" in caplog.text) == (when != "never")
    assert not written.has_one_without_a_name()


def test_a_removed_file_makes_room_for_new_rows(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    _lose_the_name(written)
    _connection(written.writer).execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreUnavailable, match="full"):
        written.write(500)
    assert not written.has_one_without_a_name()
    assert "to make room for new rows" in caplog.text


def test_it_makes_room_for_ticks_whose_disk_is_full(
    written: Written, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They come first, also where the rows of this file still fit."""
    _lose_the_name(written)
    with closing(DayFileWriter(tmp_path)) as ticks:
        ticks.write(store_ticks.ticks(5))
        ticks._files.open[store_ticks.DAY].conn.execute("PRAGMA max_page_count = 1")
        written.write(1)
        assert written.has_one_without_a_name()
        with pytest.raises(StoreUnavailable, match="full"):
            ticks.write(store_ticks.ticks(5000, first=6))
        written.write(1)
    assert not written.has_one_without_a_name()
    assert "to make room for ticks" in caplog.text


def test_a_market_that_is_closed_keeps_nobody_from_looking(states: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = _lose_the_name(states)
    assert isinstance(states.writer, BookWriter)
    states.writer._end_day()
    refused.rmdir()
    states.look_again(monkeypatch)
    states.writer.beat()
    assert states.kept() == [5]


def test_a_writer_that_was_given_up_copies_what_it_holds_when_it_comes_back(states: Written) -> None:
    assert isinstance(states.writer, BookWriter)
    refused = _lose_the_name(states)
    heir = states.writer.abandon()
    refused.rmdir()
    states.writer.leave()
    assert states.kept() == [5]
    heir.close()


def test_a_file_on_a_disk_that_does_not_answer_was_not_taken_away(
    written: Written, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written.write(5)
    directory, elsewhere = written.path.parent, tmp_path / "elsewhere"
    directory.rename(elsewhere)
    directory.write_text("no directory")
    with pytest.raises(StoreUnavailable, match="Not a directory"):
        written.write(3)
    directory.unlink()
    elsewhere.rename(directory)
    written.write(3)
    written.writer.close()
    assert (written.kept(), written.count(written.path)) == ([], 8)
    assert "day_file_replaced" not in caplog.text


def _connection(writer: BookWriter | SnapshotWriter) -> sqlite3.Connection:
    conn = writer._conn if isinstance(writer, BookWriter) else writer._files[snapshots.DAY].conn
    assert conn is not None
    return conn
