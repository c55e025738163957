"""One ``.scid`` file that Sierra Chart writes to, as the ticks that are not stored yet. Lives on the source's thread.

Where to begin is told by what is stored: with the symbol's newest stored day, each record of which is held against the
rows of that day, so that a restart loses nothing and stores nothing twice; of a symbol of which nothing is stored, with
the newest day of its file (``hk-tickctl import`` brings the years before). A file that was made anew or cut is held
against all recent days again, since trades that were downloaded may carry other microseconds than they had live.

A day of bars is refused: what follows its first bar is not read, and its reason stands in ``problem``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.core.errors import RejectCode
from hk_tick_collector.core.facts import Replayed
from hk_tick_collector.records.tick import PUSH_TYPE_BACKFILL, PUSH_TYPE_PUSH, RejectedTick, Tick
from hk_tick_collector.sources.sierra.against import AgainstStored
from hk_tick_collector.sources.sierra.filedays import Days
from hk_tick_collector.sources.sierra.growing import START, Look, Position, last_time_us, look, position_at
from hk_tick_collector.sources.sierra.mapping import TradeMapper, reject
from hk_tick_collector.sources.sierra.naming import Instrument
from hk_tick_collector.sources.sierra.scid import MARKS, Kind, Layout, kind_of, unix_us
from hk_tick_collector.sources.stored import StoredDays

CHECK_RECORDS = 20_000  # of a day that is over, held against its rows at a time
DAY_AFTER_MS = 60_000  # so long after its last moment a day is over
_LATEST_AHEAD_US = 86_400_000_000

ADVICE = (
    "set Intraday Data Storage Time Unit to 1 Tick in Sierra Chart's data settings, delete the file there and download "
    "it again"
)


class Step(NamedTuple):
    """What one look at the file brought."""

    ticks: list[Tick]
    rejected: list[RejectedTick]
    more: bool  # the file holds more already


class Following:
    """``problem``: why the file cannot be recorded now, None while it can."""

    def __init__(
        self, path: Path, instrument: Instrument, market: Days, stored: StoredDays, now_ms: Callable[[], int]
    ) -> None:
        self.path = path
        self.instrument = instrument
        self.problem: str | None = None
        self._market = market
        self._stored = stored
        self._now_ms = now_ms
        self._position: Position | None = None
        self._is_anew = False  # the file was read before, and is another one now
        self._day = ""
        self._from_us = self._until_us = 0
        self._mapper: TradeMapper | None = None
        self._compare: set[str] = set()  # days of which rows are stored
        self._against: AgainstStored | None = None
        self._held: list[Tick] = []  # the last second's, while rows are compared: more of it may come
        self._bars: set[str] = set()
        self._is_live = False  # the file's end was reached: what comes now is being traded

    @property
    def begins(self) -> bool:
        """Will the next step look at what is stored? Then nothing may be on its way there."""
        return self._position is None

    def begin_again(self) -> None:
        """Nothing of what was read is relied upon any more."""
        self._is_anew = self._is_anew or self._position is not None
        self._position, self._is_live = None, False
        self._held.clear()
        self._bars.clear()
        self._against = None
        self._day, self._from_us, self._until_us = "", 0, 0

    def step(self, max_records: int) -> Step:
        """The records behind the last step. OSError, ScidError, StoreError, OtherPrices: ``begin_again``, later."""
        if self._position is None:
            self._position = self._beginning()
        part = look(self.path, self._position, max_records)
        if part.began_anew:
            self.begin_again()
            return Step([], [], more=True)
        if part.layout is None:
            return Step([], [], more=False)
        step = self._mapped(part, part.layout)
        self._position = part.position
        return step

    def _beginning(self) -> Position:
        days = self._stored.days(self.instrument.symbol)
        self._compare = set(days)
        first_day = days[0 if self._is_anew else -1] if days else self._newest_day()
        if first_day is None:
            return START
        return position_at(self.path, self._market.day_bounds(first_day)[0] * 1000)

    def _newest_day(self) -> str | None:
        last_us = last_time_us(self.path)
        if last_us is None or not 0 < last_us < self._latest_us():
            return None
        return self._market.trading_day(last_us // 1000)

    def _latest_us(self) -> int:
        return self._now_ms() * 1000 + _LATEST_AHEAD_US

    def _mapped(self, part: Look, layout: Layout) -> Step:
        ticks: list[Tick] = []
        rejected: list[RejectedTick] = []
        size, now_ms = layout.record_bytes, self._now_ms()
        push_type = PUSH_TYPE_PUSH if self._is_live and not part.more else PUSH_TYPE_BACKFILL
        self._is_live = not part.more
        for begin, end in self._stretches(part, layout, ticks, rejected):
            if self._day in self._bars or self._mapper is None:
                continue
            self._mapper.recv_ts_ms, self._mapper.push_type = now_ms, push_type
            mapped = self._mapper.map(layout.records.iter_unpack(part.data[begin * size : end * size]))
            ticks += self._new(mapped.ticks)
            rejected += self._not_known(mapped.rejected)
        if not part.data:
            ticks += self._flush()
        return Step(ticks, rejected, part.more)

    def _stretches(
        self, part: Look, layout: Layout, ticks: list[Tick], rejected: list[RejectedTick]
    ) -> Iterator[tuple[int, int]]:
        """Records that follow each other and are of one day, which is entered before they are given."""
        begin = index = 0
        latest_us = self._latest_us()
        for record in layout.records.iter_unpack(part.data):
            time_us = unix_us(record[0])
            if not self._from_us <= time_us < self._until_us:
                if index > begin:
                    yield begin, index
                begin = index
                if not 0 < time_us < latest_us:
                    reason = "its time is none that a trade of this file can have"
                    rejected.append(reject(self.instrument.symbol, record, RejectCode.TIME, reason, self._now_ms()))
                    begin = index + 1
                else:
                    ticks += self._flush()
                    self._enter(time_us)
            if (record[5] > 1 or record[1] not in MARKS) and kind_of(record) is not Kind.TRADE:
                self._refuse_day()
            index += 1
        if index > begin:
            yield begin, index

    def _enter(self, time_us: int) -> None:
        day = self._market.trading_day(time_us // 1000)
        from_ms, until_ms = self._market.day_bounds(day)
        self._day, self._from_us, self._until_us = day, from_ms * 1000, until_ms * 1000
        is_stored = day in self._compare
        self._mapper = TradeMapper(self.instrument, day, self._now_ms())
        self._against = AgainstStored(self._stored.rows(self.instrument.symbol, day)) if is_stored else None

    def _refuse_day(self) -> None:
        if self._day not in self._bars:
            self._bars.add(self._day)
            self.problem = f"{self.path.name} holds bars, not trades, on {self._day}: {ADVICE}"

    def _new(self, ticks: list[Tick]) -> list[Tick]:
        """Those that are not stored; of a day that is compared without those of its last second so far."""
        if self._against is None:
            return ticks
        ticks = self._held + ticks
        if not ticks:
            return ticks
        second = ticks[-1].ts_ms // 1000
        at = len(ticks)
        while at and ticks[at - 1].ts_ms // 1000 == second:
            at -= 1
        self._held = ticks[at:]
        new = list(self._against.new(ticks[:at]))
        return new if self._against.is_behind else new + self._flush()

    def _flush(self) -> list[Tick]:
        held, self._held = self._held, []
        if not held or self._against is None:
            return held
        new = list(self._against.new(held))
        if not self._against.is_behind:
            self._against = None  # the rest of the day is new
        return new

    def _not_known(self, rejected: list[RejectedTick]) -> list[RejectedTick]:
        """Those that no earlier reading has put into the quarantine: behind what is stored."""
        against = self._against
        if against is None:
            return rejected
        if against.is_behind:
            return []
        return [tick for tick in rejected if unix_us(int(str(tick.raw["time"]))) // 1000 > against.last_ms]

    # --- a day that is over ---

    def is_over(self, day: str) -> bool:
        """Can no trade of the day come any more?"""
        return self._now_ms() >= self._market.day_bounds(day)[1] + DAY_AFTER_MS

    def has_later_than(self, day: str) -> bool:
        """Does the file go on behind the day, so that Sierra Chart has been at work since?"""
        last_us = last_time_us(self.path)
        return last_us is not None and last_us >= self._market.day_bounds(day)[1] * 1000

    def hold_against(self, day: str, on_new: Callable[[list[Tick]], None]) -> Replayed | None:
        """Read a day that is over once more and hold each record against the rows. None when it is not known to be
        equal: it holds what is no trade, or what was not stored (``on_new`` takes it)."""
        reading = _DayReading(self.path, self.instrument, self._market.day_bounds(day), day, self._now_ms())
        new_rows = 0
        symbol = self.instrument.symbol
        new = AgainstStored(self._stored.rows(symbol, day)).new(reading.ticks())
        while batch := list(islice(new, CHECK_RECORDS)):
            new_rows += len(batch)
            on_new(batch)
        if new_rows or not reading.is_whole or day in self._bars:
            return None
        digest = reading.digest.hexdigest()
        return Replayed(symbol, day, self.path.name, reading.records, digest, self._now_ms())


class _DayReading:
    """A day of a file, read from its first record to its last."""

    def __init__(self, path: Path, instrument: Instrument, bounds: tuple[int, int], day: str, now_ms: int) -> None:
        self._path = path
        self._from_us, self._until_us = bounds[0] * 1000, bounds[1] * 1000
        self._mapper = TradeMapper(instrument, day, now_ms)
        self.digest = hashlib.sha256()
        self.records = 0
        self.is_whole = False

    def ticks(self) -> Iterator[Tick]:
        """All of them, until one is none, or the file does not stand still."""
        position = position_at(self._path, self._from_us)
        while True:
            part = look(self._path, position, CHECK_RECORDS)
            if part.layout is None or part.began_anew:
                return
            end = _records_before(part, part.layout, self._until_us)
            data = part.data[: end * part.layout.record_bytes]
            self.digest.update(data)
            self.records += end
            mapped = self._mapper.map(part.layout.records.iter_unpack(data))
            if mapped.rejected:
                return
            yield from mapped.ticks
            position = part.position
            if not part.more or len(data) < len(part.data):
                self.is_whole = True
                return


def _records_before(part: Look, layout: Layout, until_us: int) -> int:
    """How many of the records of a look come before the first one of ``until_us`` or later."""
    if not part.data:
        return 0
    last = layout.records.unpack_from(part.data, len(part.data) - layout.record_bytes)
    if unix_us(last[0]) < until_us:
        return len(part.data) // layout.record_bytes
    for index, record in enumerate(layout.records.iter_unpack(part.data)):
        if unix_us(record[0]) >= until_us:
            return index
    return len(part.data) // layout.record_bytes
