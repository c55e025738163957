"""Which tick is which: any views of a true list of trades, in any order, against the list itself.

A view is a push or a pull: a stretch of the day's trades, told with or without sequences, with or without milliseconds.
Views come repeated and overlapping, and the store sees them cut into batches anywhere.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.records.columns import names_of
from hk_tick_collector.records.tick import Tick, same_moment
from hk_tick_collector.records.views import number_equal_ticks, without_sequences
from hk_tick_collector.store import reader
from hk_tick_collector.store import salvage as salvage_module
from hk_tick_collector.store.connect import ROW_COLUMNS, SqliteOptions
from hk_tick_collector.store.copying import without_a_row
from hk_tick_collector.store.doubles import likely_doubles
from hk_tick_collector.store.rows import BORROWED_TIME
from hk_tick_collector.store.salvage import salvage
from hk_tick_collector.store.write_result import WriteResult
from hk_tick_collector.store.writer import DayFileWriter
from tests.nights import examples
from tests.stored import iter_ticks
from tests.ticks import BASE_MS, DAY, make_tick
from tests.unit.test_store_connect import LEGACY_ROW, make_legacy

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
        assert sorted(map(repr, iter_ticks(target))) == sorted(map(repr, rows))
    check_coverage(copy, rows)


def whole_rows(db: Path) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(db)) as conn:
        return conn.execute(f"SELECT {', '.join(ROW_COLUMNS)} FROM ticks").fetchall()


@settings(max_examples=examples(150))
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
        earlier = db.with_name("earlier") / db.name
        earlier.parent.mkdir()
        for at, batch in enumerate(batches([tick for view in views for tick in view], cuts)):
            result = writer.write(batch)
            assert result.inserted_rows + result.ignored_rows == len(batch)
            if at == len(cuts) // 2 and batch:
                writer.close()
                shutil.copy(db, earlier)
        writer.close()
        if db.exists():
            rows = list(iter_ticks(db))
            check(ticks, views, rows)
            check_coverage(db, rows)
            check_copies(db, rows)
            if earlier.exists():
                assert not without_a_row(whole_rows(earlier), whole_rows(db))
                assert salvage(earlier, db).copied_rows == 0


# -- what the above found, or was made for -----------------------------------------------------------------------------


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[DayFileWriter]:
    writer = DayFileWriter(tmp_path)
    yield writer
    writer.close()


def stored(writer: DayFileWriter, tmp_path: Path) -> list[tuple[int, int | None, int]]:
    """Milliseconds behind the hour, counter and occurrence of each row."""
    writer.close()
    rows = list(iter_ticks(tmp_path / f"{DAY}.db"))
    check_coverage(tmp_path / f"{DAY}.db", rows)
    return sorted(
        ((row.ts_ms - BASE_MS, None if row.seq is None else row.seq & 0xFFFF, row.occurrence) for row in rows),
        key=lambda row: (row[0], row[1] or 0, row[2]),
    )


def trade(counter: int, ms: int = 437, **fields: object) -> Tick:
    """One of several trades that look alike."""
    return make_tick(counter, ts_ms=BASE_MS + ms, seq=(BASE_MS // 1000) << 32 | counter, **fields)


def without(tick: Tick) -> Tick:
    return tick._replace(seq=None)


def cut(tick: Tick) -> Tick:
    return tick._replace(ts_ms=tick.ts_ms // 1000 * 1000)


@pytest.mark.parametrize("first", [[], [without(trade(2))], [trade(1)], [trade(2)]])
def test_the_twin_that_has_no_sequence_is_another_trade(
    writer: DayFileWriter, tmp_path: Path, first: list[Tick]
) -> None:
    writer.write(first)
    for view in ([trade(1), without(trade(2))], [without(trade(2)), trade(1)], [trade(1)]):
        for tick in number_equal_ticks(view):  # wherever the view is cut
            writer.write([tick])
    assert len(stored(writer, tmp_path)) == 2


def test_a_pull_without_milliseconds_tells_the_trades_of_the_pushes(writer: DayFileWriter, tmp_path: Path) -> None:
    pushed = [trade(1), trade(2, 500), trade(3, 1200)]
    result = [writer.write(view).inserted_rows for view in (pushed, map_list(cut, pushed), map_list(cut, pushed))]
    assert (result, stored(writer, tmp_path)) == ([3, 0, 0], [(437, 1, 0), (500, 2, 0), (1200, 3, 0)])


def map_list(change: Callable[[Tick], Tick], ticks: Sequence[Tick]) -> list[Tick]:
    return [change(tick) for tick in ticks]


def test_the_pushes_give_a_pull_its_milliseconds(writer: DayFileWriter, tmp_path: Path) -> None:
    pushed = [trade(1), trade(2, 500), trade(3, 1200)]
    result = [writer.write(view).inserted_rows for view in (map_list(cut, pushed), pushed, pushed)]
    assert (result, stored(writer, tmp_path)) == ([3, 0, 0], [(437, 1, 0), (500, 2, 0), (1200, 3, 0)])


@pytest.mark.parametrize("change", [cut, without, lambda tick: cut(without(tick))])
def test_one_trade_told_in_two_ways_is_one_row(
    writer: DayFileWriter, tmp_path: Path, change: Callable[[Tick], Tick]
) -> None:
    for tick in (trade(1), change(trade(1)), trade(1)):
        writer.write([tick])
    assert stored(writer, tmp_path) == [(437, 1, 0)]


@pytest.mark.parametrize("first", [cut, without, lambda tick: cut(without(tick))])
@pytest.mark.parametrize("other", [lambda tick: tick, cut, without])
def test_whatever_tells_more_completes_the_row(
    writer: DayFileWriter, tmp_path: Path, first: Callable[[Tick], Tick], other: Callable[[Tick], Tick]
) -> None:
    for tick in (first(trade(1)), other(trade(1)), trade(1)):
        writer.write([tick])
    assert stored(writer, tmp_path) == [(437, 1, 0)]


@pytest.mark.parametrize("order", [1, -1])
def test_milliseconds_without_a_sequence_may_be_another_trades(
    writer: DayFileWriter, tmp_path: Path, order: int
) -> None:
    for tick in [cut(trade(1, 612)), without(trade(2))][::order]:
        writer.write([tick])
    assert stored(writer, tmp_path) == [(437, 1, BORROWED_TIME)]  # as far as anybody can know
    writer.write([trade(1, 612)])
    assert stored(writer, tmp_path) == [(437, None, 0), (612, 1, 0)]
    writer.write([trade(2)])
    assert stored(writer, tmp_path) == [(437, 2, 0), (612, 1, 0)]


def test_ticks_with_one_sequence_stay_once_when_sequences_are_given_up(writer: DayFileWriter, tmp_path: Path) -> None:
    ticks = [trade(1), trade(1, price=383.0), trade(1, price=384.0), trade(2, price=383.0)]
    for _ in range(2):
        writer.write(ticks)
        writer.write(without_sequences(ticks))
        writer.write(map_list(cut, ticks[:1]))
    assert len(stored(writer, tmp_path)) == 4


def test_sequences_that_are_small_numbers_are_known_again_without_them(writer: DayFileWriter, tmp_path: Path) -> None:
    ticks = [make_tick(n, seq=n % 3 + 1, ts_ms=BASE_MS + n * 700) for n in range(9)]
    for _ in range(2):
        writer.write(ticks)
        writer.write(without_sequences(ticks))
    assert len(stored(writer, tmp_path)) == 9


def test_equal_numbers_bought_and_sold_are_two(writer: DayFileWriter, tmp_path: Path) -> None:
    kinds = [trade(1), trade(1, direction="SELL"), trade(1, direction="NEUTRAL"), trade(1, tick_type="AUCTION")]
    told = [kinds, kinds[::-1], without_sequences(kinds), kinds]
    assert [writer.write(view).inserted_rows for view in told] == [4, 0, 0, 0]


def test_equal_numbers_bought_and_sold_without_a_sequence_are_two(writer: DayFileWriter, tmp_path: Path) -> None:
    view = without_sequences([trade(1), trade(2, direction="SELL"), trade(3), trade(4, direction="SELL")])
    for part in (view[:2], view, view[::-1], view[1:2]):
        writer.write(part)
    assert stored(writer, tmp_path) == [(437, None, n) for n in (0, 1, 1_000_000, 1_000_001)], "as the documents say"


def test_a_row_with_a_sequence_finds_its_own_among_those_without_one(tmp_path: Path) -> None:
    """The archive has the trade with its sequence; the day file, made anew, has it without: once, not twice."""
    rows = {}
    for name, ticks in (("archived", [trade(1)]), ("live", without_sequences([trade(1)]))):
        writer = DayFileWriter(tmp_path / name, SqliteOptions())
        writer.write(ticks)
        writer.close()
        rows[name] = whole_rows(tmp_path / name / f"{DAY}.db")
    assert without_a_row(rows["archived"], rows["live"]) == []
    assert without_a_row(rows["archived"] * 2, rows["live"]) == rows["archived"], "it is one trade"


def test_a_sequence_is_not_given_to_a_tick_that_has_one(writer: DayFileWriter, tmp_path: Path) -> None:
    """To one whose sequence another tick has, that is."""
    writer.write([trade(1), trade(1, price=383.0)])
    writer.write([trade(2, price=383.0)])
    stored_rows = stored(writer, tmp_path)
    assert sorted((counter or 0, occurrence) for _, counter, occurrence in stored_rows) == [
        (0, ~trade(1).seq), (1, 0), (2, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("unknown", [{"direction": None}, {"tick_type": "UNKNOWN"}, {"turnover": 1.0}])
def test_what_one_of_two_views_does_not_tell_is_no_difference(
    writer: DayFileWriter, tmp_path: Path, unknown: dict[str, object]
) -> None:
    assert writer.write([trade(1)]).inserted_rows == 1
    assert writer.write([trade(1, **unknown), trade(2, **unknown)]) == WriteResult(1, 1, (DAY,))
    assert writer.write([trade(1), trade(2)]) == WriteResult(0, 2, (DAY,))


def test_a_file_in_which_an_earlier_version_stored_doubles_gets_no_more(writer: DayFileWriter, tmp_path: Path) -> None:
    """Version 1 stored a tick whose sequence another one has again when it came without."""
    first, second = trade(1), trade(1, price=383.0)
    writer.write([first, second])
    writer.close()
    with contextlib.closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn:
        conn.execute(
            f"INSERT INTO ticks ({', '.join(names_of(1))}) "
            "SELECT market, symbol, ts_ms, price, volume, turnover, direction, seq, tick_type, "
            "push_type, provider, trading_day, recv_ts_ms, inserted_at_ms, push_data_type, opend_recv_ts_ms, "
            "type_sign, 0 FROM ticks WHERE seq IS NULL"
        )
        conn.commit()
    assert likely_doubles(tmp_path / f"{DAY}.db") == 1
    for view in ([first, second], without_sequences([first, second]), [cut(second)]):
        assert writer.write(view).inserted_rows == 0


def test_doubles_that_an_earlier_version_stored_are_counted(writer: DayFileWriter, tmp_path: Path) -> None:
    """A trade pushed with milliseconds and pulled without: with one sequence, then without any."""
    keyed, loose = trade(1), [without(trade(n, ms)) for n, ms in ((2, 1300), (3, 1500))]
    db = tmp_path / f"{DAY}.db"
    writer.write([keyed, *loose])
    writer.write(number_equal_ticks([without(trade(4)), trade(1)]))  # a twin is none
    writer.close()
    assert likely_doubles(db) == 0
    with contextlib.closing(sqlite3.connect(db)) as conn:
        for tick, occurrence in ((cut(keyed), ~trade(1).seq), *((cut(tick), n) for n, tick in enumerate(loose))):
            conn.execute(
                f"INSERT INTO ticks ({', '.join(names_of(1))}) "
                "SELECT market, symbol, ?, price, volume, turnover, direction, NULL, tick_type, "
                "push_type, provider, trading_day, recv_ts_ms, inserted_at_ms, push_data_type, opend_recv_ts_ms, "
                "type_sign, ? FROM ticks WHERE seq = ?",
                (tick.ts_ms, occurrence, keyed.seq),
            )
        conn.commit()
    assert likely_doubles(db) == 3


def test_a_file_without_occurrences_has_no_doubles_to_count(tmp_path: Path) -> None:
    make_legacy(tmp_path / f"{DAY}.db", LEGACY_ROW)
    assert likely_doubles(tmp_path / f"{DAY}.db") == 0


def test_a_day_with_ticks_without_a_sequence_says_so(writer: DayFileWriter, tmp_path: Path) -> None:
    for _ in range(2):  # the same push twice, or two equal trades: nobody can know
        writer.write([without(trade(1))])
    (row,) = reader.coverage(tmp_path / f"{DAY}.db")
    assert (row.state, row.reason, row.stored_ticks) == ("unproven", "1 tick without a sequence", 1)
    writer.write(number_equal_ticks([without(trade(1)), without(trade(2))]))
    assert len(stored(writer, tmp_path)) == 2


def test_the_second_of_two_equal_trades_may_come_before_the_first(writer: DayFileWriter, tmp_path: Path) -> None:
    """From a spill, say, when the first was lost with the memory that held it."""
    view = without_sequences([trade(1), trade(2)])
    told = [view[1:], view[1:], view[:1], view, view[1:]]
    assert [writer.write(part).inserted_rows for part in told] == [1, 0, 1, 0, 0]


def test_times_that_no_sequence_can_name_are_told_apart_as_well(writer: DayFileWriter) -> None:
    """The second in a sequence has 31 bits."""
    late = [trade(n)._replace(ts_ms=2_300_000_000_437, trading_day="20421119", seq=None) for n in (1, 2)]
    assert [writer.write(number_equal_ticks(late)).inserted_rows for _ in range(2)] == [2, 0]


@pytest.mark.parametrize("values", [("x", 1), (b"\0", 2)])
def test_a_value_of_the_wrong_kind_refuses_its_row_only(
    writer: DayFileWriter, tmp_path: Path, values: tuple[object, int]
) -> None:
    writer.write([without(trade(1)), without(trade(2, 500)), trade(3, 900)])
    writer.close()
    broken = (tmp_path / f"{DAY}.db").rename(tmp_path / "broken.db")
    with contextlib.closing(sqlite3.connect(broken)) as conn:
        conn.execute("UPDATE ticks SET occurrence = ? WHERE rowid = ?", values)
        conn.commit()
    report = salvage(broken, tmp_path / f"{DAY}.db")
    assert (report.copied_rows, report.unreadable) == (2, [(values[1], values[1])])


def test_the_second_in_a_sequence_may_be_stale(writer: DayFileWriter, tmp_path: Path) -> None:
    """It was 2 s behind in a documented row; 5 s are borne, either way."""
    ticks = [make_tick(n, ts_ms=BASE_MS + 437, seq=(BASE_MS // 1000 + n - 6) << 32 | n) for n in range(1, 12)]
    told = [ticks, without_sequences(ticks), without_sequences(ticks[3:5])]
    assert [writer.write(view).inserted_rows for view in told] == [11, 0, 0]


@pytest.mark.parametrize("order", [1, -1])
def test_salvage_matches_every_row_with_one_of_its_own(tmp_path: Path, order: int) -> None:
    """Two files of one day, begun one after the other, that tell it in different ways and order."""
    keyed, twin, collided = trade(1), without(trade(2)), trade(1, price=383.0)
    told = ([keyed, twin, collided, trade(5, 900)], [collided, keyed, trade(2), cut(trade(5, 900)), trade(6, 700)])
    for name, ticks in zip("ab", told, strict=True):
        writer_there = DayFileWriter(tmp_path / name)
        writer_there.write(number_equal_ticks(ticks))
        writer_there.close()
    source, target = (tmp_path / name / f"{DAY}.db" for name in "ab"[::order])
    added_rows = 1 if order == -1 else 0  # only b has the last one
    assert [salvage(source, target).copied_rows for _ in range(2)] == [added_rows, 0]
    assert len(list(iter_ticks(target))) == 5


def test_salvage_keeps_what_stands_beside_a_row_that_is_refused(tmp_path: Path) -> None:
    """A refused row takes back what was noted of its batch; the others then find their places again."""
    writer_there = DayFileWriter(tmp_path)
    writer_there.write([trade(1), *(trade(n, price=float(n)) for n in range(2, 9))])
    writer_there.close()
    target = tmp_path / "target" / f"{DAY}.db"
    two = DayFileWriter(target.parent)
    two.write([without(trade(1)), without(trade(4, price=4.0))])
    two.close()
    with contextlib.closing(sqlite3.connect(target)) as conn:
        conn.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON ticks WHEN NEW.price = 5.0 "
            "BEGIN SELECT RAISE(ABORT, 'constraint failed'); END"
        )
        conn.commit()
    report = salvage(tmp_path / f"{DAY}.db", target)
    assert (report.refused_rows, report.copied_rows, report.read_rows) == (1, 5, 8)
    assert len({row.seq for row in iter_ticks(target)}) == 7


def test_salvage_gives_the_rows_with_a_sequence_the_first_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier recorder could store a trade with its sequence behind an equal one without."""
    monkeypatch.setattr(salvage_module, "CHUNK_ROWS", 1)
    source, target = (tmp_path / name / f"{DAY}.db" for name in ("source", "target"))
    for db, tick in ((source, without(trade(2))), (target, trade(1))):
        writer = DayFileWriter(db.parent)
        writer.write([tick])
        writer.close()
    with contextlib.closing(sqlite3.connect(source)) as conn:
        conn.execute(
            f"INSERT INTO ticks ({', '.join(names_of(1))}) "
            "SELECT market, symbol, ts_ms, price, volume, turnover, direction, ?, tick_type, "
            "push_type, provider, trading_day, recv_ts_ms, inserted_at_ms, push_data_type, opend_recv_ts_ms, "
            "type_sign, 0 FROM ticks",
            (trade(1).seq,),
        )
        conn.commit()
    assert [salvage(source, target).copied_rows for _ in range(2)] == [1, 0]
    assert len(list(iter_ticks(target))) == 2
