"""The shipper's Prometheus endpoint on the loopback address, bounded as the recorder's.

Needs ``prometheus-client`` (the extra ``metrics``): import this module only when the endpoint is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from hk_tick_collector.clickhouse.shipping import ShipStatus, read_status
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.health.metrics_server import Endpoint, cannot_open
from hk_tick_collector.ship.counts import ShipCounts

HOST = "127.0.0.1"
_COUNTERS = (
    ("ticks", "Ticks that ClickHouse has taken as they were stored"),
    ("shipments", "Inserts that these were"),
    ("waits", "Times that ClickHouse could take nothing"),
    ("days_begun_again", "Days that were sent anew because their file was replaced"),
    ("days_verified", "Days whose copy was found equal"),
    ("days_brought", "Whole days that were sent"),
    ("days_healed", "Days whose copy was another one and was replaced"),
)
_OF_STATES = (
    ("books", "book", "Days whose order books there were found equal"),
    ("brokers", "broker", "Days whose broker queues there were found equal"),
    ("snapshots", "snapshot", "Days whose snapshots there were found equal"),
)


class _Counters(Collector):
    def __init__(self, counts: ShipCounts) -> None:
        self._counts = counts

    def collect(self) -> list[CounterMetricFamily | HistogramMetricFamily]:
        families: list[CounterMetricFamily | HistogramMetricFamily] = [
            CounterMetricFamily(f"hk_ship_{name}", about, value=getattr(self._counts, name))
            for name, about in _COUNTERS
        ]
        families += [
            CounterMetricFamily(f"hk_ship_{name}_days_verified", about, value=self._counts.days_verified_of[kind])
            for kind, name, about in _OF_STATES
        ]
        lag = self._counts.lag_ms.snapshot()
        ends = [*(str(bound / 1000) for bound in lag.bounds), "+Inf"]
        family = HistogramMetricFamily(
            "hk_ship_lag_seconds", "From storing to arriving, of each shipment's oldest tick",
            buckets=list(zip(ends, map(float, lag.cumulative()), strict=True)), sum_value=lag.total / 1000,
        )  # fmt: skip
        return [*families, family]


def _age_sec(moment_ms: int) -> float:
    return (SystemClock().now_ms() - moment_ms) / 1000 if moment_ms else 0.0


class MetricsServer:
    """``http://127.0.0.1:PORT/metrics`` until ``close``."""

    def __init__(self, counts: ShipCounts, ship_dir: Path, port: int) -> None:
        """Listens when this returns, or as soon as it can; 0 is a free port."""
        registry = CollectorRegistry()
        registry.register(_Counters(counts))

        def gauge(name: str, about: str, value: Callable[[ShipStatus], float]) -> None:
            def read() -> float:
                status = read_status(ship_dir)
                return 0.0 if status is None else value(status)

            Gauge(f"hk_ship_{name}", about, registry=registry).set_function(read)

        gauge("waiting", "1 while ClickHouse can take nothing; the log says why", lambda counts: counts.is_waiting)
        gauge("refused", "1 while it waits for somebody to do something", lambda counts: counts.is_refused)
        gauge("rows_behind", "Stored ticks of the newest days that were not sent", lambda counts: counts.rows_behind)
        gauge(
            "behind_seconds",
            "Since when the oldest of them is stored",
            lambda counts: _age_sec(counts.oldest_waiting_ms),
        )
        gauge("last_put_timestamp_seconds", "When ClickHouse took ticks last", lambda counts: counts.last_put_ms / 1000)
        gauge("unequal", "1 while a day's copy cannot be made equal", lambda counts: bool(counts.unequal))
        ProcessCollector(registry=registry)
        self._endpoint = Endpoint(HOST, port, make_wsgi_app(registry), partial(cannot_open, "SHIP_METRICS_PORT", port))

    @property
    def port(self) -> int:
        """Where it listens; 0: not yet."""
        return self._endpoint.port

    def close(self) -> None:
        """Stop listening."""
        self._endpoint.close()
