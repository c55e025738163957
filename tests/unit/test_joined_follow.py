"""Two recorders of one market followed as one: random losses, repairs, ticks without a sequence, days, cuts.

What a reader holds is what the joined day holds (``days.union``), each trade once, however its reads are cut and
wherever it goes on with another follower.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.joined_follow import JoinedBatch, JoinedFollower
from hk_tick_collector.days.union import UnionCatalog
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.follow import Follower
from hk_tick_collector.store.layout import archive_dir, day_file
from hk_tick_collector.store.position import ROW, DayChanged, DayDamaged, JoinedPosition, Position, parts_of
from hk_tick_collector.store.writer import DayFileWriter
from tests.clock import ManualClock
from tests.nights import examples
from tests.unit.store_ticks import DAY, OPEN_MS, tick, ticks

NEXT_DAY = "20261123"
SYMBOLS = ("HK.00700", "HK.00005")
START = Position.at_start_of(DAY)
_TRADE = [ROW.index(name) for name in ("trading_day", "symbol", "seq", "ts_ms", "price", "volume")]


def trade(row: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(row[at] for at in _TRADE)


def followers(roots: Sequence[Path]) -> JoinedFollower:
    return JoinedFollower([Follower(root, days_look_sec=0) for root in roots], HK)


class Reader:
    """Reads on with another follower after each cut: all it keeps is its position."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = roots
        self.position = JoinedPosition((START,) * len(roots))
        self.follower = followers(roots)
        self.rows: list[tuple[Any, ...]] = []
        self.told: list[dict[str, Any]] = []

    def read(self, limit_rows: int) -> bool:
        batch = self.follower.read_behind(self.position, limit_rows)
        if batch is None:
            return False
        self.rows += map(trade, batch.rows)
        self.told += batch.told
        self.position = JoinedPosition(tuple(Position.parse(str(part)) for part in parts_of(batch.position)))
        return True

    def cut(self) -> None:
        self.follower.close()
        self.follower = followers(self.roots)

    def rest(self) -> None:
        while self.read(1000):
            pass


def joined_day(roots: Sequence[Path], day: str) -> Counter[tuple[Any, ...]]:
    union_day = UnionCatalog([Catalog(root, archive_dir(root)) for root in roots]).day(day)
    table = union_day.ticks(list(SYMBOLS), ("trading_day", "symbol", "seq", "ts_ms", "price", "volume"))
    times = table.column("ts_ms").cast("int64").to_pylist()
    rows = zip(table.to_pylist(), times, strict=True)
    return Counter(
        (row["trading_day"], row["symbol"], row["seq"], ts_ms, row["price"], row["volume"]) for row, ts_ms in rows
    )


MASKS = st.integers(0, 2**12 - 1)
STEPS = st.lists(
    st.one_of(
        # how many trades happen, of which symbol, and which of them each recorder loses
        st.tuples(st.just("trade"), st.integers(1, 12), st.sampled_from(SYMBOLS), MASKS, MASKS),
        st.tuples(st.just("repair"), st.integers(0, 1)),
        st.tuples(st.just("read"), st.integers(1, 9)),
        st.tuples(st.just("cut")),
        st.tuples(st.just("new_day")),
    ),
    max_size=30,
)  # fmt: skip


