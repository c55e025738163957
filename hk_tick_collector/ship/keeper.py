"""Whole days: those that were never sent, and those whose copy has to be proven.

A day is looked at when its files have not changed for a while, and again whenever they have. What is found equal is
noted, here and there; what is not is brought anew. Notes of days that grow are sent once a minute. What fails is set
aside for a while that grows (``aside``), and the other days go on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from hk_tick_collector.clickhouse.connection import EngineAway, EngineLost, EngineRefused
from hk_tick_collector.clickhouse.tables import NOTES
from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock, SystemClock
from hk_tick_collector.core.errors import NoData, RecorderError, StoreBusy, StoreError
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.ship.aside import Aside
from hk_tick_collector.ship.copies import Copies, Recorded, differing, place_of, recorded
from hk_tick_collector.ship.counts import ShipCounts
from hk_tick_collector.ship.holds import Holds
from hk_tick_collector.ship.marks import files_mark
from hk_tick_collector.ship.state import State
from hk_tick_collector.ship.states import StatesToShip, states_to_ship
from hk_tick_collector.store.companions import is_closed
from hk_tick_collector.store.layout import day_file
from hk_tick_collector.store.position import MAX_PLACES, Place

LOOK_SEC = 5.0
SETTLED_SEC, OPEN_SETTLED_SEC = 60.0, 900.0  # without a change, of a file that is closed, and of one that is not
NOTES_SEC = 60.0
_NOTES, _STAGES = "notes", "stages"
MIN_ASIDE_SEC, MAX_ASIDE_SEC = 10.0, 600.0  # until what failed is tried again
PATIENT_TIMES = 3  # failures in a row, which time alone may heal; after more somebody is told
MIN_WAIT_SEC, MAX_WAIT_SEC = 1.0, 60.0

_log = logging.getLogger(__name__)


class NotYet(RecorderError):
    """Rows of the day are still on their way: it cannot be compared now."""


class NotesFailed(StoreError):
    """The day's notes cannot be read. Its ticks were compared."""


