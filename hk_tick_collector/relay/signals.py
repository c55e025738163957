"""The signals that hooks received, to Redis. As ``loop``: the stream's newest id is where to go on."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.relay.counts import RelayCounts
from hk_tick_collector.relay.loop import MAX_WAIT_SEC, MIN_WAIT_SEC
from hk_tick_collector.relay.redis_sink import RedisSink
from hk_tick_collector.relay.sink import SinkAway, SinkMoved
from hk_tick_collector.store.signals import newest_signal, read_signals

LOOK_SEC = 0.2
_FRAME = 100

_log = logging.getLogger(__name__)


def relay_signals(
    hooks_dir: Path,
    sink: RedisSink,
    stop: threading.Event,
    look_sec: float = LOOK_SEC,
    counts: RelayCounts | None = None,
) -> None:
    """Until ``stop``. The sink is closed."""
    counts = counts or RelayCounts()
    backoff, log = Backoff(MIN_WAIT_SEC, MAX_WAIT_SEC), RateLimitedLog(_log, 60)
    try:
        while not stop.is_set():
            try:
                _relay(hooks_dir, sink, stop, look_sec, backoff, counts)
            except (SinkAway, SinkMoved, StoreError) as exc:
                log.log(logging.ERROR, "relay_signals_wait", key=type(exc).__name__, reason=str(exc))
                stop.wait(backoff.next_sec())
    finally:
        sink.close()


def _relay(
    hooks_dir: Path, sink: RedisSink, stop: threading.Event, look_sec: float, backoff: Backoff, counts: RelayCounts
) -> None:
    newest = sink.newest_signal()
    stored = newest_signal(hooks_dir)
    if stored < newest:
        raise SinkMoved(
            f"Redis has signals up to number {newest}, and {hooks_dir} only up to {stored}: its file begins anew; "
            "remove the stream, or choose another name with REDIS_SIGNALS"
        )
    while not stop.is_set():
        signals = read_signals(hooks_dir, newest, _FRAME)
        if not signals:
            stop.wait(look_sec)
            continue
        sink.put_signals(signals)
        backoff.reset()
        counts.signals += len(signals)
        newest = signals[-1].number
