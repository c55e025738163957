"""Follow the day files of a data root, or of several as one, and hand each frame to a sink, for ever.

A frame is at most ``frame_rows`` rows of one day, of several data roots so many of each; at most ``max_frames`` go to
the sink at once (``kinds.Relayed``), so memory is bounded however far behind it is. Whatever fails on the sink's side
is answered in one way: wait, ask the sink how far it has come, go on from there.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from hk_tick_collector.archive.snapshots import SnapshotDays
from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreUnavailable
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.text import counted
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.joined_follow import JoinedBatch, JoinedFollower
from hk_tick_collector.days.joined_snapshots import joined_snapshots
from hk_tick_collector.relay.counts import RelayCounts
from hk_tick_collector.relay.kinds import TICK_RELAY, Relayed
from hk_tick_collector.relay.sink import Frame, Sink, SinkAway, SinkMoved
from hk_tick_collector.store.follow import LOOK_SEC, Follower
from hk_tick_collector.store.layout import archive_dir
from hk_tick_collector.store.position import (
    DayChanged,
    JoinedPosition,
    Place,
    Position,
    PositionLost,
    Stand,
    parts_of,
)
from hk_tick_collector.store.snapshot_follow import SnapshotRows

MIN_WAIT_SEC, MAX_WAIT_SEC = 0.5, 30.0
_FILES_WAIT_SEC = 1.0
_FILES_PERIOD_SEC = 60.0

_log = logging.getLogger(__name__)

Days = Catalog | SnapshotDays
AnyFollower = Follower | JoinedFollower | SnapshotRows


class Stop(Protocol):
    """What ends a relay: a ``threading.Event``, or what asks one and more."""

    def is_set(self) -> bool:
        """Is it to end?"""

    def wait(self, timeout: float) -> bool:
        """Until it is to end, or for so many seconds; whether it is."""


def run(
    root: Path,
    sink: Sink,
    *,
    stop: Stop,
    look_sec: float = LOOK_SEC,
    backoff: Backoff | None = None,
    archive_root: Path | None = None,
    counts: RelayCounts | None = None,
    beside: Sequence[tuple[Path, Path]] = (),
    relayed: Relayed = TICK_RELAY,
) -> None:
    """Relay until ``stop``. A sink that holds nothing gets the newest day from its start. The sink is closed.

    ``beside``: more data roots of the same market, each with its archive. All are followed as one: each trade, or
    snapshot, once.
    """
    days_of = Catalog if relayed is TICK_RELAY else SnapshotDays
    days = [days_of(root, archive_root or archive_dir(root)), *(days_of(*place) for place in beside)]
    waiting = _Waiting(backoff or Backoff(MIN_WAIT_SEC, MAX_WAIT_SEC), counts or RelayCounts())
    roots = ",".join(str(root_days.data_root) for root_days in days)
    _log.info(event("relay_started", data_root=roots, kind=relayed.word))
    try:
        while not stop.is_set():
            try:
                _relay(days, sink, stop, look_sec, waiting, relayed)
            except SinkMoved as exc:
                _log.warning(event("relay_moved", reason=str(exc)))
                stop.wait(MIN_WAIT_SEC)
            except SinkAway as exc:
                stop.wait(waiting.after(exc, in_put=False))
            except _PutRefused as exc:
                stop.wait(waiting.after(exc.error, in_put=True))
    finally:
        sink.close()


class _Waiting:
    """The waits for a sink that is away. Said once, and again only when it is away for another reason.

    Who may ask a sink may not always put: a refused ``put`` is over only with the next one that is taken.
    """

    def __init__(self, backoff: Backoff, counts: RelayCounts) -> None:
        self._backoff = backoff
        self.counts = counts
        self._said = ""
        self._refused_put = False

    def after(self, error: SinkAway, *, in_put: bool) -> float:
        """The seconds to wait now."""
        if str(error) != self._said:
            self._said = str(error)
            _log.error(event("relay_waits", reason=self._said))
        self._refused_put = in_put
        self.counts.waits += 1
        self.counts.is_waiting = True
        return self._backoff.next_sec()

    def over(self, *, in_put: bool) -> None:
        """The sink has answered, or taken something."""
        if self._refused_put and not in_put:
            return
        if self._said:
            _log.info(event("relay_goes_on", attempts=self._backoff.attempts))
        self._said, self._refused_put, self.counts.is_waiting = "", False, False
        self._backoff.reset()


class _PutRefused(Exception):
    """A ``put`` found the sink away."""

    def __init__(self, error: SinkAway) -> None:
        super().__init__(str(error))
        self.error = error


def _relay(days: Sequence[Days], sink: Sink, stop: Stop, look_sec: float, waiting: _Waiting, relayed: Relayed) -> None:
    stood = sink.where()
    waiting.over(in_put=False)
    with closing(_follower(days)) as follower:
        position = _position(stood, follower, sink, len(days), relayed.kind)
        _say_passed_over(days, position)
        _log.debug(event("relay_from", position=str(position)))
        files, reading = RateLimitedLog(_log, _FILES_PERIOD_SEC), _Reading(follower, relayed)
        while not stop.is_set():
            before = position
            try:
                frames, position = reading.next_frames(position)
            except PositionLost as exc:
                position = _onward(exc, sink, waiting.counts)
                continue
            except (StoreBusy, StoreUnavailable, StoreCorrupt) as exc:
                files.log(logging.ERROR, "relay_files", key=type(exc).__name__, reason=str(exc))
                stop.wait(_FILES_WAIT_SEC)
                continue
            if not frames:
                if position == before:
                    stop.wait(look_sec)
                continue
            _put(sink, frames)
            waiting.over(in_put=True)
            waiting.counts.note_put(frames)


def _follower(days: Sequence[Days]) -> AnyFollower:
    first = days[0]
    if isinstance(first, SnapshotDays):
        if len(days) > 1:
            return joined_snapshots([of.data_root for of in days], [of.was_end for of in days])
        return SnapshotRows(first.data_root, was_end=first.was_end)
    followers = [Follower(root_days.data_root, was_end=root_days.was_end) for root_days in days]
    return followers[0] if len(days) == 1 else JoinedFollower(followers, first.market)


def _put(sink: Sink, frames: list[Frame]) -> None:
    try:
        sink.put(frames)
    except SinkAway as exc:
        raise _PutRefused(exc) from exc


def _position(stood: Stand | None, follower: AnyFollower, sink: Sink, roots: int, kind: str) -> Stand:
    """Where to go on: behind what the sink holds, else at the newest day's start. What it holds of another number of
    data roots says nothing of these: that day begins again."""
    if stood is None:
        newest = ""
        with contextlib.suppress(StoreBusy, StoreUnavailable, StoreCorrupt):
            newest = follower.end().newest_day
        return _at_start(newest, roots, kind)
    if isinstance(stood, Position) and not stood.places:
        return stood if roots == 1 else JoinedPosition((stood,) * roots)
    if len(parts_of(stood)) == roots:
        return stood
    day = stood.newest_day
    reason = (
        f"it was filled out of {counted(len(parts_of(stood)), 'data root')}, and {roots} are followed now: the day "
        "begins again"
    )
    _log.warning(event("relay_day", day=day, reason=reason))
    sink.begin_again(day)
    return _at_start(day, roots, kind)


def _at_start(day: str, roots: int, kind: str) -> Stand:
    start = Position.at_start_of(day, kind) if day else Position(kind=kind)
    return start if roots == 1 else JoinedPosition((start,) * roots)


def _say_passed_over(days: Sequence[Days], position: Stand) -> None:
    for root_days, part in zip(days, parts_of(position), strict=True):
        for day in root_days.passed_over(part.newest_day) if part.newest_day else []:
            restore = f"hk-tickctl restore {day}" + ("" if len(days) == 1 else f" --data-root {root_days.data_root}")
            reason = f"the day was put away before it was relayed: {restore} and restart, or do without it"
            _log.warning(event("relay_day", day=day, reason=reason))


class _Reading:
    """What is there behind a position, frame by frame. Of several data roots what was read and is in no frame, since
    another one had it, is counted into the next one of that day."""

    def __init__(self, follower: AnyFollower, relayed: Relayed) -> None:
        self._follower = follower
        self._relayed = relayed
        self._passed_rows: dict[str, int] = {}
        self._told: list[dict[str, Any]] = []  # that goes with the next frame
        self._held: tuple[int, ...] = ()

    def next_frames(self, position: Stand) -> tuple[list[Frame], Stand]:
        """What is there now, and the position behind it: so much as makes ``max_frames`` at most, also of what another
        data root has given already, so that whoever asks hears of an order to end. An error behind the first frame
        comes again at the next look, when these are safe."""
        frames: list[Frame] = []
        for _ in range(self._relayed.max_frames):
            try:
                # Each kind of follower is given the positions that it gave.
                frame: Frame | None = self._follower.read_behind(position, self._relayed.frame_rows)  # type: ignore[arg-type]
            except (PositionLost, StoreBusy, StoreUnavailable, StoreCorrupt):
                if frames:
                    break
                raise
            if frame is None:
                break
            position = frame.position
            if isinstance(frame, JoinedBatch):
                self._say(frame)
                frame = self._counted(frame)
                if not frame.day:
                    break
            if frame.rows:
                frames.append(frame)
        return frames, position

    def _counted(self, frame: JoinedBatch) -> JoinedBatch:
        read_rows = sum(frame.read_rows) + self._passed_rows.pop(frame.day, 0)
        self._told += frame.told
        if frame.rows:
            told, self._told = tuple(self._told), []
            return frame._replace(read_rows=(read_rows,), told=told)
        if frame.day:
            self._passed_rows[frame.day] = read_rows
        return frame

    def _say(self, frame: JoinedBatch) -> None:
        for told in frame.told:
            _log.warning(event("relay_roots", **{name: str(value) for name, value in told.items()}))
        if frame.held != self._held:
            self._held = frame.held
            held = ",".join(map(str, frame.held)) or "none"
            _log.warning(event("relay_roots", unreadable=held, reason="the others are relayed meanwhile"))


def _onward(error: PositionLost, sink: Sink, counts: RelayCounts) -> Stand:
    _log.warning(event("relay_day", day=error.day, reason=str(error)))
    if not isinstance(error, DayChanged):
        return error.onward
    if any(part.left >= error.day for part in parts_of(error.onward)):
        # One that has left the day is not read there again, and what it has would count as given: the day begun again
        # would be without it.
        reason = "another data root has left the day: it stays as it was relayed, without what is new in this file"
        _log.warning(event("relay_day", day=error.day, reason=reason))
        assert isinstance(error.onward, JoinedPosition)
        return JoinedPosition(
            tuple(part.leaving(error.day) if part.left < error.day else part for part in error.onward.of)
        )
    sink.begin_again(error.day)
    counts.days_begun_again += 1
    if isinstance(error.onward, Position):
        return error.onward
    # Whose trade a tick is was told by all of them, so all of them begin that day again.
    return JoinedPosition(tuple(part.moved(Place(error.day)) for part in error.onward.of))