class Recorders:
    """Two writers that hear the same trades and lose different ones; a repair stores what was lost, late."""

    def __init__(self, roots: Sequence[Path], held: ExitStack) -> None:
        self.writers = [held.enter_context(closing(DayFileWriter(root))) for root in roots]
        self.lost: list[list[Tick]] = [[] for _ in roots]
        self.counts: Counter[tuple[str, str]] = Counter()
        self.day = DAY

    def trade(self, count: int, symbol: str, *lost: int) -> None:
        first = self.counts[self.day, symbol] + 1
        self.counts[self.day, symbol] += count
        made = ticks(count, first, symbol=symbol, day=self.day)
        for writer, mask, missed in zip(self.writers, lost, self.lost, strict=True):
            missed += [row for n, row in enumerate(made) if mask >> n & 1]
            heard = [row for n, row in enumerate(made) if not mask >> n & 1]
            if heard:
                writer.write(heard)

    def repair(self, number: int) -> None:
        if self.lost[number]:
            self.writers[number].write(self.lost[number])
            self.lost[number] = []


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_each_trade_once_wherever_the_reader_is_cut(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as held:
        roots = [Path(directory, name) for name in ("a", "b")]
        recorders, reader = Recorders(roots, held), Reader(roots)
        recorders.trade(1, SYMBOLS[0], 0, 0)
        for word, *arguments in steps:
            if word == "trade":
                recorders.trade(*arguments)
            elif word == "repair":
                recorders.repair(*arguments)
            elif word == "read":
                reader.read(*arguments)
            elif word == "cut":
                reader.cut()
            else:
                recorders.day = NEXT_DAY
        reader.rest()
        reader.follower.close()
        days = [day for day in (DAY, NEXT_DAY) if any(day_file(root, day).exists() for root in roots)]
        expected: Counter[tuple[Any, ...]] = sum((joined_day(roots, day) for day in days), Counter())
        assert Counter(reader.rows) == expected
        assert max(expected.values()) == 1
        assert not reader.told


@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(0, 1), st.integers(1, 4), st.integers(1, 3), st.booleans()),
            st.tuples(st.just("read"), st.integers(1, 5)),
            st.tuples(st.just("cut")),
        ),
        max_size=25,
    )
)
def test_trades_without_a_sequence_are_as_many_as_the_joined_day_has(steps: list[tuple[Any, ...]]) -> None:
    """Equal ones, of which each recorder has a number of its own."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as held:
        roots = [Path(directory, name) for name in ("a", "b")]
        writers = [held.enter_context(closing(DayFileWriter(root))) for root in roots]
        reader = Reader(roots)
        for writer in writers:
            writer.write(ticks(1))
        for word, *arguments in steps:
            if word == "push":
                number, n, equal, is_cut = arguments
                ts_ms = tick(n * 1500).ts_ms
                row = tick(n * 1500, seq=None, ts_ms=ts_ms - ts_ms % 1000 if is_cut else ts_ms)
                writers[number].write([row._replace(occurrence=k) for k in range(equal)])
            elif word == "read":
                reader.read(*arguments)
            else:
                reader.cut()
        reader.rest()
        reader.follower.close()
        assert len(reader.rows) == joined_day(roots, DAY).total()


def test_what_the_first_one_lacks_stands_where_it_belongs(tmp_path: Path) -> None:
    """Read together, a symbol's ticks come in the order of their sequences, whoever had them."""
    made = ticks(100)
    for name, lacking in (("a", range(20, 30)), ("b", range(60, 70))):
        with closing(DayFileWriter(tmp_path / name)) as writer:
            for n, row in enumerate(made):
                if n not in lacking:
                    writer.write([row])
    reader = Reader([tmp_path / "a", tmp_path / "b"])
    reader.rest()
    assert reader.rows == [
        trade((0, *((row._asdict() | {"inserted_at_ms": 0}).get(name) for name in ROW[1:]))) for row in made
    ]


def test_shards_that_share_no_symbol_are_one_line(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("a", "b", "c")]
    symbols = ("HK.00700", "HK.00005", "HK.00388")
    for root, symbol in zip(roots, symbols, strict=True):
        with closing(DayFileWriter(root)) as writer:
            writer.write(ticks(50, symbol=symbol))
    reader = Reader(roots)
    while reader.read(7):
        reader.cut()
    assert Counter(row[1] for row in reader.rows) == dict.fromkeys(symbols, 50)


