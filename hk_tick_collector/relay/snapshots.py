"""Snapshots to Redis, beside the ticks: ``loop.run`` on a thread of its own.

Of several data roots those that have snapshots are followed as one. Most have none, and are looked at now and then:
when another one has some, what is relayed begins its newest day again out of all of them. So one that cannot be read
for a moment counts as one that has some.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hk_tick_collector.relay.counts import RelayCounts
from hk_tick_collector.relay.kinds import SNAPSHOT_RELAY
from hk_tick_collector.relay.loop import run
from hk_tick_collector.relay.sink import Sink
from hk_tick_collector.store.layout import may_have_snapshots

LOOK_SEC = 2.0  # at those that have none


def relay_snapshots(
    roots: Sequence[tuple[Path, Path]],
    make_sink: Callable[[], Sink],
    stop: threading.Event,
    counts: RelayCounts,
    look_sec: float = LOOK_SEC,
) -> None:
    """Until ``stop``. ``roots``: data roots, each with its archive."""
    having: list[tuple[Path, Path]] = []
    while not stop.is_set():
        having = [place for place in roots if place in having or may_have_snapshots(place[0])]
        if not having:
            stop.wait(look_sec)
            continue
        (root, archive_root), *beside = having
        until = _UntilMore(stop, [root for root, archive in roots if (root, archive) not in having], look_sec)
        run(
            root, make_sink(), stop=until, archive_root=archive_root, counts=counts, beside=beside,
            relayed=SNAPSHOT_RELAY,
        )  # fmt: skip


class _UntilMore:
    """A ``loop.Stop``: the order to end, or that one of these data roots has snapshots now."""

    def __init__(self, stop: threading.Event, without: Sequence[Path], look_sec: float) -> None:
        self._stop, self._without, self._look_sec = stop, without, look_sec
        self._look_at_sec = float("-inf")
        self._has_more = False

    def is_set(self) -> bool:
        """As of an event."""
        if self._without and not self._has_more and time.monotonic() >= self._look_at_sec:
            self._has_more = any(map(may_have_snapshots, self._without))
            self._look_at_sec = time.monotonic() + self._look_sec
        return self._has_more or self._stop.is_set()

    def wait(self, timeout: float) -> bool:
        """As of an event."""
        self._stop.wait(timeout)
        return self.is_set()
