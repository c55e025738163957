"""A feed's tracks before a real day file: pushes and answers go in, and the file says what it claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hk_tick_collector.core.errors import RejectCode
from hk_tick_collector.core.facts import Fact
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.tick import PUSH_TYPE_POLL, RejectedTick, Tick, seq_counter
from hk_tick_collector.records.views import without_sequences
from hk_tick_collector.sources.continuity import Continuity
from hk_tick_collector.sources.futu import spec
from hk_tick_collector.sources.pulled import Answer, Question
from hk_tick_collector.sources.source import UnreadRow
from hk_tick_collector.store import reader
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.reader import CoverageRow
from hk_tick_collector.store.tracks import stored_tracks
from hk_tick_collector.store.writer import DayFileWriter
from tests.stored import iter_ticks

SYMBOL, OTHER = "HK.00700", "HK.00005"
DAY, TOMORROW, YESTERDAY = "20261120", "20261123", "20261119"
OPEN_SEC = day_start_ms(DAY) // 1000 + 34_200  # 09:30 in Hong Kong


def tick(counter: int, sec: float = 0.0, *, symbol: str = SYMBOL, day: str = DAY, price: float = 1.0) -> Tick:
    """A tick ``sec`` seconds behind the opening; the second of its sequence is its own."""
    ts_ms = round((OPEN_SEC + sec) * 1000) + (day_start_ms(day) - day_start_ms(DAY))
    return Tick(
        symbol, ts_ms, price, 100, 100.0, "BUY", (ts_ms // 1000) << 32 | counter, "AUTO_MATCH", "push", day,
        day_start_ms(DAY) + 36_000_000, None, None, None,
    )  # fmt: skip


def run(first: int, last: int, sec: float = 0.0, *, symbol: str = SYMBOL, day: str = DAY) -> list[Tick]:
    """Ticks ``first``..``last``, ten a second from ``sec`` on."""
    return [tick(n, sec + (n - first) / 10, symbol=symbol, day=day) for n in range(first, last + 1)]


class Unreadable(int):
    """A row that cannot be read, with its sequence (0: none)."""


def unreadable(counter: int, sec: float = 0.0) -> Unreadable:
    return Unreadable(tick(counter, sec).seq)


class Desk:
    """Continuity, and a writer that stores what it hands on. The clock stands where the test puts it."""

    def __init__(self, data_root: Path) -> None:
        self.data_root = data_root
        self.facts: list[Fact] = []
        self.now_ms = day_start_ms(DAY) + 36_000_000
        self.continuity = Continuity(self.facts.extend, spec.HK)
        self._writer = DayFileWriter(data_root, SqliteOptions())
        self.continuity.connected()

    def restarted(self, wanted: Sequence[str] = (SYMBOL, OTHER), today: str = DAY) -> Desk:
        """Another process on the same files."""
        self._store([])
        self._writer.close()
        desk = Desk.__new__(Desk)
        desk.data_root, desk.facts, desk.now_ms = self.data_root, [], self.now_ms
        desk.continuity = Continuity(desk.facts.extend, spec.HK)
        desk._writer = DayFileWriter(self.data_root, SqliteOptions())
        desk.continuity.seed(stored_tracks(self.data_root, wanted, 3, today), wanted)
        desk.continuity.connected()
        return desk

    def restarted_blind(self) -> Desk:
        """Another process, which could not read the day file when it started."""
        desk = self.restarted()
        desk.continuity = Continuity(desk.facts.extend, spec.HK)
        desk.continuity.seed({}, (SYMBOL, OTHER), {DAY})
        desk.continuity.connected()
        return desk

    def look_again(self) -> None:
        """The file can be read by now."""
        self.coverage()
        self.continuity.resync(stored_tracks(self.data_root, (SYMBOL, OTHER), 3, DAY))

    def set_aside(self) -> None:
        """The day file is broken: what it held is not stored any more, and the feed learns of it."""
        self._writer.set_aside(DAY, "test")
        self.continuity.resync(stored_tracks(self.data_root, (SYMBOL, OTHER), 3, DAY))

    def killed(self, wanted: Sequence[str] = (SYMBOL, OTHER)) -> Desk:
        """Another process on the same files, which do not know what was learned since the last rows were stored."""
        self.facts.clear()
        return self.restarted(wanted)

    def push(self, ticks: Iterable[Tick]) -> None:
        """Pushed in one message."""
        rows = list(ticks)
        if rows and rows[0].symbol in self.continuity.unkeyed:
            rows = without_sequences(rows, self.continuity.unkeyed[rows[0].symbol])
        self.continuity.tell_interruptions(rows)
        self._store(rows)
        self.continuity.observe_push(rows, 1.0)

    def push_to_spill(self, ticks: Iterable[Tick]) -> list[Tick]:
        """Pushed while the store is down; what was learned waits for the store, too."""
        rows = list(ticks)
        self.continuity.tell_interruptions(rows)
        self.continuity.observe_push(rows, 1.0)
        return rows

    def unspill(self, rows: Sequence[Tick]) -> None:
        """The store works, and takes rows out of the spill that an earlier process left there."""
        self.continuity.tell_left_over(rows)
        self._store(rows)

    def push_unreadable(self, row: Unreadable) -> None:
        raw = {"sequence": int(row)} if row else {}
        self.continuity.observe_unread([RejectedTick(SYMBOL, "bad", raw, self.now_ms, RejectCode.TIME)])

    def ask(self, asked_rows: int = 1000, symbol: str = SYMBOL) -> Question:
        return self.continuity.ask(symbol, asked_rows, self.now_ms)

    def answer(self, question: Question, rows: Sequence[Tick | Unreadable]) -> int:
        """OpenD answers; returns how many rows were handed on to the store."""
        ticks = [row._replace(push_type=PUSH_TYPE_POLL) for row in rows if isinstance(row, Tick)]
        unread = [UnreadRow(at, int(row)) for at, row in enumerate(rows) if isinstance(row, Unreadable)]
        taken = self.continuity.take(Answer(question, ticks, unread, self.now_ms))
        self._store(taken.ticks)
        return len(taken.ticks)

    def pull(self, rows: Sequence[Tick | Unreadable], asked_rows: int = 1000, symbol: str = SYMBOL) -> int:
        """OpenD is asked now and shows the newest of ``rows``."""
        return self.answer(self.ask(asked_rows, symbol), rows[-asked_rows:])

    def give_up(self) -> None:
        for hole in self.continuity.holes():
            self.continuity.give_up(hole, self.now_ms)

    def later(self, sec: float) -> None:
        self.now_ms += round(sec * 1000)

    def coverage(self, symbol: str = SYMBOL, day: str = DAY) -> CoverageRow:
        self._store([])
        return next(row for row in reader.coverage(self.data_root / f"{day}.db") if row.symbol == symbol)

    def state(self, symbol: str = SYMBOL, day: str = DAY) -> str:
        return self.coverage(symbol, day).state

    def reason(self) -> str:
        return self.coverage().reason or ""

    def stored(self, symbol: str = SYMBOL, day: str = DAY) -> list[Tick]:
        return list(iter_ticks(self.data_root / f"{day}.db", symbol))

    def counters(self) -> list[int]:
        return sorted(seq_counter(tick.seq) for tick in self.stored() if tick.seq is not None)

    def _store(self, ticks: Sequence[Tick]) -> None:
        facts = list(self.facts)
        self.facts.clear()
        self._writer.write(ticks, facts)
