"""Order books, broker queues and snapshots to ClickHouse as they are stored, by the rules of ``live``: noted before
they are sent, and sent again as the same rows under the same token after an error or a death.

A push of a book there has its levels, so each shipment is read from the full rows before it. Two rows of one push are
two there: a day that is sent from its start is dropped there first. When nobody writes to its file any more ``Keeper``
proves it.

A row that cannot be decoded takes those of its symbol along, of books up to its next full row (a snapshot takes none):
they are said and left out, and all others go on. Such a day is never proven.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path

import pyarrow as pa

from hk_tick_collector.core.clock import Clock, SystemClock
from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreUnavailable
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.days.book_rows import Part
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.stored_states import Bodies
from hk_tick_collector.ship.counts import ShipCounts
from hk_tick_collector.ship.holds import Holds
from hk_tick_collector.ship.partition import Partition
from hk_tick_collector.ship.state import Intent, State
from hk_tick_collector.ship.states import FOLLOWED, StateCopies, days_of, is_at_rest, name_of
from hk_tick_collector.store.companions import Mark
from hk_tick_collector.store.follow import LIMIT_ROWS, Follower
from hk_tick_collector.store.followed import BOOKS
from hk_tick_collector.store.position import MAX_PLACES, Place, PositionLost, Row

MAX_BODY_BYTES = 16 * 1024 * 1024  # of the bodies of a shipment, and of BODY_ROWS more
BODY_ROWS = 10  # that are read at a time, where they have
OLD_DAYS_SEC = 30.0  # between two looks at days that are over
_FILES_SEC = 60.0
_SYMBOL = BOOKS.row.index("symbol")
_SETTLED_NS = 1_000_000_000  # a file that changed so recently may change again and look the same

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Taken:
    """Rows for a shipment, as a follower gave them, and the place behind them. Where they have bodies: ``unpacked``,
    the others' number by symbol in ``damaged``, and what was wrong with one of these."""

    behind: Place
    rows: list[Row] = field(default_factory=list)
    unpacked: list[Row] = field(default_factory=list)
    damaged: Counter[str] = field(default_factory=Counter)
    error: StoreCorrupt | None = None
    body_bytes: int = 0

    def unpack(self, rows: Sequence[Row], bodies: Bodies, path: Path) -> None:
        """A body that cannot be unpacked counts as it is: it is in memory, too."""
        for row in rows:
            try:
                self.unpacked.append(bodies.unpack(row, path))
                self.body_bytes += len(self.unpacked[-1][-1])
            except StoreCorrupt as exc:
                self.error = exc
                self.damaged[row[_SYMBOL]] += 1
                self.body_bytes += len(row[-1])


