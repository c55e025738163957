"""Random numberings before real day files: pushes and answers that number each for itself, near or far, counters that
begin anew, late pushes, stale answers, strays of other dates, restarts, starts that cannot read the file.

Every trade is distinct by its price, or an equal part of one order in one millisecond, and all of them are shown by the
last answer: so each must be stored exactly as often as it was made.
"""

from __future__ import annotations

import random
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from hk_tick_collector.core.facts import (
    DATED_OTHERWISE,
    PUSH_PULL_DISAGREE,
    STRAYS_DISAGREE,
    Unproven,
    reasons_of,
)
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.sources.numbering import are_named_otherwise
from hk_tick_collector.store import reader
from hk_tick_collector.store.numbering import numbered_otherwise
from hk_tick_collector.store.writer import DayFileWriter
from tests.nights import examples
from tests.stored import iter_ticks
from tests.unit.sources.desk import DAY, SYMBOL, TOMORROW, YESTERDAY, Desk, tick

STEPS = ("trade", "pull", "connected", "restart", "blind", "sees", "anew", "flush", "stale")
WEIGHTS = (12, 5, 1, 1, 0.5, 1, 0.7, 2, 1)
FAR = 500_000
Content = tuple[str, int, float]


def content_of(trade: Tick) -> Content:
    return trade.trading_day, trade.ts_ms // 1000, trade.price


class Numberings:
    """One day at a desk by one seed. ``blind``: also processes that cannot read the file when they start."""

    def __init__(self, seed: int, data_root: Path, *, blind: bool) -> None:
        self.r = random.Random(seed)
        self.manner = self.r.choice(["split", "split", "split_near", "anew", "futu", "split_anew"])
        self.desk = Desk(data_root)
        self.data_root = data_root
        self.made: list[Tick] = []
        self.held: list[Tick] = []
        self.counter, self.sec = 0, 0.0
        self.has_twins = self.r.random() < 0.5
        self.has_strays = self.r.random() < 0.3
        self.is_blind = False
        self.offset = self.r.choice([FAR, 1, 3, -1]) if self.manner == "split_near" else FAR
        self.weights = [*WEIGHTS[:4], WEIGHTS[4] if blind else 0.0, *WEIGHTS[5:]]

    @property
    def is_far(self) -> bool:
        """Are the two ways' numbers so far apart that no twin explains them?"""
        return abs(self.offset) == FAR

    def pushed(self, trade: Tick) -> Tick:
        assert trade.seq is not None
        return trade._replace(seq=trade.seq + (self.offset if self.manner.startswith("split") else 0))

    def run(self) -> None:
        for _ in range(self.r.randint(5, 60)):
            step = self.r.choices(STEPS, self.weights)[0]
            self.desk.now_ms += 1500
            getattr(self, step)()
        for _ in range(2):
            self.desk.later(5)
            self.desk.pull(self.made)

    def trade(self) -> None:
        fresh: list[Tick] = []
        for _ in range(self.r.choice([1, 1, 1, 2, 3, 5])):
            fresh.append(self._make(fresh))
            self.made.append(fresh[-1])
        fate = self.r.random()
        if fate < 0.7:
            at_once = self.r.random() < 0.5
            for message in [fresh] if at_once else [[trade] for trade in fresh]:
                self.desk.push([self.pushed(trade) for trade in message])
        elif fate < 0.85:
            self.held += fresh

    def _make(self, before: list[Tick]) -> Tick:
        self.counter += 1
        if before and self.has_twins and self.r.random() < 0.7:
            made = tick(self.counter, self.sec, price=before[-1].price)._replace(ts_ms=before[-1].ts_ms)
        else:
            self.sec += self.r.choice([0.13, 0.37, 1.71, 4.003])
            made = tick(self.counter, self.sec, price=1 + len(self.made) / 100)
        if self.has_strays and self.r.random() < 0.1:
            day = self.r.choice([YESTERDAY, TOMORROW])
            made = made._replace(trading_day=day, ts_ms=made.ts_ms + day_start_ms(day) - day_start_ms(DAY))
        return made

    def flush(self) -> None:
        """What was held back is pushed late."""
        for trade in self.held:
            self.desk.push([self.pushed(trade)])
        self.held = []

    def pull(self) -> None:
        self.desk.pull(self.made, self.r.choice([5, 20, 100, 1000]))

    def stale(self) -> None:
        rows = self.r.choice([5, 20, 100, 1000])
        self.desk.pull(self.made[: -self.r.randint(1, 4)], rows)

    def connected(self) -> None:
        self.desk.continuity.connected()

    def restart(self) -> None:
        self.desk, self.is_blind = self.desk.restarted(), False

    def blind(self) -> None:
        self.desk, self.is_blind = self.desk.restarted_blind(), True

    def sees(self) -> None:
        if self.is_blind and (self.data_root / f"{DAY}.db").exists():
            self.desk.look_again()
            self.is_blind = False

    def anew(self) -> None:
        if "anew" in self.manner:
            self.counter = 0
            self.connected()
            self.sec += 30

    def stored(self) -> Counter[Content]:
        files = sorted(self.data_root.glob("*.db"))
        return Counter(content_of(trade) for path in files for trade in iter_ticks(path, SYMBOL))

    def state(self) -> str | None:
        """Of the day; None when nothing of it was made."""
        return self.desk.state() if any(trade.trading_day == DAY for trade in self.made) else None