class Keeper:
    """Looks after whole days. All calls come from one thread, another one than ``Live``'s."""

    def __init__(
        self,
        days: Catalog,
        copies: Copies,
        state: State,
        *,
        counts: ShipCounts | None = None,
        holds: Holds | None = None,
        clock: Clock | None = None,
        settled_sec: float = SETTLED_SEC,
        open_settled_sec: float = OPEN_SETTLED_SEC,
    ) -> None:
        self._days, self._copies, self._state = days, copies, state
        self._states = {states.word: states for states in states_to_ship(days, copies.engine, copies.recorder)}
        self.counts = counts or ShipCounts()
        self._holds = holds or Holds()
        self._clock = clock or SystemClock()
        self._backoff = Backoff(MIN_WAIT_SEC, MAX_WAIT_SEC)
        self._settled_sec, self._open_settled_sec = settled_sec, open_settled_sec
        self._seen: dict[str, tuple[str, float]] = {}  # mark, and since when
        self._notes_at: dict[str, float] = {}
        self._count_notes_at_sec = 0.0
        self._aside = Aside(self._clock, MIN_ASIDE_SEC, MAX_ASIDE_SEC)
        self._said = RateLimitedLog(_log, MAX_ASIDE_SEC)

    def run(self, stop: threading.Event) -> None:
        """Until ``stop``."""
        while not stop.is_set():
            try:
                self.look(stop)
            except (EngineAway, EngineRefused):  # ``look`` has told of it
                self._count_notes_at_sec = 0.0  # it may have died, and be there again with notes that were replaced
                stop.wait(self._backoff.next_sec())
            except (StoreError, OSError) as exc:
                done = f"looked again after {LOOK_SEC:.0f} s"
                self._said.log(logging.ERROR, "ship_files", what="the list of days", reason=str(exc), done=done)
                stop.wait(LOOK_SEC)
            else:
                self._tell_engine()
                self._backoff.reset()
                stop.wait(LOOK_SEC)

    def look(self, stop: threading.Event | None = None) -> int:
        """Look at every day once, the newest first, and do what is due; how many were verified. EngineAway,
        EngineRefused: the rest comes with the next call, and what failed after that."""
        done, days = 0, set(self._days.days())
        beside = [(day, states) for states in self._states.values() for day in states.days()]
        self._forget_others(
            {_NOTES, _STAGES, *days, *map(_notes_of, days), *(states.name_of(day) for day, states in beside)}
        )
        for day in sorted({*days, *(day for day, _ in beside)}, reverse=True):
            if stop is not None and stop.is_set():
                break
            if day in days:
                self._tried(day, _notes_of(day), self._send_notes)
                done += self._tried(day, day, self._look_at)
            for states in [states for of_day, states in beside if of_day == day]:
                self._tried(day, states.name_of(day), partial(self._look_at_states, states))
        if self._clock.monotonic() >= self._count_notes_at_sec:
            self._tried("", _NOTES, self._mend_notes)
            self._tried("", _STAGES, self._clear_stages)
            self._count_notes_at_sec = self._clock.monotonic() + NOTES_SEC
        return done

    def _forget_others(self, names: set[str]) -> None:
        self._aside.keep(names)
        for name in self.counts.unequal_days.keys() - names:
            self._be_equal(name)

    def _tried(self, day: str, name: str, work: Callable[[str], int]) -> int:
        """What ``work`` with the day gives; 0 when it failed."""
        try:
            done = work(day)
        except (NotYet, NoData):  # NoData: its files went away since they were listed
            return 0
        except (EngineAway, EngineRefused) as exc:
            is_of_day = not isinstance(exc, EngineLost) or exc.was_reached
            is_lasting = is_of_day and self._aside.put(name, exc).times > PATIENT_TIMES
            self.counts.keeper.on(exc, name, is_refused=is_lasting)
            raise
        except (StoreError, OSError) as exc:
            self._set_aside(day, name, exc)
            return 0
        if done:
            self._aside.drop(name)
        return done

    def _tell_engine(self) -> None:
        """ClickHouse has taken what it was given in this look; does anything wait that it did not take before?"""
        failure, waits = self._aside.of_engine(), self.counts.keeper
        if failure is None or not isinstance(failure.error, (EngineAway, EngineRefused)):
            waits.over(self._backoff.attempts)
        else:
            waits.still(failure.error, failure.name, is_refused=failure.times > PATIENT_TIMES)

    def check(self, trading_day: str, *, heal: bool = True, is_alone: bool = False) -> str:
        """Compare a day with its copy; unless they are equal bring it anew, if ``heal``. What differed, in words; empty
        when they were equal. NotYet while rows are on their way; who ``is_alone``, with nobody who sends them, does not
        wait for that."""
        day = self._days.day(trading_day)
        mark = self.mark(trading_day)
        with ExitStack() as held:
            sent = self._state.places().get(trading_day)
            here = self._compared(day, sent, is_alone)
            different = differing(here.symbols, self._copies.there(trading_day))
            if different and heal:
                held.enter_context(self._holds.held(trading_day))
                sent = self._state.places().get(trading_day)
                here = self._brought(day)
            if not different or heal:
                self._send_all_notes(day)
                verified = self._copies.note_verified(day, here, self._clock.now_ms())
                if not self._state.verified(verified, mark, here.place, sent):
                    raise NotYet(f"rows of {trading_day} were sent meanwhile")
                self.counts.days_verified += 1
        return different

    def mark(self, day: str) -> str:
        """What a day's files look like."""
        return files_mark(self._days.data_root, self._days.archive_root, day)

    def _compared(self, day: Day, sent: Place | None, is_alone: bool) -> Recorded:
        """What is here, once all of it was sent."""
        newest = place_of(day)
        if is_alone:
            return recorded(day, newest)
        intent = self._state.intent()
        on_its_way = intent is not None and intent.place.day == day.trading_day
        if on_its_way or (newest is not None and sent is not None and sent.rowid < newest.rowid):
            raise NotYet(f"rows of {day.trading_day} are on their way")
        return recorded(day, newest)

    def _brought(self, day: Day) -> Recorded:
        """The day brought anew, while no row of it is sent."""
        intent = self._state.intent()
        if intent is not None and intent.place.day == day.trading_day:
            self._state.drop_intent()
        self._state.unproven(day.trading_day)
        self.counts.days_brought += 1
        return self._copies.bring(day)

    def _look_at(self, day: str) -> int:
        mark, now_sec = self.mark(day), self._clock.monotonic()
        if self._seen.get(day, ("", 0.0))[0] != mark:
            self._seen[day] = mark, now_sec
            self._aside.drop(day)
        if self._state.mark(day) == mark or not self._aside.is_due(day) or not self._is_due(day, now_sec):
            return 0
        known = self._state.mark(day) is not None or day in self._state.places()
        different = self.check(day)
        _log.info(event("ship_verified", day=day, brought=different or "no"))
        if different and known:
            self.counts.days_healed += 1
            _log.warning(event("ship_healed", day=day, reason=different))
        self._be_equal(day)
        return 1

    def _look_at_states(self, states: StatesToShip, day: str) -> int:
        """Compare a day's order books, or its broker queues, with their copy once their file is at rest, and bring them
        anew if need be."""
        name, mark, now_sec = states.name_of(day), states.mark(day), self._clock.monotonic()
        if self._seen.get(name, ("", 0.0))[0] != mark:
            self._seen[name] = mark, now_sec
            self._aside.drop(name)
        is_settled = now_sec - self._seen[name][1] >= self._settled_sec
        known = self._state.sent(states.word).mark(day)
        if known == mark or not is_settled or not self._aside.is_due(name):
            return 0
        different = self.check_states(states.word, day)
        _log.info(event("ship_verified", day=day, what=states.word, brought=different or "no"))
        if different and known is not None:
            _log.warning(event("ship_healed", day=day, what=states.word, reason=different))
        self._be_equal(name)
        return 1

    def check_states(self, kind: str, day: str, *, heal: bool = True, is_alone: bool = False) -> str:
        """As ``check``, of a day's ``books``, or its ``brokers``."""
        states, known = self._states[kind], self._state.sent(kind)
        with self._holds.held(states.name_of(day)):
            mark, end = states.mark(day), states.end(day)
            sent = known.places().get(day)
            if not is_alone and end is not None and sent is not None and sent.rowid < end.rowid:
                raise NotYet(f"{states.kind.file.noun} of {day} are on their way")
            if heal:
                known.unproven(day)
            # What is brought may have more than was sent: until it is verified nobody goes on behind that.
            begin = partial(known.arrived, day, None)
            checked = states.check(day, self._clock.now_ms(), heal=heal, begin=begin)
            if checked.verified is not None and states.mark(day) != mark:
                raise StoreBusy(f"the {states.kind.file.noun} of {day} were written to while they were compared")
            if checked.verified is not None:
                known.verified(checked.verified, mark, end, checked.notes)
                self.counts.days_verified_of[kind] += 1
        return checked.different

    def _is_due(self, day: str, now_sec: float) -> bool:
        """Has nobody written to it for a while? A day of the past that was never sent need not wait."""
        db = day_file(self._days.data_root, day)
        is_over = not db.exists() or is_closed(db)
        is_sent_live = day in self._state.places() or day in self._days.live_days()[-MAX_PLACES:]
        if is_over and not is_sent_live:
            return True
        return now_sec - self._seen[day][1] >= (self._settled_sec if is_over else self._open_settled_sec)

    def _send_notes(self, trading_day: str) -> int:
        """The notes of a day that grows, when they have changed. Those of the others go with their verification."""
        now_sec = self._clock.monotonic()
        if trading_day not in self._days.live_days()[-MAX_PLACES:] or now_sec < self._notes_at.get(trading_day, 0.0):
            return 0
        if not self._aside.is_due(_notes_of(trading_day)):
            return 0
        self._notes_at[trading_day] = now_sec + NOTES_SEC
        known = self._state.notes(trading_day)
        there = self._copies.send_notes(self._days.day(trading_day), known)
        if there.digest != known:
            self._state.noted(trading_day, *there)
        return 1

    def _send_all_notes(self, day: Day) -> None:
        try:
            there = self._copies.send_notes(day, None)
        except (StoreError, OSError) as exc:
            raise NotesFailed(f"its notes: {exc}") from exc
        self._state.noted(day.trading_day, *there)

    def _clear_stages(self, _: str) -> int:
        """Behind the days of a look: what was left of one that is brought again is gone by then."""
        self._copies.clear_stages()
        return 1

    def _mend_notes(self, _: str) -> int:
        """Send notes again of which not as many are there as were sent: a server that was killed has those again that
        it had replaced minutes before. Those of a day whose files are gone stay as they are."""
        sent, there = self._state.note_rows(), self._copies.note_rows()
        reasons = {
            key: f"{there.get(key, 0)} rows of {key[0]} were there instead of {rows}"
            for key, rows in sent.items()
            if there.get(key, 0) != rows
        }
        wrong = {day: reason for (table, day), reason in reasons.items() if table in NOTES}
        for day in sorted(wrong.keys() & set(self._days.days())):
            self._mend(day, _notes_of(day), wrong[day], lambda day: self._send_all_notes(self._days.day(day)))
        for states in self._states.values():
            wrong = {day: reason for (table, day), reason in reasons.items() if table == states.copies.states.notes}
            for day in sorted(wrong.keys() & set(states.days())):
                self._mend(day, states.name_of(day), wrong[day], partial(self.check_states, states.word))
        return 1

    def _mend(self, day: str, name: str, reason: str, work: Callable[[str], object]) -> None:
        """Say so once it is done."""

        def worked(day: str) -> int:
            work(day)
            return 1

        if self._aside.is_due(name) and self._tried(day, name, worked):
            _log.warning(event("ship_healed", day=day, what="notes", reason=reason))

    def _set_aside(self, day: str, name: str, error: StoreError | OSError) -> None:
        """What cannot be read, or not be made equal, is tried again later; the others go on."""
        failure = self._aside.put(name, error)
        is_passing = isinstance(error, StoreBusy) and failure.times <= PATIENT_TIMES
        if name != _notes_of(day) and not isinstance(error, NotesFailed) and not is_passing:
            self.counts.unequal_days = {**self.counts.unequal_days, name: str(error)}
        done = f"the other days go on; this one is tried again, {MAX_ASIDE_SEC / 60:.0f} minutes later at the latest"
        self._said.log(logging.ERROR, "ship_day_failed", key=name, day=day, reason=str(error), done=done)

    def _be_equal(self, day: str) -> None:
        self.counts.unequal_days = {name: why for name, why in self.counts.unequal_days.items() if name != day}


def _notes_of(day: str) -> str:
    return f"notes of {day}"
