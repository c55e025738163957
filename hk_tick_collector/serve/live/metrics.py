"""Numbers about the live channel for Prometheus. No key, address or path is in them; ``root`` counts DATA_ROOTS from 0.

Everything is read when somebody asks; nothing is measured on the way of a message but two additions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hk_tick_collector.serve.live.counts import LiveCounts
from hk_tick_collector.serve.live.hub import Hub
from hk_tick_collector.serve.live.question import numbers_of
from hk_tick_collector.serve.live.session import Session

_COUNTERS = (
    ("messages", "Messages given to readers, of every type"),
    ("message_bytes", "Their bytes"),
    ("connections", "Readers that were let in"),
    ("left_out_ticks", "Ticks that were left out for slow readers by their own wish (on_slow=conflate)"),
    ("slow_closed", "Readers that were closed for being slow by their own wish (on_slow=close)"),
    ("keys_ended", "Readers that were closed because their key was revoked, changed or expired"),
)


class LiveMetrics(Collector):
    """One a server. ``sessions``: the readers that are connected now."""

    def __init__(self, counts: LiveCounts, hubs: Sequence[Hub], sessions: Collection[Session]) -> None:
        self._counts, self._hubs, self._sessions = counts, hubs, sessions
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """For Prometheus."""
        text: bytes = generate_latest(self._registry)
        return text

    def collect(self) -> Iterator[Metric]:
        """As the library asks for it."""
        for name, about in _COUNTERS:
            yield CounterMetricFamily(f"hk_live_{name}", about, value=getattr(self._counts, name))
        sessions = list(self._sessions)
        lags = [session.lag for session in sessions]
        gauges = (
            ("readers", "Readers that are connected", len(sessions)),
            ("readers_catching_up", "Readers that read from the files", sum(not lag.is_live for lag in lags)),
            ("behind_rows", "Rows that the slowest reader is behind", max((lag.rows for lag in lags), default=0)),
            ("behind_seconds", "How long its next rows wait", max((lag.sec for lag in lags), default=0)),
        )
        for name, about, value in gauges:
            yield GaugeMetricFamily(f"hk_live_{name}", about, value=value)
        yield from self._of_hubs()

    def _of_hubs(self) -> Iterator[Metric]:
        rows = CounterMetricFamily("hk_live_rows", "Rows that came into the files", labels=["root"])
        held = GaugeMetricFamily("hk_live_held", "1 while the files cannot be read; the log says why", labels=["root"])
        newest = GaugeMetricFamily(
            "hk_live_newest_row_timestamp_seconds", "When the newest row was stored", labels=["root"]
        )
        for hub, numbers in zip(self._hubs, numbers_of(self._hubs), strict=True):
            for n, number in enumerate(numbers):
                rows.add_metric([str(number)], hub.rows[n])
                held.add_metric([str(number)], float(n in hub.held))
                newest.add_metric([str(number)], hub.newest_ms[n] / 1000)
        yield from (rows, held, newest)