@pytest.mark.parametrize("back_sec", [0.3, 3600])
def test_a_clock_that_was_set_back_holds_up_no_reader(tmp_path: Path, back_sec: float) -> None:
    """Rows of one batch then have earlier times than those before them, while the other recorder's go on."""
    roots = [tmp_path / "a", tmp_path / "b"]
    for root, symbol, step_sec in zip(roots, SYMBOLS, (back_sec, 0.0), strict=True):
        clock = ManualClock(OPEN_MS)
        with closing(DayFileWriter(root, clock=clock)) as writer:
            for row in ticks(60, symbol=symbol):
                clock.advance(0.01)
                if row.seq == tick(25).seq:
                    clock.step_wall(-step_sec)
                writer.write([row])
    reader = Reader(roots)
    for _ in range(120):
        if not reader.read(20):
            break
    assert Counter(row[1] for row in reader.rows) == dict.fromkeys(SYMBOLS, 60)


@pytest.mark.parametrize("ahead", [0, 1])
def test_recorders_that_number_trades_differently_are_told_apart_and_named(tmp_path: Path, ahead: int) -> None:
    """The one listed first is followed alone from then on, whichever is ahead; also by a reader that begins later."""
    roots = [tmp_path / "a", tmp_path / "b"]
    with ExitStack() as held:
        writers = [held.enter_context(closing(DayFileWriter(root))) for root in roots]
        made = [ticks(200), [row._replace(seq=(row.seq or 0) + 5) for row in ticks(200)]]
        reader = Reader(roots)
        for first in range(0, 200, 20):
            for number in (ahead, 1 - ahead):
                writers[number].write(made[number][first : first + 20])
                reader.rest()
        (told,) = reader.told
        assert (told["symbol"], told["kept"], told["left_out"], told["day"]) == ("HK.00700", 0, 1, DAY)
        given_rows = Counter((row[2], row[3]) for row in reader.rows)
        assert all(given_rows[row.seq, row.ts_ms] == 1 for row in made[0]), "all that the first one has"
        assert len(reader.rows) <= 200 + 20, "what came before the second one had shown it"
        later = Reader(roots)
        later.rest()
        assert [row[2] for row in later.rows] == [row.seq for row in made[0]]
        assert len(later.told) == 1


def test_one_number_that_is_two_trades_is_named_and_comes_once(tmp_path: Path) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]
    for root, price in zip(roots, (612.5, 700.0), strict=True):
        with closing(DayFileWriter(root)) as writer:
            writer.write([*ticks(20), tick(21, price=price), *ticks(20, 22)])
    reader = Reader(roots)
    reader.rest()
    assert Counter(row[2] for row in reader.rows) == Counter(row.seq for row in ticks(41))
    assert [told["ticks"] for told in reader.told] == [1]


def test_a_recorder_that_ends_leaves_the_other_ones_ticks(tmp_path: Path) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]
    reader = Reader(roots)
    with closing(DayFileWriter(roots[1])) as second:
        with closing(DayFileWriter(roots[0])) as first:
            for writer in (first, second):
                writer.write(ticks(30))
            reader.rest()
        second.write(ticks(30, 31))
        reader.rest()
        with closing(DayFileWriter(roots[0])) as first:  # it comes back, and repairs
            first.write(ticks(40, 21))
            reader.rest()
    assert [row[2] for row in reader.rows] == [row.seq for row in ticks(60)]
    assert reader.told == []


def test_a_root_that_cannot_be_read_holds_up_nobody_and_readers_are_told(tmp_path: Path) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]
    with ExitStack() as held:
        writers = [held.enter_context(closing(DayFileWriter(root))) for root in roots]
        for writer in writers:
            writer.write(ticks(30))
        reader = Reader(roots)
        reader.rest()
        second = reader.follower._sides[1].follower

        def refused(*_: object) -> None:
            raise StoreUnavailable("the disk does not answer")

        second.read_behind = second.look_into = refused  # type: ignore[method-assign, assignment]
        writers[0].write(ticks(10, 31))
        batches = [batch for _ in range(3) if (batch := reader.follower.read_behind(reader.position)) is not None]
        assert isinstance(batches[0], JoinedBatch)
        assert [len(batch.rows) for batch in batches][:1] == [10]
        assert batches[0].held == (1,)
        assert batches[0].told == ({"type": "reset", "reason": "root_unreadable", "day": DAY, "root": 1},)


