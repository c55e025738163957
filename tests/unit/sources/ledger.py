"""A symbol's day at a source that keeps a ledger of what it made, and a recorder that is killed, spills, loses its file
and sees midnight: feed, queue and writer on real day files, without clocks.

Three kinds of evidence: counters (Hong Kong), names (US: an index within the second), a running total of volume
(Taiwan). Most sources show few rows at once, so that some trades are seen by nobody: those may not be proven. Two
trades of equal content under one sequence are never made: by definition they are one.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from hk_tick_collector.core.facts import CAUTIONS, DayFact, Fact
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.records.tick import PUSH_TYPE_POLL, Origin, Tick
from hk_tick_collector.records.totals import missing_units
from hk_tick_collector.records.views import number_equal_ticks, without_sequences
from hk_tick_collector.sources.completeness import completeness_of
from hk_tick_collector.sources.futu.spec import HK, US
from hk_tick_collector.sources.pulled import Answer, Question
from hk_tick_collector.sources.shioaji.spec import TW
from hk_tick_collector.sources.source import PullLimits, SourceSpec
from hk_tick_collector.store import reader, writer
from hk_tick_collector.store.connect import SqliteOptions, open_day_file
from hk_tick_collector.store.tracks import stored_tracks
from hk_tick_collector.store.writer import DayFileWriter
from tests.stored import iter_ticks

SYMBOL = "HK.00700"
DAYS = ("20261119", "20261120")  # Thursday and Friday
NEWEST_ROWS = 25
Content = tuple[str, int, float, int]


def content_of(trade: Tick) -> Content:
    """Each trade's own, but for equal parts of an order."""
    return trade.trading_day, trade.ts_ms, trade.price or 0, trade.volume or 0


@dataclass
class Made:
    """A trade, and the moment at which the source had it."""

    trade: Tick
    at_ms: int


class Recorder:
    """One process: what it knows dies with it."""

    def __init__(self, data_root: Path, spec: SourceSpec, now_ms: int, left_over: Sequence[Tick] = ()) -> None:
        self.data_root, self.spec = data_root, spec
        self.rows: list[Tick] = []
        self.cautions: list[Fact | DayFact] = []
        self.others: list[Fact | DayFact] = []
        self.feed = completeness_of(spec, self.put_facts)
        self.writer = DayFileWriter(
            data_root, SqliteOptions(), origin=Origin(spec.market, spec.provider), evidence=spec.evidence
        )
        self.feed.seed(self.tracks(now_ms), [SYMBOL])
        self.left_over = list(left_over)
        self.feed.connected()

    def tracks(self, now_ms: int) -> dict[str, reader.StoredTrack]:
        return stored_tracks(self.data_root, [SYMBOL], 3, market_of(self.spec.market).trading_day(now_ms))

    def put_facts(self, facts: Sequence[Fact]) -> None:
        """As the queue takes them."""
        self.cautions += [fact for fact in facts if isinstance(fact, CAUTIONS)]
        self.others += [fact for fact in facts if not isinstance(fact, CAUTIONS)]

    def push(self, message: Sequence[Tick]) -> None:
        day = self.feed.unkeyed.get(SYMBOL)
        rows = number_equal_ticks(message) if day is None else without_sequences(message, day)
        self.feed.tell_interruptions(rows)
        self.rows += rows
        self.feed.observe_push(rows, 1.0)

    def answer(self, question: Question, rows: Sequence[Tick], now_ms: int) -> None:
        told = [row._replace(push_type=PUSH_TYPE_POLL, recv_ts_ms=now_ms) for row in rows]
        self.rows += self.feed.take(Answer(question, number_equal_ticks(told), [], now_ms)).ticks

    def store(self, max_rows: int = 1000) -> None:
        """What waits in the queue, the oldest rows first."""
        batch, self.rows = self.rows[:max_rows], self.rows[max_rows:]
        facts, self.cautions = self.cautions, []
        if not self.rows:
            facts, self.others = facts + self.others, []
        self.writer.write(batch, facts)

    def store_left_over(self) -> None:
        """What an earlier process spilled; it stays in the spill until it is stored."""
        if self.left_over:
            self.feed.tell_left_over(self.left_over)
            facts, self.cautions = self.cautions, []
            self.writer.write(self.left_over, facts)
            self.left_over = []

    def killed_while_storing(self, statement: int) -> None:
        """A process of its own stores what waits and is killed before so many statements of SQLite are through."""
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                left = iter(range(statement))

                def open_counting(path: Path, options: SqliteOptions, timeout_ms: int | None = None):  # type: ignore[no-untyped-def]
                    conn = open_day_file(path, options, timeout_ms)
                    conn.set_trace_callback(lambda _: None if next(left, None) is not None else os._exit(9))
                    return conn

                writer.open_day_file = open_counting
                spec = self.spec
                self.writer = DayFileWriter(
                    self.data_root, SqliteOptions(), origin=Origin(spec.market, spec.provider), evidence=spec.evidence
                )
                self.store_left_over()
                self.store()
            os._exit(9)
        os.waitpid(child, 0)


