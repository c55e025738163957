"""Judges the feed from its counters: is OpenD silent although it should speak?

Quiet symbols are normal and raise nothing. Two things are not normal: polls that bring ticks which no push brought (the
push channel is dead), and an open market in which nothing comes at all. Either way the connection is rebuilt, each time
after a longer silence, so that a market that really is still is not disturbed for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from hk_tick_collector.core.complaint import Complaint
from hk_tick_collector.health.judgement import network_thread_dead, no_ticks, push_silent

MAX_PATIENCE_FACTOR = 16


@dataclass(frozen=True, slots=True)
class FeedSnapshot:
    """The feed's counters at one moment."""

    monotonic_sec: float
    connected: bool
    market_open: bool  # continuous trading by our calendar, and OpenD does not say that the market is closed
    network_thread_alive: bool
    push_rows: int
    poll_accepted_rows: int
    noun: str = "tick"  # what a row is called


class FeedWatch:
    """Keeps since when no push came. ``check`` is pure but for that; call it every few seconds."""

    def __init__(self, push_silent_sec: float, all_silent_sec: float) -> None:
        self._push_silent_sec = push_silent_sec
        self._all_silent_sec = all_silent_sec
        self._patience = 1
        self._moved: FeedSnapshot | None = None  # when a push last came, or the connection was made
        self._spoke_sec = 0.0  # when push or poll last brought a tick
        self._last_accepted_rows = 0

    def check(self, now: FeedSnapshot) -> Complaint | None:
        """The reason to rebuild the connection, or None."""
        if not now.network_thread_alive:
            return network_thread_dead()
        moved = self._moved
        if moved is None or not now.connected or now.push_rows != moved.push_rows or not moved.connected:
            if moved is not None and now.push_rows != moved.push_rows:
                self._patience = 1
            self._moved = now
            self._spoke_sec = now.monotonic_sec
            self._last_accepted_rows = now.poll_accepted_rows
            return None
        if not now.market_open:
            self._spoke_sec = now.monotonic_sec  # silence counts from the opening, late as it may be
        if now.poll_accepted_rows != self._last_accepted_rows:
            self._last_accepted_rows = now.poll_accepted_rows
            self._spoke_sec = now.monotonic_sec
        complaint = self._judge(now, moved)
        if complaint is not None:
            self._moved = None
            self._patience = min(self._patience * 2, MAX_PATIENCE_FACTOR)
        return complaint

    def _judge(self, now: FeedSnapshot, moved: FeedSnapshot) -> Complaint | None:
        push_silent_sec = now.monotonic_sec - moved.monotonic_sec
        pulled_rows = now.poll_accepted_rows - moved.poll_accepted_rows
        if pulled_rows and push_silent_sec >= self._push_silent_sec * self._patience:
            return push_silent(push_silent_sec, pulled_rows)
        silent_sec = now.monotonic_sec - self._spoke_sec
        if now.market_open and silent_sec >= self._all_silent_sec * self._patience:
            return no_ticks(silent_sec, now.noun)
        return None
