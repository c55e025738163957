"""Which tick is which: any views of a true list of trades, in any order, against the list itself.

A view is a push or a pull: a stretch of the day's trades, told with or without sequences, with or without milliseconds.
Views come repeated and overlapping, and the store sees them cut into batches anywhere.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.tick import Tick, same_moment
from hk_tick_collector.feed.mapping import number_equal_ticks
from hk_tick_collector.store import reader
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.salvage import salvage
from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import BASE_MS, DAY, make_tick

ALL = 255  # bits of the trades that are told with their sequence
MARK = (1 << 50) - 1  # of a sequence that another tick has: the low bits of ~occurrence

seconds, milliseconds, prices = st.integers(0, 1), st.sampled_from([0, 437, 612]), st.sampled_from([1.0, 2.0])
trades = st.tuples(seconds, milliseconds, prices, st.sampled_from(["BUY", "SELL"]), st.integers(1, 8))


class View(NamedTuple):
    """A stretch of the trades as it is told."""

    first: int
    length: int
    cut: bool
    sequenced: int  # a bit for each trade; 0: none, 255: all


views = st.builds(
    View, st.integers(0, 7), st.integers(1, 8), st.booleans(), st.sampled_from([0, ALL]) | st.integers(0, ALL)
)


def true_ticks(told: Sequence[tuple[int, int, float, str, int]], plain: bool) -> list[Tick]:
    """Trades in order of time. Of equal sequences only those stay that differ in more than milliseconds."""
    ticks: dict[tuple[object, ...], Tick] = {}
    for second, ms, price, direction, counter in sorted(told):
        ts_ms = BASE_MS + second * 1000 + ms
        seq = counter if plain else (ts_ms // 1000) << 32 | counter
        tick = make_tick(1, ts_ms=ts_ms, seq=seq, price=price, direction=direction)
        ticks.setdefault((seq, content(tick)), tick)
    return list(ticks.values())


def content(tick: Tick) -> tuple[object, ...]:
    return tick.ts_ms // 1000, tick.price, tick.direction


def as_told(ticks: Sequence[Tick], view: View) -> list[Tick]:
    seen = []
    for place, tick in enumerate(ticks[view.first : view.first + view.length], view.first):
        told = tick._replace(ts_ms=tick.ts_ms // 1000 * 1000) if view.cut else tick
        seen.append(told if view.sequenced >> place & 1 else told._replace(seq=None))
    return seen if all(tick.seq is not None for tick in seen) else number_equal_ticks(seen)


def bears(row: Tick, seq: int) -> bool:
    """Is this the row of a tick with this sequence?"""
    return row.seq == seq or (row.seq is None and row.occurrence < 0 and ~row.occurrence & MARK == seq & MARK)


def fits(row: Tick, tick: Tick) -> bool:
    same = content(row) == content(tick) and same_moment(row.ts_ms, tick.ts_ms)
    return same and (tick.seq is None or bears(row, tick.seq))


def all_find_a_row(view: Sequence[Tick], rows: Sequence[Tick]) -> bool:
    """Has each tick of the view a row of its own?"""
    taken: dict[int, int] = {}

    def find(tick: int, tried: set[int]) -> bool:
        for place, row in enumerate(rows):
            if place not in tried and fits(row, view[tick]):
                tried.add(place)
                if place not in taken or find(taken[place], tried):
                    taken[place] = tick
                    return True
        return False

    return all(find(tick, set()) for tick in range(len(view)))


def batches(stream: Sequence[Tick], cuts: Sequence[int]) -> Iterator[Sequence[Tick]]:
    first = 0
    for length in cuts:
        yield stream[first : first + length]
        first += length
    yield stream[first:]


def check(ticks: Sequence[Tick], told: Sequence[Sequence[Tick]], rows: Sequence[Tick]) -> None:
    assert Counter(map(content, rows)) <= Counter(map(content, ticks)), "a trade is stored twice"
    for view in told:
        assert all_find_a_row(view, rows), f"a trade of {view} is lost"
        for tick in view:
            if tick.seq is not None:
                bearing = [row for row in rows if fits(row, tick)]
                assert len(bearing) == 1, f"{len(bearing)} rows for {tick}"
                assert tick.ts_ms % 1000 == 0 or bearing[0].ts_ms == tick.ts_ms, "the finer time is kept"


def check_coverage(db: Path, rows: Sequence[Tick]) -> None:
    (row,) = reader.coverage(db)
    times = [tick.ts_ms for tick in rows]
    assert (row.first_ts_ms, row.last_ts_ms, row.stored_ticks) == (min(times), max(times), len(rows))
    assert row.unsequenced_ticks == sum(tick.seq is None for tick in rows)


def check_copies(db: Path, rows: Sequence[Tick]) -> None:
    """Copied into an empty file every row is there as it was; copied again, or into itself, nothing changes."""
    copy = db.with_name("copy") / db.name
    copy.parent.mkdir()
    for source, target in ((db, copy), (db, copy), (copy, db)):
        assert salvage(source, target).clean
        assert sorted(map(repr, reader.iter_ticks(target))) == sorted(map(repr, rows))
    check_coverage(copy, rows)


@settings(max_examples=400, deadline=None)
@given(
    told=st.lists(trades, min_size=1, max_size=8),
    plain=st.booleans(),
    seen=st.lists(views, min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 6), max_size=6),
)
def test_any_views_of_a_day_store_every_trade_once(
    told: list[tuple[int, int, float, str, int]], plain: bool, seen: list[View], cuts: list[int]
) -> None:
    ticks = true_ticks(told, plain)
    if any(view.cut and view.sequenced != ALL for view in seen):
        # A trade at a whole second looks as if it were cut, and only its sequence can say that it is not.
        ticks = [tick for tick in ticks if tick.ts_ms % 1000]
    if len({tick.seq for tick in ticks}) < len(ticks):
        # Whose milliseconds a tick without a sequence tells is noted for the one row that has the sequence only.
        seen = [view._replace(sequenced=0) if view.cut else view for view in seen]
    views = [as_told(ticks, view) for view in seen]
    with tempfile.TemporaryDirectory() as name:
        db = Path(name) / f"{DAY}.db"
        writer = DayFileWriter(Path(name), SqliteOptions(synchronous="OFF"))
        for batch in batches([tick for view in views for tick in view], cuts):
            result = writer.write(batch)
            assert result.inserted_rows + result.ignored_rows == len(batch)
        writer.close()
        if db.exists():
            rows = list(reader.iter_ticks(db))
            check(ticks, views, rows)
            check_coverage(db, rows)
            check_copies(db, rows)