class Ledger:
    """One seed's source and its recorders."""

    STEPS: ClassVar[dict[str, float]] = {
        "trade": 14, "pull": 5, "stale": 1, "store": 5, "connected": 1, "restart": 1, "kill": 1, "kill_storing": 1,
        "spill": 1, "aside": 0.4, "flush": 1.5, "midnight": 0.3, "late_day": 0.3, "anew": 0.3, "replay": 0.7,
    }  # fmt: skip

    def __init__(self, seed: int, data_root: Path) -> None:
        self.r = random.Random(seed)
        full = self.r.choice([HK, HK, HK, US, TW])
        is_small = full is TW or self.r.random() < 0.6
        self.spec = replace(full, pull=PullLimits(NEWEST_ROWS, NEWEST_ROWS - 1)) if is_small else full
        self.market = market_of(self.spec.market)
        self.data_root = data_root
        self.day_at = 0
        self.now_ms = self.market.opening_ms(self.day) + 1_800_000
        self.made: list[Made] = []
        self.held: list[Tick] = []
        self.spilled: list[Tick] = []
        self.counter = self.second = self.total = 0
        counts = self.spec.market == "HK"
        self.absent_rate = self.r.choice([0, 0, 0, 0.1]) if counts else 0
        self.equal_rate = self.r.choice([0, 0, 0.1]) if counts else 0
        self.twin_rate = self.r.choice([0, 0, 0.3])
        self.is_begun_anew = False
        self.begins_anew = counts and self.r.random() < 0.2
        self.recorder = self.started()

    @property
    def day(self) -> str:
        return DAYS[self.day_at]

    @property
    def limits(self) -> PullLimits:
        return self.spec.pull

    def started(self) -> Recorder:
        left_over, self.spilled = self.spilled, []
        return Recorder(self.data_root, self.spec, self.now_ms, left_over)

    def run(self) -> None:
        names, weights = list(self.STEPS), list(self.STEPS.values())
        for _ in range(self.r.randint(4, 50)):
            self.now_ms += self.r.choice([3, 400, 1500, 70_000])
            getattr(self, self.r.choices(names, weights)[0])()
        for _ in range(2):
            self.now_ms += 65_000
            self.show(self.made, self.limits.newest_rows)
            self.store_all()
            for hole in self.recorder.feed.holes():
                self.recorder.feed.give_up(hole, self.now_ms)
        self.store_all()

    # --- the source ---

    def trade(self) -> None:
        message = [self.make() for _ in range(self.r.choice([1, 1, 1, 2, 4]))]
        fate = self.r.random()
        if fate < 0.7:
            if self.r.random() < 0.5:
                self.recorder.push(message)
            else:
                for trade in message:
                    self.recorder.push([trade])
        elif fate < 0.85:
            self.held += message

    def make(self) -> Tick:
        last = self.made[-1].trade if self.made else None
        may_be_twin = last is not None and last.trading_day == self.day and not self.is_begun_anew
        is_twin = may_be_twin and self.r.random() < self.twin_rate
        self.is_begun_anew = False
        ts_ms = last.ts_ms if last is not None and is_twin else self.now_ms
        price = last.price if last is not None and is_twin else 1 + len(self.made) / 128
        volume = (last.volume or 1) if last is not None and is_twin else self.r.choice([1, 2, 5])
        self.now_ms += self.r.choice([0, 1, 137])
        trade = Tick(
            SYMBOL, ts_ms, price, volume, (price or 0) * volume, "BUY", self.number(ts_ms, volume, is_twin),
            "AUTO_MATCH", "push", self.day, self.now_ms, None, None, None,
        )  # fmt: skip
        self.made.append(Made(trade, self.now_ms))
        return trade

    def number(self, ts_ms: int, volume: int, is_twin: bool) -> int | None:
        if self.spec.market == "TW":
            self.total += volume
            return self.total
        second = ts_ms // 1000
        if self.spec.market == "US" and second != self.second:
            self.counter = 0
        self.second = second
        if self.r.random() < self.absent_rate:
            self.counter += 1
            return None
        if is_twin or not (self.counter and self.r.random() < self.equal_rate):  # of equal content it would be one
            self.counter += 1
        return second << 32 | self.counter

    def show(self, made: Sequence[Made], asked_rows: int) -> None:
        """The recorder asks, and the source answers with the newest of these."""
        question = self.recorder.feed.ask(SYMBOL, asked_rows, self.now_ms)
        rows = [made_trade.trade for made_trade in made][-min(asked_rows, self.limits.newest_rows) :]
        self.recorder.answer(question, rows, self.now_ms + self.r.choice([0, 900]))

    def pull(self) -> None:
        self.show(self.made, self.r.choice([5, 12, self.limits.newest_rows, self.limits.newest_rows]))

    def stale(self) -> None:
        self.show(self.made[: -self.r.randint(1, 4)], self.limits.newest_rows)

    def flush(self) -> None:
        for trade in self.held:
            self.recorder.push([trade])
        self.held = []

    def anew(self) -> None:
        if self.begins_anew:
            self.counter = 0
            self.now_ms += 30_000
            self.is_begun_anew = True
            self.recorder.feed.connected()

    def late_day(self) -> None:
        """A report of the day before, on this day's count."""
        if self.day_at and self.spec.market == "HK":
            trade = self.make()
            at_ms = trade.ts_ms - self.market.opening_ms(DAYS[1]) + self.market.opening_ms(DAYS[0])
            late = trade._replace(trading_day=DAYS[0], ts_ms=at_ms)
            self.made[-1] = Made(late, self.now_ms)
            self.recorder.push([late])

    def midnight(self) -> None:
        if not self.day_at:
            self.day_at = 1
            self.now_ms = self.market.opening_ms(self.day) + 60_000
            self.counter = self.total = 0

    # --- the recorder ---

    def store(self) -> None:
        self.recorder.store(self.r.choice([1, 3, 10, 1000]))

    def store_all(self) -> None:
        self.recorder.store_left_over()
        self.recorder.store()

    def connected(self) -> None:
        self.recorder.feed.connected()

    def restart(self) -> None:
        """In order: what waits is stored."""
        self.store_all()
        self.recorder.writer.close()
        self.recorder = self.started()

    def kill(self) -> None:
        """What waits is lost, but for the spill."""
        self.spilled = self.recorder.left_over
        self.recorder.writer.close()
        self.recorder = self.started()

    def kill_storing(self) -> None:
        self.recorder.writer.close()
        self.recorder.killed_while_storing(self.r.randint(0, 40))
        self.spilled = self.recorder.left_over
        self.recorder = self.started()

    def spill(self) -> None:
        """The store is down, and the process ends: what waits is in the spill, what was learned is lost."""
        self.spilled = [*self.recorder.left_over, *self.recorder.rows]
        self.recorder.writer.close()
        self.recorder = self.started()

    def replay(self) -> None:
        """The spill is stored, and what it held is stored again: its mark of what is done was lost."""
        again = list(self.recorder.left_over)
        self.recorder.store_left_over()
        self.recorder.left_over = again

    def aside(self) -> None:
        """The day file is broken and set aside; what it held is asked for again."""
        self.recorder.writer.set_aside(self.day, "test")
        self.store_all()  # the feed learns of it when rows are stored again
        self.recorder.feed.resync(self.recorder.tracks(self.now_ms))

    # --- what is true ---

    def stored(self) -> Counter[Content]:
        paths = [path for day in DAYS if (path := self.data_root / f"{day}.db").exists()]
        return Counter(content_of(trade) for path in paths for trade in iter_ticks(path, SYMBOL))

    def broken(self) -> list[str]:
        """The promises that do not hold at the end."""
        made, stored = Counter(content_of(made_trade.trade) for made_trade in self.made), self.stored()
        shown = Counter(content_of(made_trade.trade) for made_trade in self.made[-self.limits.newest_rows :])
        mistakes = []
        if shown - stored:
            mistakes.append(f"lost {dict(shown - stored)}")
        if stored - made:
            mistakes.append(f"doubled {dict(stored - made)}")
        for day in DAYS:
            path = self.data_root / f"{day}.db"
            if path.exists():
                mistakes += self._broken_words(day, path, made - stored)
        return mistakes

    def _broken_words(self, day: str, path: Path, absent: Counter[Content]) -> list[str]:
        row = next((row for row in reader.coverage(path) if row.symbol == SYMBOL), None)
        missing = sum(count for content, count in absent.items() if content[0] == day)
        if row is None:
            return []
        until_ms = row.verified_until_ms or 0
        mistakes = []
        known = [
            made_trade.trade
            for made_trade in self.made
            if made_trade.trade.trading_day == day and made_trade.at_ms < until_ms
        ]
        stored_now = Counter(content_of(trade) for trade in iter_ticks(path, SYMBOL))
        if row.state == "proven" and Counter(map(content_of, known)) - stored_now:
            mistakes.append(f"false proven {day}: {dict(Counter(map(content_of, known)) - stored_now)}")
        if row.state == "missing" and not missing:
            mistakes.append(f"false missing {day}: {row.missing_ticks} ({row.holes}, {row.reason})")
        if self.spec.market == "TW":
            units = {(t.trading_day, t.seq or 0): t.volume or 0 for t in iter_ticks(path, SYMBOL)}
            taken = sorted((seq - volume + 1, seq) for (_, seq), volume in units.items())
            end = max(
                (made_trade.trade.seq or 0 for made_trade in self.made if made_trade.trade.trading_day == day),
                default=0,
            )
            gaps = missing_units(taken, end)
            if bool(gaps) != bool(missing):
                mistakes.append(f"the total of {day} says {gaps}, and {missing} are missing")
        return mistakes


def play(seed: int, data_root: Path) -> Ledger:
    ledger = Ledger(seed, data_root)
    ledger.run()
    return ledger