def test_a_file_that_was_exchanged_is_told_for_its_root_alone(tmp_path: Path) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        with closing(DayFileWriter(root)) as writer:
            writer.write(ticks(30))
    reader = Reader(roots)
    reader.rest()
    day_file(roots[1], DAY).unlink()
    with closing(DayFileWriter(roots[1])) as writer:
        writer.write(ticks(5, 3))
    reader.cut()
    with pytest.raises(DayChanged) as lost:
        reader.follower.read_behind(reader.position)
    assert isinstance(lost.value.onward, JoinedPosition)
    assert lost.value.onward.of[0] == reader.position.of[0]
    reader.position = lost.value.onward
    reader.rest()
    assert Counter(row[2] for row in reader.rows) == Counter(row.seq for row in ticks(30)), "the other one has them"


def test_what_was_known_of_a_file_is_not_believed_of_the_next_one(tmp_path: Path) -> None:
    """Set aside, and the new file has as many rows: the place bears the same number, and higher sequences."""
    roots = [tmp_path / "a", tmp_path / "b"]
    with closing(DayFileWriter(roots[0])) as first:
        first.write(ticks(3))
        with closing(DayFileWriter(roots[1])) as second:
            second.write(ticks(10))
        reader = Reader(roots)
        reader.rest()
        first.write(ticks(2, 4))
        reader.rest()
        day_file(roots[1], DAY).unlink()
        with closing(DayFileWriter(roots[1])) as second:
            second.write(ticks(10, 11))
        with pytest.raises(DayChanged) as lost:
            reader.read(1000)
        assert isinstance(lost.value.onward, JoinedPosition)
        reader.position = lost.value.onward
        reader.rest()
        first.write(ticks(5, 11))
        reader.rest()
        reader.follower.close()
    assert Counter(row[2] for row in reader.rows) == Counter(row.seq for row in ticks(20))


def test_a_damaged_day_that_is_over_takes_nothing_from_the_one_that_has_it_whole(tmp_path: Path) -> None:
    """A reader that catches up leaves the rest of the damaged file, and is given it by the other one."""
    roots = [tmp_path / "a", tmp_path / "b"]
    with ExitStack() as held:
        writers = [held.enter_context(closing(DayFileWriter(root))) for root in roots]
        for first in range(1, 3000, 50):
            for writer in writers[::-1]:
                writer.write(ticks(50, first))
        for writer in writers:
            writer.write(ticks(3, day=NEXT_DAY))
    damaged = day_file(roots[1], DAY)
    with closing(sqlite3.connect(damaged)) as conn:
        (page,) = conn.execute(
            "SELECT pageno FROM dbstat WHERE name = 'ticks' AND pagetype = 'leaf' ORDER BY pageno LIMIT 1 OFFSET 40"
        ).fetchone()
        (size,) = conn.execute("PRAGMA page_size").fetchone()
    with damaged.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    now_sec = [0.0]
    follower = JoinedFollower(
        [Follower(root, days_look_sec=0, monotonic=lambda: now_sec[0]) for root in roots],
        HK,
        monotonic=lambda: now_sec[0],
    )
    position, lost, given_rows = JoinedPosition((START, START)), [], Counter[Any]()
    for _ in range(200):
        now_sec[0] += 3
        try:
            batch = follower.read_behind(position, 100)
        except DayDamaged as exc:
            lost.append(exc.day)
            position = JoinedPosition(parts_of(exc.onward))
            continue
        if batch is not None:
            given_rows.update((batch.day, row[ROW.index("seq")]) for row in batch.rows)
            position = batch.position
    follower.close()
    assert lost == [DAY]
    assert set(given_rows) >= {(DAY, row.seq) for row in ticks(3000)}