def play(seed: int, data_root: Path, *, blind: bool) -> tuple[Numberings, Counter[Content], Counter[Content]]:
    """What is lost, and what is stored too often."""
    game = Numberings(seed, data_root, blind=blind)
    game.run()
    made, stored = Counter(content_of(trade) for trade in game.made), game.stored()
    return game, made - stored, stored - made


# Seeds that once stored trades twice: late pushes after a restart, strays, numbers that an answer gave to other trades;
KNOWN = (469, 609, 621, 653, 787, 828)
# and pushes that the next process could not read: strays of a count that is in the day's own file, and numbers near
# enough to be a twin's that the answer gave to another trade.
KNOWN_BLIND = (20, 107, 138, 190, 309, 326, 430, 448, 1220)


def test_no_numbering_stores_a_trade_twice_or_not_at_all(tmp_path: Path) -> None:
    for seed in (*range(300, 300 + examples(40)), *KNOWN):
        game, lost, doubled = play(seed, tmp_path / str(seed), blind=False)
        assert (seed, lost) == (seed, Counter())
        if game.is_far or seed in KNOWN:
            assert (seed, doubled) == (seed, Counter())


def test_nor_after_a_start_that_could_not_read_the_file(tmp_path: Path) -> None:
    for seed in (*range(examples(20)), *KNOWN_BLIND):
        game, lost, doubled = play(seed, tmp_path / str(seed), blind=True)
        assert (seed, lost) == (seed, Counter())
        if game.is_far or seed in KNOWN_BLIND:
            assert (seed, doubled) == (seed, Counter())


@pytest.mark.parametrize("seed", [718, 794, 970, 1053, 1093, 1181, 1185])
def test_what_no_answer_can_tell_is_stored_and_not_proven(seed: int, tmp_path: Path) -> None:
    """Numbers as near as those of twins, at an answer's end: stored under both, for neither may be left out."""
    game, lost, _ = play(seed, tmp_path, blind=False)
    assert not lost
    assert game.state() == "unproven"


EARLIER, PART, LATER = tick(2, 0.99, price=3), tick(38, 1.003, price=2), tick(1, 5, price=4)


