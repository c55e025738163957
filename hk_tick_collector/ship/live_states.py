"""Order books, broker queues and snapshots to ClickHouse as they are stored, by the rules of ``live``: noted before
they are sent, and sent again as the same rows under the same token after an error or a death.

A push of a book there has its levels, so each shipment is read from the full rows before it. Two rows of one push are
two there: a day that is sent from its start is dropped there first. When nobody writes to its file any more ``Keeper``
proves it.

A row that cannot be decoded takes those of its symbol along, of books up to its next full row: they are said and left
out, and all others go on. Such a day is never proven.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf
from pathlib import Path

import pyarrow as pa

from hk_tick_collector.core.clock import Clock, SystemClock
from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreUnavailable
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.days.book_rows import Part
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.ship.counts import ShipCounts
from hk_tick_collector.ship.holds import Holds
from hk_tick_collector.ship.partition import Partition
from hk_tick_collector.ship.state import Intent, State
from hk_tick_collector.ship.states import FOLLOWED, StateCopies, days_of, is_at_rest, name_of
from hk_tick_collector.store.companions import Mark
from hk_tick_collector.store.follow import LIMIT_ROWS, Follower
from hk_tick_collector.store.followed import BOOKS
from hk_tick_collector.store.position import MAX_PLACES, Place, PositionLost, Row

MAX_BODY_BYTES = 16 * 1024 * 1024  # of the rows of a shipment that have bodies, and of BODY_ROWS more
BODY_ROWS = 10  # that are read at a time, where they have
OLD_DAYS_SEC = 30.0  # between two looks at days that are over
_FILES_SEC = 60.0
_SYMBOL = BOOKS.row.index("symbol")
_SETTLED_NS = 1_000_000_000  # a file that changed so recently may change again and look the same

_log = logging.getLogger(__name__)


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
        rows, behind = self._rows_behind(intent.place, intent.rows)
        if len(rows) != intent.rows or behind.rowid != intent.last_rowid:
            _log.warning(
                event("ship_again", day=behind.day, what=self._kind.word, reason="the rows on their way are others now")
            )
            self._sent.arrived(behind.day, None)
            return 0
        return self._send(intent.place, rows, behind)

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
        rows, behind = self._rows_behind(place, self._max_rows, MAX_BODY_BYTES)
        if rows:
            return self._send(place, rows, behind)
        if mark is not None:
            self._ended[day] = place, mark
        return 0

    def _mark_at_rest(self, day: str) -> Mark | None:
        """What a file looks like that nobody writes to; None while it may change without a trace of it."""
        if not is_at_rest(self._kind, self._root, day):
            return None
        mark = Mark.of(self._kind.file_of(self._root, day))
        return mark if mark is not None and time.time_ns() - mark.changed_ns > _SETTLED_NS else None

    def _send(self, place: Place, rows: list[Row], behind: Place) -> int:
        day, copies = behind.day, self._copies
        with self._holds.sending(name_of(self._kind, day)) as is_free:
            if not is_free or self._sent.places().get(day) != place:
                return 0  # it is being compared, or was replaced as a whole since
            self._sent.intend(place, behind.rowid, len(rows))
            path, part = self._kind.file_of(self._root, day), Part(after_no=place.rowid, until_no=behind.rowid)
            batches, left_out = self._decoded(path, day, part, rows)
            sent = sum(batch.num_rows for batch in batches)
            if sent + sum(row[_SYMBOL] in left_out for row in rows) != len(rows):
                raise StoreBusy(f"{path} was exchanged while it was read")
            digest = hashlib.blake2b(repr(rows).encode(), digest_size=16).hexdigest()
            token = f"{copies.recorder}/{self._kind.word}/{day}/{rows[0][0]}-{rows[-1][0]}/{digest}"
            if batches:
                copies.engine.insert(copies.states.rows, copies.stream(batches, day), token=token)
            self._sent.arrived(day, behind)
        self.counts.rows_of[self._kind.word] += sent
        return len(rows)

    def _decoded(
        self, path: Path, day: str, part: Part, rows: Sequence[Row]
    ) -> tuple[list[pa.RecordBatch], frozenset[str]]:
        """The rows of a shipment; and the symbols that are left out of it, since a row of theirs cannot be decoded."""
        read = self._copies.stored.read
        try:
            return _filled(read(path, part)), frozenset()
        except StoreCorrupt as exc:
            error = exc
        batches: list[pa.RecordBatch] = []
        left_out: list[str] = []
        for symbol in sorted({row[_SYMBOL] for row in rows}):
            try:
                batches += _filled(read(path, part, [symbol]))
            except StoreCorrupt as exc:
                left_out.append(symbol)
                error = exc
        if left_out:
            reason = (
                f"rows {rows[0][0]:,} to {rows[-1][0]:,} of {', '.join(left_out[:5])} are left out, the others go on "
                f"({error}): hk-tickctl verify once the day is over; such a day is not proven in ClickHouse"
            )
            self._files_log.log(
                logging.ERROR, "ship_files", key=f"{day} undecoded", what=self._kind.word, reason=reason
            )
        return batches, frozenset(left_out)

    def _rows_behind(self, place: Place, limit_rows: int, limit_bytes: float = inf) -> tuple[list[Row], Place]:
        rows: list[Row] = []
        taken_bytes = 0
        step_rows = LIMIT_ROWS if self._copies.stored.body_bytes is None else BODY_ROWS
        while len(rows) < limit_rows and taken_bytes < limit_bytes:
            more, place = self._follower.read_in(place, min(step_rows, limit_rows - len(rows)))
            if not more:
                break
            rows += more
            taken_bytes += self._body_bytes(more, place.day)
        return rows, place

    def _body_bytes(self, rows: Sequence[Row], day: str) -> int:
        """What of them is of no bounded size. One that cannot be unpacked is left out when they are decoded."""
        body_bytes, taken_bytes = self._copies.stored.body_bytes, 0
        if body_bytes is not None:
            path = self._kind.file_of(self._root, day)
            for row in rows:
                with contextlib.suppress(StoreCorrupt):
                    taken_bytes += body_bytes(row, path)
        return taken_bytes

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
