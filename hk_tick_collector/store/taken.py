"""Files that were taken away under a writer: what they held is copied, or stays readable as long as we have it open.

Owns the connections it was given. A file that cannot be copied yet still takes its space: recording goes on in the new
file at its path, and as soon as the disk has no room for new rows, the old ones are let go. Ticks come first: when
theirs find no room, the files of every writer in this process are let go. Limits: ``MAX_HELD`` files a writer, a copy
is tried every ``AGAIN_SEC`` and ``MAX_TRIES`` times. For one thread.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hk_tick_collector.core.errors import StoreError, StoreUnavailable
from hk_tick_collector.core.logline import event
from hk_tick_collector.store import rescue

MAX_HELD = 2
AGAIN_SEC = 60.0
MAX_TRIES = 60

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Taken:
    path: Path
    conn: sqlite3.Connection
    since_sec: float  # monotonic
    tries: int = 0


class TakenFiles:
    """Those of one writer. ``now_ms`` names the copies; ``is_interrupted``: somebody else went on meanwhile;
    ``has_ticks``: they are files of ticks, which come first, which ``salvage`` can join and OpenD tells again."""

    _no_room_sec: ClassVar[float] = 0.0  # when ticks of this process last found none (monotonic); any thread

    def __init__(
        self, now_ms: Callable[[], int], is_interrupted: Callable[[], bool], *, has_ticks: bool = False
    ) -> None:
        self._now_ms = now_ms
        self._is_interrupted = is_interrupted
        self._has_ticks = has_ticks
        self._held: list[_Taken] = []  # the oldest first
        self._again_at_sec = 0.0

    def keep(self, path: Path, conn: sqlite3.Connection) -> Path | None:
        """``conn`` has open what is no longer the file at ``path``, and is ours from now on, whatever happens. Where
        its rows are now: at ``path``, or beside what stands there; None while they cannot be copied. StoreUnavailable
        when the directory refuses, and when another writer goes on with ``path``."""
        try:
            kept = rescue.keep_rows(path, conn, self._now_ms(), self._is_interrupted)
        except StoreError:
            self._hold(path, conn)
            raise
        if kept.rows_at is None:
            self._hold(path, conn)
        else:
            _close(conn)
        todo = self._todo(path, kept.rows_at)
        _log.error(event("day_file_replaced", path=path, kept=kept.rows_at or "", todo=todo))
        if kept.is_left_to_another:
            raise StoreUnavailable(f"{path}: another writer goes on with it")
        return kept.rows_at

    def try_again(self, *, is_last: bool = False) -> None:
        """When it is time, or for the last time: save what they hold beside the file that took their path."""
        if not self._held:
            return
        for taken in [taken for taken in self._held if taken.since_sec < TakenFiles._no_room_sec]:
            self._end(taken, "to make room for ticks")
        if time.monotonic() < self._again_at_sec and not is_last:
            return
        self._again_at_sec = time.monotonic() + AGAIN_SEC
        for taken in list(self._held):
            taken.tries += 1
            kept = None
            with contextlib.suppress(StoreError):
                kept = rescue.keep_aside(taken.path, taken.conn, self._now_ms(), self._is_interrupted)
            if kept is not None:
                self._let_go_of(taken)
                join = f"bring back what it had: hk-tickctl salvage {kept}"
                todo = join if self._has_ticks else "what it had can be read there; find out who took it away"
                _log.warning(event("day_file_rescued", path=taken.path, kept=kept, todo=todo))
            elif is_last or taken.tries >= MAX_TRIES:
                self._end(taken, "the recorder ends" if is_last else "it cannot be copied")

    def let_go(self) -> None:
        """The disk refuses new rows: these make room for them."""
        if self._has_ticks:
            TakenFiles._no_room_sec = time.monotonic()
        for taken in list(self._held):
            self._end(taken, "to make room for new rows")

    def _hold(self, path: Path, conn: sqlite3.Connection) -> None:
        if len(self._held) >= MAX_HELD:
            self._end(self._held[0], "too many")
        self._held.append(_Taken(path, conn, time.monotonic()))
        self._again_at_sec = time.monotonic() + AGAIN_SEC

    def _todo(self, path: Path, kept: Path | None) -> str:
        if kept == path:
            return "its rows are in the new file; find out who took it away"
        if kept is None:
            lost = "what OpenD still has is fetched" if self._has_ticks else "free disk space"
            return f"rows now go to the file at this path; {lost}, and a copy of what it had is tried again"
        join = f"bring back what it had: hk-tickctl salvage {kept}"
        return f"rows now go to the file at this path; {join if self._has_ticks else f'what it had is in {kept}'}"

    def _end(self, taken: _Taken, reason: str) -> None:
        self._let_go_of(taken)
        todo = (
            "what OpenD still has is fetched" if self._has_ticks else "what it held is lost; find out who took it away"
        )
        _log.error(event("day_file_let_go", path=taken.path, reason=reason, todo=todo))

    def _let_go_of(self, taken: _Taken) -> None:
        self._held.remove(taken)
        _close(taken.conn)


def _close(conn: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        conn.close()
