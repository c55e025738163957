"""Follow the day files of a data root and hand each frame to a sink, for ever.

A frame is at most FRAME_ROWS ticks of one day; at most MAX_FRAMES go to the sink at once, so memory is bounded however
far behind it is. Whatever fails on the sink's side is answered in one way: wait, ask the sink how far it has come, go
on from there.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreUnavailable
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.relay.counts import RelayCounts
from hk_tick_collector.relay.sink import Sink, SinkAway, SinkMoved
from hk_tick_collector.store.follow import LOOK_SEC, Batch, Follower
from hk_tick_collector.store.layout import archive_dir
from hk_tick_collector.store.position import DayChanged, Position, PositionLost

FRAME_ROWS = 100
MAX_FRAMES = 50
MIN_WAIT_SEC, MAX_WAIT_SEC = 0.5, 30.0
_FILES_WAIT_SEC = 1.0
_FILES_PERIOD_SEC = 60.0

_log = logging.getLogger(__name__)


def run(
    root: Path,
    sink: Sink,
    *,
    stop: threading.Event,
    look_sec: float = LOOK_SEC,
    backoff: Backoff | None = None,
    archive_root: Path | None = None,
    counts: RelayCounts | None = None,
) -> None:
    """Relay until ``stop``. A sink that holds nothing gets the newest day from its start. The sink is closed."""
    waiting = _Waiting(backoff or Backoff(MIN_WAIT_SEC, MAX_WAIT_SEC), counts or RelayCounts())
    _log.info(event("relay_started", data_root=str(root)))
    try:
        while not stop.is_set():
            try:
                _relay(Catalog(root, archive_root or archive_dir(root)), sink, stop, look_sec, waiting)
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


def _relay(days: Catalog, sink: Sink, stop: threading.Event, look_sec: float, waiting: _Waiting) -> None:
    position = sink.where()
    waiting.over(in_put=False)
    with Follower(days.data_root, was_end=days.was_end) as follower:
        if position is None:
            position = _start(follower)
        for day in days.passed_over(position.newest_day):
            reason = (
                f"the day was put away before it was relayed: hk-tickctl restore {day} and restart, or do without it"
            )
            _log.warning(event("relay_day", day=day, reason=reason))
        _log.debug(event("relay_from", position=str(position)))
        files = RateLimitedLog(_log, _FILES_PERIOD_SEC)
        while not stop.is_set():
            try:
                frames = _next_frames(follower, position)
            except PositionLost as exc:
                position = _onward(exc, sink, waiting.counts)
                continue
            except (StoreBusy, StoreUnavailable, StoreCorrupt) as exc:
                files.log(logging.ERROR, "relay_files", key=type(exc).__name__, reason=str(exc))
                stop.wait(_FILES_WAIT_SEC)
                continue
            if not frames:
                stop.wait(look_sec)
                continue
            _put(sink, frames)
            waiting.over(in_put=True)
            waiting.counts.note_put(frames)
            position = frames[-1].position


def _put(sink: Sink, frames: list[Batch]) -> None:
    try:
        sink.put(frames)
    except SinkAway as exc:
        raise _PutRefused(exc) from exc


def _start(follower: Follower) -> Position:
    newest = ""
    with contextlib.suppress(StoreBusy, StoreUnavailable, StoreCorrupt):
        newest = follower.end().newest_day
    return Position.at_start_of(newest) if newest else Position()


def _next_frames(follower: Follower, position: Position) -> list[Batch]:
    """What is there now. An error behind the first frame comes again at the next look, when these are safe."""
    frames: list[Batch] = []
    while len(frames) < MAX_FRAMES:
        try:
            frame = follower.read_behind(position, FRAME_ROWS)
        except (PositionLost, StoreBusy, StoreUnavailable, StoreCorrupt):
            if frames:
                break
            raise
        if frame is None:
            break
        frames.append(frame)
        position = frame.position
    return frames


def _onward(error: PositionLost, sink: Sink, counts: RelayCounts) -> Position:
    _log.warning(event("relay_day", day=error.day, reason=str(error)))
    if isinstance(error, DayChanged):
        sink.begin_again(error.day)
        counts.days_begun_again += 1
    return error.onward_here