class LiveStates:
    """Sends what is stored of books, or of queues. All calls come from one thread, that of ``Live``."""

    def __init__(
        self,
        days: Catalog,
        copies: StateCopies,
        state: State,
        *,
        counts: ShipCounts | None = None,
        holds: Holds | None = None,
        clock: Clock | None = None,
        max_rows: int | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._old_look_at_sec = float("-inf")
        self._kind = copies.states.kind
        self._root, self._copies, self._sent = days.data_root, copies, state.sent(self._kind.word)
        self._days = days_of(self._kind, days.data_root, days.archive_root)
        self.counts = counts or ShipCounts()
        self._holds = holds or Holds()
        self._max_rows = max_rows or copies.stored.live_rows
        self._follower = Follower(days.data_root, kind=FOLLOWED[self._kind.word])
        self._ended: dict[str, tuple[Place, Mark]] = {}  # files at rest that had nothing more, as they looked then
        self._files_log = RateLimitedLog(_log, _FILES_SEC)

    def close(self) -> None:
        """Close the files."""
        self._follower.close()

    def step(self) -> int:
        """Send what is on its way, then the next pushes of each day that grows or was begun; how many rows that were.
        EngineAway, EngineRefused: the same rows are sent again by the next call.

        The files are let go behind it: a writer that closes a file which somebody reads leaves its WAL there, and the
        day would never look as if it were over."""
        try:
            return self._step()
        finally:
            self._follower.close()

    def _step(self) -> int:
        intent = self._sent.intent()
        sent = self._guarded(intent.place.day, lambda: self._resume(intent)) if intent is not None else 0
        if self._sent.intent() is not None:
            return sent
        known = self._sent.places()
        newest = self._days.live_days()[-MAX_PLACES:]
        self._ended = {day: ended for day, ended in self._ended.items() if day in newest or day in known}
        for day in self._days_to_read(newest, known):
            if day in known or not is_at_rest(self._kind, self._root, day):
                rows = self._guarded(day, partial(self._advance, day, known.get(day)))
                sent += rows
                if rows and day not in newest:
                    self._old_look_at_sec = float("-inf")  # as of ``Live``
        return sent

    def _days_to_read(self, newest: list[str], known: Iterable[str]) -> list[str]:
        """Oldest first; days that are over, and were begun, only now and then: the rest of one may be left."""
        now_sec = self._clock.monotonic()
        if now_sec < self._old_look_at_sec:
            return newest
        self._old_look_at_sec = now_sec + OLD_DAYS_SEC
        return sorted({*newest, *known})

    def _resume(self, intent: Intent) -> int:
        taken = self._take_behind(intent.place, intent.rows)
        if len(taken.rows) != intent.rows or taken.behind.rowid != intent.last_rowid:
            day = taken.behind.day
            _log.warning(
                event("ship_again", day=day, what=self._kind.word, reason="the rows on their way are others now")
            )
            self._sent.arrived(day, None)
            return 0
        return self._send(intent.place, taken)

    def _advance(self, day: str, place: Place | None) -> int:
        if place is None:
            with self._holds.sending(name_of(self._kind, day)) as is_free:
                if not is_free:
                    return 0
                Partition(self._copies.engine, day, self._copies.recorder).drop(self._copies.states.rows)
                place = Place(day)
                self._sent.arrived(day, place)
        mark = self._mark_at_rest(day)
        if mark is not None and self._ended.get(day) == (place, mark):
            return 0  # each look would prove the place anew, which reads all of a file that was copied or compacted
        taken = self._take_behind(place, self._max_rows, MAX_BODY_BYTES)
        if taken.rows:
            return self._send(place, taken)
        if mark is not None:
            self._ended[day] = place, mark
        return 0

    def _mark_at_rest(self, day: str) -> Mark | None:
        """What a file looks like that nobody writes to; None while it may change without a trace of it."""
        if not is_at_rest(self._kind, self._root, day):
            return None
        mark = Mark.of(self._kind.file_of(self._root, day))
        return mark if mark is not None and time.time_ns() - mark.changed_ns > _SETTLED_NS else None

    def _send(self, place: Place, taken: _Taken) -> int:
        rows, behind, copies = taken.rows, taken.behind, self._copies
        day = behind.day
        with self._holds.sending(name_of(self._kind, day)) as is_free:
            if not is_free or self._sent.places().get(day) != place:
                return 0  # it is being compared, or was replaced as a whole since
            self._sent.intend(place, behind.rowid, len(rows))
            batches, left_out_rows = self._decoded(place, taken)
            sent = sum(batch.num_rows for batch in batches)
            if sent + left_out_rows != len(rows):
                raise StoreBusy(f"{self._kind.file_of(self._root, day)} was exchanged while it was read")
            digest = hashlib.blake2b(repr(rows).encode(), digest_size=16).hexdigest()
            token = f"{copies.recorder}/{self._kind.word}/{day}/{rows[0][0]}-{rows[-1][0]}/{digest}"
            if batches:
                copies.engine.insert(copies.states.rows, copies.stream(batches, day), token=token)
            self._sent.arrived(day, behind)
        self.counts.rows_of[self._kind.word] += sent
        return len(rows)

    def _decoded(self, place: Place, taken: _Taken) -> tuple[list[pa.RecordBatch], int]:
        """The rows of a shipment; and how many are left out of it, since one of them, or of their symbol, cannot be
        decoded."""
        bodies = self._copies.stored.bodies
        if bodies is not None:
            if taken.error is not None:
                self._say_left_out(taken, taken.damaged, taken.error)
            return ([bodies.batch(taken.unpacked)] if taken.unpacked else []), taken.damaged.total()
        path = self._kind.file_of(self._root, taken.behind.day)
        read = partial(self._copies.stored.read, path, Part(after_no=place.rowid, until_no=taken.behind.rowid))
        try:
            return _filled(read()), 0
        except StoreCorrupt as exc:
            error = exc
        batches: list[pa.RecordBatch] = []
        left_out: Counter[str] = Counter()
        for symbol, rows in sorted(Counter(row[_SYMBOL] for row in taken.rows).items()):
            try:
                batches += _filled(read([symbol]))
            except StoreCorrupt as exc:
                left_out[symbol] = rows
                error = exc
        if left_out:
            self._say_left_out(taken, left_out, error)
        return batches, left_out.total()

    def _say_left_out(self, taken: _Taken, left_out: Counter[str], error: StoreCorrupt) -> None:
        rows, day = taken.rows, taken.behind.day
        symbols = ", ".join(sorted(left_out)[:5])
        reason = (
            f"of rows {rows[0][0]:,} to {rows[-1][0]:,}, {left_out.total():,} of {symbols} are left out, the others "
            f"go on ({error}): hk-tickctl verify once the day is over; such a day is not proven in ClickHouse"
        )
        self._files_log.log(logging.ERROR, "ship_files", key=f"{day} undecoded", what=self._kind.word, reason=reason)

    def _take_behind(self, place: Place, limit_rows: int, limit_bytes: float = inf) -> _Taken:
        taken, bodies = _Taken(place), self._copies.stored.bodies
        step_rows = LIMIT_ROWS if bodies is None else BODY_ROWS
        while len(taken.rows) < limit_rows and taken.body_bytes < limit_bytes:
            wanted_rows = min(step_rows, limit_rows - len(taken.rows))
            more, taken.behind = self._follower.read_in(taken.behind, wanted_rows)
            if not more:
                break
            taken.rows += more
            if bodies is not None:
                taken.unpack(more, bodies, self._kind.file_of(self._root, place.day))
        return taken

    def _guarded(self, day: str, work: Callable[[], int]) -> int:
        """What ``work`` gives; 0 when the file is in the way, which is said."""
        try:
            return work()
        except PositionLost as exc:
            _log.warning(event("ship_day", day=day, what=self._kind.word, reason=str(exc)))
            self._sent.arrived(day, None)
        except (StoreBusy, StoreUnavailable, StoreCorrupt) as exc:
            self._files_log.log(logging.ERROR, "ship_files", key=day, what=self._kind.word, reason=str(exc))
        return 0


def _filled(batches: Iterable[pa.RecordBatch]) -> list[pa.RecordBatch]:
    return [batch for batch in batches if batch.num_rows]