@pytest.mark.parametrize(
    ("answer", "is_otherwise"),
    [
        ((PART, EARLIER, LATER), False),  # in the order of arrival: it begins in the second of which it shows a part
        ((LATER, EARLIER, PART), False),  # and ends there
        ((EARLIER, PART, LATER), True),  # it shows all of that second, and the pushed number is not there
    ],
)
def test_an_answer_begins_with_its_first_row_and_not_with_its_oldest(
    answer: tuple[Tick, ...], is_otherwise: bool, tmp_path: Path
) -> None:
    """An equal part of one order, just before the answer begins, is no trade that is numbered otherwise."""
    pushed = tick(37, 1.003, price=2)
    pulled = [tick._replace(push_type="poll") for tick in answer]
    assert are_named_otherwise([pushed], pulled, 1000) is is_otherwise
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write([pushed])
    with closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn:
        assert numbered_otherwise(conn, SYMBOL, pulled) is is_otherwise


def stored_pushes(data_root: Path, *pushed: Tick) -> Path:
    with closing(DayFileWriter(data_root)) as writer:
        writer.write(pushed)
    return data_root / f"{pushed[0].trading_day}.db"


@pytest.mark.parametrize(
    ("answer", "is_otherwise"),
    [
        ((tick(1, 0.37), tick(2, 2, price=2), tick(3, 2.1, price=3)), True),  # number 2 is another trade's there
        ((tick(1, 0.37), tick(3, 2, price=3)), False),  # nor is it there at all: it may be a twin that came later
        ((tick(1, 0.37),), False),
        ((tick(3, -1, price=3), tick(2, -0.5, price=2), tick(1, 0.37)), False),  # they do not count
    ],
)
def test_a_number_that_an_answer_gives_to_another_trade_names_none(
    answer: tuple[Tick, ...], is_otherwise: bool, tmp_path: Path
) -> None:
    """Between the two the answer would show a twin."""
    path = stored_pushes(tmp_path, tick(2, 0.37))
    with closing(sqlite3.connect(path)) as conn:
        pulled = [tick._replace(push_type="poll") for tick in answer]
        assert numbered_otherwise(conn, SYMBOL, pulled) is is_otherwise
    assert are_named_otherwise([tick(2, 0.37)], pulled, 1000) is is_otherwise
    path = stored_pushes(tmp_path / "pulled", *pulled)
    with closing(sqlite3.connect(path)) as conn:  # a message is no answer: it need not show what stands between
        assert not numbered_otherwise(conn, SYMBOL, [tick(2, 0.37), tick(3, 2, price=2)])


def test_an_index_within_the_second_names_equal_parts_beside_the_ends_of_an_answer(tmp_path: Path) -> None:
    """Of two equal parts one was pushed, and the answer, which begins between them, shows the other one."""
    pushed, other = tick(1, 1.003, price=2), tick(2, 1.003, price=2)
    later = [tick(index, sec, price=sec + index) for sec in range(2, 9) for index in (1, 2, 3)]
    desk = Desk(tmp_path)
    desk.push([tick(1, 0.1)])
    desk.pull([tick(1, 0.1)])
    desk.push([pushed])
    for answer in ([other, *later], [pushed, other, *later]):
        desk.pull(answer)
    stored = Counter(row.ts_ms for row in iter_ticks(tmp_path / f"{DAY}.db"))
    assert stored[pushed.ts_ms] == 2
    assert PUSH_PULL_DISAGREE not in reasons_of(reader.coverage(tmp_path / f"{DAY}.db")[0].distrust)


def stray(counter: int, sec: float = 0.0, *, price: float = 1.0) -> Tick:
    """Counted today, dated tomorrow."""
    ahead_ms = day_start_ms(TOMORROW) - day_start_ms(DAY)
    return (today := tick(counter, sec, price=price))._replace(trading_day=TOMORROW, ts_ms=today.ts_ms + ahead_ms)


