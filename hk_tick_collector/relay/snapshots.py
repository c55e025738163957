"""Snapshots to Redis, beside the ticks: ``loop.run`` on a thread of its own, of one data root.

Of several data roots the first one that has snapshots is followed: whose they are, is decided when the first of them is
there, and once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from hk_tick_collector.core.logline import event
from hk_tick_collector.relay.counts import RelayCounts
from hk_tick_collector.relay.kinds import SNAPSHOT_RELAY
from hk_tick_collector.relay.loop import run
from hk_tick_collector.relay.redis_sink import RedisSink
from hk_tick_collector.store.layout import snapshot_days

LOOK_SEC = 2.0  # while there is none

_log = logging.getLogger(__name__)


def relay_snapshots(
    roots: Sequence[tuple[Path, Path]],
    sink: RedisSink,
    stop: threading.Event,
    counts: RelayCounts,
    look_sec: float = LOOK_SEC,
) -> None:
    """Until ``stop``. ``roots``: data roots, each with its archive. The sink is closed."""
    while not stop.is_set():
        having = [(root, archive_root) for root, archive_root in roots if snapshot_days(root)]
        if having:
            (root, archive_root), *left = having
            if left:
                names = ",".join(str(root) for root, _ in left)
                _log.warning(event("relay_snapshots_left", data_root=names, action="give each a relay of its own"))
            run(root, sink, stop=stop, archive_root=archive_root, counts=counts, relayed=SNAPSHOT_RELAY)
            return
        stop.wait(look_sec)
    sink.close()
