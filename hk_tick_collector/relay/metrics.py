"""The relay's Prometheus endpoint on the loopback address, bounded as the recorder's.

Needs ``prometheus-client`` (the extra ``metrics``): import this module only when the endpoint is wanted.
"""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from hk_tick_collector.health.metrics_server import Endpoint, cannot_open
from hk_tick_collector.relay.counts import RelayCounts

HOST = "127.0.0.1"
_COUNTERS = (
    ("ticks", "Ticks that Redis has taken"),
    ("frames", "Entries of streams that Redis has taken, each of up to 100 ticks"),
    ("waits", "Times that Redis could take nothing"),
    ("days_begun_again", "Days that were put anew because their file was replaced"),
    ("signals", "Signals that Redis has taken"),
)
_GAUGES = (
    ("waiting", "is_waiting", "1 while Redis can take nothing; the log says why"),
    ("last_put_timestamp_seconds", "last_put_sec", "When Redis took ticks last"),
    ("newest_tick_timestamp_seconds", "newest_tick_sec", "Event time of the newest tick that Redis has taken"),
)


class _Counters(Collector):
    def __init__(self, counts: RelayCounts, of_snapshots: RelayCounts) -> None:
        self._counts = counts
        self._of_snapshots = of_snapshots

    def collect(self) -> list[CounterMetricFamily]:
        return [
            CounterMetricFamily(f"hk_redis_{name}", about, value=getattr(self._counts, name))
            for name, about in _COUNTERS
        ] + [
            CounterMetricFamily("hk_redis_snapshots", "Snapshots that Redis has taken", value=self._of_snapshots.ticks)
        ]


class MetricsServer:
    """``http://127.0.0.1:PORT/metrics`` until ``close``."""

    def __init__(self, counts: RelayCounts, port: int, of_snapshots: RelayCounts) -> None:
        """Listens when this returns, or as soon as it can; 0 is a free port."""
        registry = CollectorRegistry()
        registry.register(_Counters(counts, of_snapshots))
        for name, field, about in _GAUGES:
            gauge = Gauge(f"hk_redis_{name}", about, registry=registry)
            gauge.set_function(lambda field=field: float(getattr(counts, field)))  # type: ignore[misc]
        waiting = Gauge(
            "hk_redis_snapshots_waiting", "1 while Redis can take no snapshots; the log says why", registry=registry
        )
        waiting.set_function(lambda: float(of_snapshots.is_waiting))
        ProcessCollector(registry=registry)
        self._endpoint = Endpoint(HOST, port, make_wsgi_app(registry), partial(cannot_open, "REDIS_METRICS_PORT", port))

    @property
    def port(self) -> int:
        """Where it listens; 0: not yet."""
        return self._endpoint.port

    def close(self) -> None:
        """Stop listening."""
        self._endpoint.close()