def test_strays_that_came_on_both_ways_are_told_apart_by_their_file(tmp_path: Path) -> None:
    """Whoever hands them over knows nothing: what was found is in the file of the day that counted them."""
    own = [tick(n, n, day=TOMORROW, price=n) for n in (1, 2)]
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write([*own, stray(FAR)], [Unproven(SYMBOL, TOMORROW, DATED_OTHERWISE)])
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write([tick._replace(push_type="poll") for tick in (*own, stray(1), stray(2, 1, price=5))])
        writer.write([tick(3, 3, day=TOMORROW)])
    stored = list(iter_ticks(tmp_path / f"{TOMORROW}.db", SYMBOL))
    assert Counter(map(content_of, stored)) == Counter(
        map(content_of, [*own, stray(FAR), stray(2, 1, price=5), tick(3, 3, day=TOMORROW)])
    )
    assert [tick.price for tick in stored if tick.seq is None] == [5]  # the day's own numbers are names
    (row,) = reader.coverage(tmp_path / f"{TOMORROW}.db")
    assert reasons_of(row.distrust) == (DATED_OTHERWISE, STRAYS_DISAGREE)


def test_what_a_count_found_is_noted_where_its_strays_are(tmp_path: Path) -> None:
    """Numbers too near to be told from twins by that file alone."""
    desk = Desk(tmp_path)
    trades = [tick(1, 0, price=1), stray(2, 1, price=2), tick(3, 2, price=3), tick(4, 3, price=4)]
    desk.push([tick._replace(seq=(tick.seq or 0) + 1) for tick in trades])
    desk.pull(trades)
    assert STRAYS_DISAGREE in reasons_of(desk.coverage(day=TOMORROW).distrust)
    desk = desk.restarted_blind()
    desk.pull(trades)
    assert len(desk.stored(day=TOMORROW)) == 1
    assert len(desk.stored()) == 3


def test_a_late_tick_of_the_day_before_is_no_stray(tmp_path: Path) -> None:
    """Its own day counted it: that day's file is told nothing."""
    desk = Desk(tmp_path)
    late = tick(900, 1, day=YESTERDAY, price=9)
    trades = [tick(n, n, price=n) for n in range(1, 5)]
    desk.push([late])
    desk.push([tick._replace(seq=(tick.seq or 0) + FAR) for tick in trades])
    desk.pull([late, *trades])
    assert desk.coverage(day=YESTERDAY).distrust is None
    assert PUSH_PULL_DISAGREE in reasons_of(desk.coverage().distrust)


def test_a_pushed_trade_whose_file_was_set_aside_is_compared_all_the_same(tmp_path: Path) -> None:
    """Nothing is known to be stored then: beside an equal part of its order it is a twin, far from it it is not."""
    for at, (number, is_otherwise) in enumerate([(2, False), (FAR, True)]):
        desk = Desk(tmp_path / str(at))
        desk.push([tick(1)])
        desk.coverage()
        desk.set_aside()
        desk.pull([tick(number)])
        assert (SYMBOL in desk.continuity.unkeyed) is is_otherwise
        assert len(desk.stored()) == 1


def test_of_near_strays_that_nobody_has_compared_both_are_stored_and_not_proven(tmp_path: Path) -> None:
    """It may be the pushed one, or its twin: the rest of their count is in a file that was not read."""
    desk = Desk(tmp_path)
    desk.push([tick(1, price=3)])
    desk.push([stray(3, 1)])
    desk = desk.restarted_blind()
    desk.pull([stray(2, 1)])
    assert len(desk.stored(day=TOMORROW)) == 2
    assert desk.state(day=TOMORROW) == "unproven"


def test_a_burst_within_a_second_is_held_against_what_is_stored_in_one_walk(tmp_path: Path) -> None:
    """Each row against each stored one would keep the writer busy for seconds; every answer shows the burst anew."""

    def calls_for(rows: int) -> int:
        burst = [tick(n, 1.003, price=n) for n in range(1, rows + 1)]
        pulled = [trade._replace(push_type="poll") for trade in burst]
        path = stored_pushes(tmp_path / str(rows), *burst)
        calls = Counter[str]()
        with closing(sqlite3.connect(path)) as conn:
            sys.setprofile(lambda _frame, event, _arg: calls.update([event]))
            try:
                assert not numbered_otherwise(conn, SYMBOL, pulled)
            finally:
                sys.setprofile(None)
        return calls["call"]

    assert calls_for(800) < 5 * calls_for(200)
