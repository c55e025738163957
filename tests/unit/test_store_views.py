"""The same trade seen with and without its sequence is stored once; another program's rows are noticed."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.records.tick import Tick
from hk_tick_collector.records.views import without_sequences
from hk_tick_collector.store import reader
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.salvage import salvage
from hk_tick_collector.store.writer import DayFileWriter
from tests.nights import examples
from tests.ticks import BASE_MS, DAY, make_tick, make_ticks


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[DayFileWriter]:
    writer = DayFileWriter(tmp_path)
    yield writer
    writer.close()


def equal_trades(count: int) -> list[Tick]:
    """Trades of one millisecond, price and volume, that differ in their sequence only."""
    second = BASE_MS // 1000
    return [make_tick(1, seq=second << 32 | counter, ts_ms=BASE_MS) for counter in range(1001, 1001 + count)]


def rows(writer: DayFileWriter, tmp_path: Path) -> int:
    with contextlib.closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn:
        return int(conn.execute("SELECT COUNT(*) FROM ticks").fetchone()[0])


def test_a_view_without_sequences_of_trades_stored_with_them_adds_nothing(
    writer: DayFileWriter, tmp_path: Path
) -> None:
    ticks = [*make_ticks(1, 50), *equal_trades(2)]
    writer.write(ticks)
    assert writer.write(without_sequences(ticks)).inserted_rows == 0
    assert rows(writer, tmp_path) == len({tick.seq for tick in ticks})


@pytest.mark.parametrize(("stored", "seen", "expected"), [(2, 3, 3), (3, 2, 3), (0, 2, 2), (1, 1, 1)])
def test_equal_trades_are_matched_with_their_number(
    writer: DayFileWriter, tmp_path: Path, stored: int, seen: int, expected: int
) -> None:
    writer.write(equal_trades(stored))
    for _ in range(2):
        writer.write(without_sequences(equal_trades(seen)))
    assert rows(writer, tmp_path) == expected


def test_rows_of_another_program_are_counted_at_the_next_write(writer: DayFileWriter, tmp_path: Path) -> None:
    writer.write([*make_ticks(1, 10), *make_ticks(21, 30)])
    other = DayFileWriter(tmp_path)
    other.write(make_ticks(11, 20))
    other.close()
    writer.write(make_ticks(31, 31))
    (row,) = reader.coverage(tmp_path / f"{DAY}.db")
    assert (row.first_counter, row.last_counter, row.stored_ticks, row.holes) == (1, 31, 31, None)


def test_salvaged_rows_are_in_the_coverage(writer: DayFileWriter, tmp_path: Path) -> None:
    writer.write(make_ticks(11, 20))
    writer.close()
    old = tmp_path / "old"
    old.mkdir()
    source = DayFileWriter(old)
    source.write(make_ticks(1, 10))
    source.close()
    salvage(old / f"{DAY}.db", tmp_path / f"{DAY}.db")
    (row,) = reader.coverage(tmp_path / f"{DAY}.db")
    assert (row.first_counter, row.last_counter, row.stored_ticks) == (1, 20, 20)


def test_a_trade_that_gets_its_sequence_later_is_the_same_trade(writer: DayFileWriter, tmp_path: Path) -> None:
    ticks = [*make_ticks(1, 20), *equal_trades(2)]
    writer.write(ticks[:5])
    writer.write(without_sequences(ticks))
    for _ in range(2):
        writer.write(ticks)
    with contextlib.closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn:
        stored = conn.execute("SELECT seq FROM ticks").fetchall()
    assert sorted(seq for (seq,) in stored) == sorted(tick.seq for tick in ticks if tick.seq)
    (row,) = reader.coverage(tmp_path / f"{DAY}.db")
    assert (row.stored_ticks, row.unsequenced_ticks) == (22, 0)


@settings(max_examples=examples(80))
@given(
    contents=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    views=st.lists(st.tuples(st.integers(0, 11), st.integers(1, 12), st.booleans()), max_size=8),
)
def test_any_views_of_a_day_store_no_trade_twice(contents: list[int], views: list[tuple[int, int, bool]]) -> None:
    """Views: stretches of the day's trades, with sequences or without, in any order and as often as one likes."""
    second = BASE_MS // 1000
    day = [
        make_tick(1, seq=second << 32 | counter, ts_ms=BASE_MS, price=float(content))
        for counter, content in enumerate(contents, 1)
    ]
    seen_at_least: Counter[float | None] = Counter()
    with tempfile.TemporaryDirectory() as name:
        writer = DayFileWriter(Path(name), SqliteOptions(synchronous="OFF"))
        for first, length, with_sequences in views:
            view = day[first : first + length]
            if not view:
                continue
            writer.write(view if with_sequences else without_sequences(view))
            seen_at_least |= Counter(tick.price for tick in view)
        writer.close()
        stored: Counter[float | None] = Counter()
        if seen_at_least:
            with contextlib.closing(sqlite3.connect(Path(name) / f"{DAY}.db")) as conn:
                stored.update(price for (price,) in conn.execute("SELECT price FROM ticks"))
    assert stored >= seen_at_least
    assert stored <= Counter(tick.price for tick in day)
