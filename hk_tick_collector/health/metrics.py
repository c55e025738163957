"""The Prometheus endpoint: what ``core.progress`` counts, in Prometheus' names and units.

Nothing is measured here and nothing runs between two scrapes: every value is read from the counters when somebody
asks, on the server's own threads. The data path is not held up: no lock of it is taken but the feed's for the ticks by
symbol, if those are wanted. A scrape costs about a millisecond, whatever was recorded, and 6 us more a symbol. Names
end in their unit (``_seconds``, ``_bytes``, ``_rows``), counters in ``_total``; times are UTC epoch seconds, 0 when the
thing has not happened yet. Labels have a fixed, small set of values, ``symbol`` excepted.

Needs ``prometheus-client`` (the extra ``metrics``): import this module only when the endpoint is wanted.
"""

from __future__ import annotations

import errno
import os
import platform
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.complaint import Complaint, Teller, status_word, told_by
from hk_tick_collector.core.histogram import HistogramSnapshot
from hk_tick_collector.core.progress import BookProgress, Progress
from hk_tick_collector.health.judgement import Backlog
from hk_tick_collector.health.metrics_server import Endpoint
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hours import Phase

PREFIX = "hk_tick_collector_"
LINK_STATES = ("down", "connecting", "not_ready", "ready")
STATUSES = ("ok", "warn", "alert")


@dataclass(frozen=True, slots=True)
class MetricSources:
    """Where the values come from. All callables are called on the server's threads and must be safe there."""

    progress: Progress
    backlog: Callable[[], Backlog]
    complaints: Callable[[Backlog], Sequence[Complaint]]  # as on the health line
    calendar: TradingCalendar
    clock: Clock
    data_root: Path
    version: str
    queue_limit_rows: int
    symbol_rows: Callable[[], Mapping[str, int]] | None = None  # pushed ticks by symbol; None: no label per symbol


class _Value(NamedTuple):
    """One number without labels: its name less the prefix, its help text, and where it is found."""

    name: str
    about: str
    read: Callable[[Progress], float]


class _StateValue(NamedTuple):
    """One number of order books, or of broker queues."""

    name: str
    about: str
    read: Callable[[BookProgress], float]


class _Split(NamedTuple):
    """One counter in parts that are told apart by a label."""

    name: str
    about: str
    label: str
    read: Callable[[Progress], dict[str, int]]


_COUNTERS = (
    _Value("ticks_pushed_total", "Ticks that OpenD pushed.", lambda p: p.feed.push_rows),
    _Value("ticks_persisted_total", "Ticks stored in day files.", lambda p: p.ingest.persisted_rows),
    _Value("ticks_ignored_total", "Ticks not stored because they were already.", lambda p: p.ingest.ignored_rows),
    _Value(
        "ticks_duplicate_total", "Pulled ticks known to be stored or on their way.", lambda p: p.feed.duplicate_rows
    ),
    _Value("ticks_refused_total", "Ticks LOST: neither queue nor spill took them.", lambda p: p.ingest.refused_rows),
    _Value("ticks_spilled_total", "Ticks written to the spill on disk.", lambda p: p.ingest.spilled_rows),
    _Value("ticks_unspilled_total", "Ticks stored from the spill.", lambda p: p.ingest.unspilled_rows),
    _Value("queue_in_rows_total", "Rows put into the queue or past it.", lambda p: p.ingest.in_rows),
    _Value("queue_out_rows_total", "Rows taken from the queue.", lambda p: p.ingest.out_rows),
    _Value("commits_total", "Batches committed.", lambda p: p.ingest.commits),
    _Value("writer_recoveries_total", "Times the watchdog replaced the writer.", lambda p: p.ingest.recoveries),
    _Value("opend_connections_total", "Connections to OpenD that came to work.", lambda p: p.feed.connections),
    _Value("opend_disconnections_total", "Connections to OpenD that were lost.", lambda p: p.feed.disconnections),
    _Value("opend_request_errors_total", "Requests that failed, connects too.", lambda p: p.feed.request_errors),
    _Value("holes_seen_total", "Holes found in the sequences of symbols.", lambda p: p.feed.holes_seen),
)

_SPLITS = (
    _Split(
        "ticks_pulled_total",
        "Ticks that were new to us among those asked for.",
        "reason",
        lambda p: {"poll": p.feed.poll_accepted_rows, "backfill": p.feed.backfill_accepted_rows},
    ),
    _Split(
        "quarantined_total",
        "Ticks put into the quarantine file.",
        "reason",
        lambda p: {
            "unreadable": p.ingest.quarantined_rows - p.ingest.poison_rows,
            "refused_by_sqlite": p.ingest.poison_rows,
        },
    ),
    _Split(
        "write_errors_total",
        "Failed attempts to write a batch; every one is tried again.",
        "reason",
        lambda p: {"locked": p.ingest.busy_errors, "other": p.ingest.write_errors - p.ingest.busy_errors},
    ),
)

_GAUGES = (
    _Value("opend_connected", "1 while connected to an OpenD that is logged in.", lambda p: p.feed.connected),
    _Value("symbols_wanted", "Symbols on the list.", lambda p: p.feed.symbols_wanted),
    _Value("symbols_subscribed", "Symbols that OpenD confirmed.", lambda p: p.feed.symbols_subscribed),
    _Value("symbols_refused", "Symbols that OpenD does not subscribe.", lambda p: p.feed.symbols_refused),
    _Value("missing_ticks", "Ticks missing in the open day files.", lambda p: p.ingest.missing_ticks),
    _Value(
        "unseen_ticks",
        "Ticks at most that may have come before the first ones seen, in the open day files.",
        lambda p: p.ingest.unseen_ticks,
    ),
    _Value("last_commit_rows", "Rows of the last commit.", lambda p: p.ingest.last_commit_rows),
    _Value("last_commit_duration_seconds", "How long the last commit took.", lambda p: p.ingest.last_commit_sec),
    _Value("newest_tick_timestamp_seconds", "Event time of the newest tick seen.", lambda p: p.feed.max_ts_ms / 1000),
    _Value(
        "newest_stored_tick_timestamp_seconds",
        "Event time of the newest tick stored since the start.",
        lambda p: p.ingest.max_committed_ts_ms / 1000,
    ),
)

# Where order books are recorded, and the same where broker queues are. {} is what they are called, {}s several.
_STATE_COUNTERS = (
    _StateValue("received_total", "{}s that were pushed.", lambda p: p.received),
    _StateValue("stored_total", "{}s stored in their files.", lambda p: p.stored),
    _StateValue("merged_total", "{}s passed over for a newer one, the disk being behind.", lambda p: p.merged),
    _StateValue("unread_total", "{}s that could not be read.", lambda p: p.unread),
    _StateValue("breaks_total", "{}s that were no longer watched.", lambda p: p.breaks),
    _StateValue("pulls_total", "{}s that were asked for.", lambda p: p.pulls),
    _StateValue(
        "pulls_agreed_total", "{}s that were asked for and had been pushed just before.", lambda p: p.pulls_agreed
    ),
    _StateValue("write_errors_total", "{}s: failed attempts to write some.", lambda p: p.write_errors),
)
_STATE_GAUGES = (
    _StateValue("symbols_wanted", "{}s wanted, by symbol.", lambda p: p.wanted),
    _StateValue("symbols_watched", "{}s watched, by symbol.", lambda p: p.subscribed),
    _StateValue("symbols_refused", "{}s refused, by symbol.", lambda p: len(p.refused_symbols)),
    _StateValue("lag_seconds", "{}: from receipt to commit, the last time.", lambda p: p.last_commit_lag_sec),
)

_BACKLOG: tuple[tuple[str, str, Callable[[Backlog], float]], ...] = (
    ("queue_rows", "Rows waiting in memory.", lambda b: b.queue_rows),
    ("in_hand_rows", "Rows taken from the queue and not committed yet.", lambda b: b.in_hand_rows),
    ("open_holes", "Holes that may still be repaired.", lambda b: b.open_holes),
    ("spill_rows", "Rows waiting in the spill on disk.", lambda b: b.spill_rows),
    ("wal_bytes", "Size of the open write-ahead logs.", lambda b: b.wal_bytes),
    ("worker_alive", "1 while the persist worker and its writer live.", lambda b: not b.worker_dead),
)

_MOMENTS = (
    _Value("last_push_timestamp_seconds", "When the last push came.", lambda p: p.feed.last_push_monotonic),
    _Value(
        "last_commit_timestamp_seconds", "When the last batch was committed.", lambda p: p.ingest.last_commit_monotonic
    ),
    _Value("last_answer_timestamp_seconds", "When OpenD last answered.", lambda p: p.feed.last_answer_monotonic),
    _Value("loop_beat_timestamp_seconds", "When the event loop last turned.", lambda p: p.loop_beat_monotonic),
)


class RecorderCollector(Collector):
    """Reads the sources whenever Prometheus scrapes."""

    def __init__(self, sources: MetricSources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """All metrics of the recorder; those of the process are ``prometheus_client``'s own."""
        progress = self._sources.progress
        for counter in _COUNTERS:
            yield CounterMetricFamily(PREFIX + counter.name, counter.about, value=counter.read(progress))
        for split in _SPLITS:
            yield _labelled_counter(split.name, split.about, split.label, split.read(progress))
        for gauge in _GAUGES:
            yield GaugeMetricFamily(PREFIX + gauge.name, gauge.about, value=gauge.read(progress))
        yield from self._books()
        ingest = progress.ingest
        about = "From a row's receipt to its commit (an even sample of each batch)."
        yield _seconds_histogram("commit_latency_seconds", about, ingest.commit_latency_ms.snapshot())
        about = "From a pushed tick's event time to its commit (an even sample; the feed's own delay is in it)."
        yield _seconds_histogram("event_latency_seconds", about, ingest.event_latency_ms.snapshot())
        yield from self._moments()
        yield from self._backlog_and_states()
        yield from self._surroundings()

    def _books(self) -> Iterator[Metric]:
        progress = self._sources.progress
        for word, noun, states in (
            ("books", "Order book", progress.books),
            ("brokers", "Broker queue", progress.brokers),
        ):
            if not states.wanted:
                continue
            for counter in _STATE_COUNTERS:
                name = f"{PREFIX}{word}_{counter.name}"
                yield CounterMetricFamily(name, counter.about.format(noun), value=counter.read(states))
            for gauge in _STATE_GAUGES:
                yield GaugeMetricFamily(
                    f"{PREFIX}{word}_{gauge.name}", gauge.about.format(noun), value=gauge.read(states)
                )

    def _moments(self) -> Iterator[Metric]:
        """Readings of the monotonic clock as epoch seconds."""
        clock = self._sources.clock
        epoch_sec = clock.now_ms() / 1000 - clock.monotonic()
        for moment in _MOMENTS:
            monotonic_sec = moment.read(self._sources.progress)
            value = epoch_sec + monotonic_sec if monotonic_sec else 0.0
            yield GaugeMetricFamily(PREFIX + moment.name, moment.about, value=value)

    def _backlog_and_states(self) -> Iterator[Metric]:
        sources = self._sources
        backlog = sources.backlog()
        for name, about, read in _BACKLOG:
            yield GaugeMetricFamily(PREFIX + name, about, value=read(backlog))
        complaints = sources.complaints(backlog)
        about = "1 for what the recorder complains about."
        codes = {complaint.code for complaint in complaints}
        yield _state_set("complaint", about, "code", told_by(Teller.RECORDER), codes)
        status, _ = status_word(complaints)
        yield _state_set("health_status", "1 for the status of the health line.", "status", STATUSES, {status})
        phase = sources.calendar.phase(sources.clock.now_ms())
        phases = [phase.value for phase in Phase]
        yield _state_set("market_phase", "1 for what the market does now.", "phase", phases, {phase.value})
        state = sources.progress.feed.link_state
        yield _state_set("opend_state", "1 for the state of the connection.", "state", LINK_STATES, {state})

    def _surroundings(self) -> Iterator[Metric]:
        sources = self._sources
        yield InfoMetricFamily(
            PREFIX + "build", "What runs.", {"version": sources.version, "python": platform.python_version()}
        )
        yield GaugeMetricFamily(PREFIX + "queue_limit_rows", "MAX_QUEUE_SIZE.", value=sources.queue_limit_rows)
        try:
            disk = os.statvfs(sources.data_root)
        except OSError:
            disk = None  # a vanished disk is told by the writer; the other values are wanted all the more
        if disk is not None:
            about = "Room for the recorder on the disk of DATA_ROOT."
            yield GaugeMetricFamily(PREFIX + "data_free_bytes", about, value=disk.f_bavail * disk.f_frsize)
            about = "Size of the disk of DATA_ROOT."
            yield GaugeMetricFamily(PREFIX + "data_size_bytes", about, value=disk.f_blocks * disk.f_frsize)
        if sources.symbol_rows is not None:
            about = "Ticks that OpenD pushed, by symbol."
            yield _labelled_counter("symbol_ticks_pushed_total", about, "symbol", sources.symbol_rows())


class MetricsServer:
    """``http://HOST:PORT/metrics``, served by threads of its own until ``close``."""

    def __init__(self, sources: MetricSources, host: str, port: int) -> None:
        """Listens when this returns, or as soon as it can."""
        registry = CollectorRegistry()
        registry.register(RecorderCollector(sources))
        ProcessCollector(registry=registry)
        self._endpoint = Endpoint(host, port, make_wsgi_app(registry), partial(_why_not, host, port))

    def close(self) -> None:
        """Stop listening. Scrapes under way are not waited for."""
        self._endpoint.close()


def _why_not(host: str, port: int, error: Exception) -> str:
    """The failed bind in the operator's words."""
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return (
            f"METRICS_PORT={port}: another program listens on {host}:{port} already (sudo ss -ltnp 'sport = :{port}' "
            "names it); give another METRICS_PORT, or 0 for no endpoint"
        )
    if number == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return (
            f"METRICS_HOST={host} is not an address of this machine; 127.0.0.1 is for this machine only, "
            "0.0.0.0 for all"
        )
    if number == errno.EACCES:
        return f"METRICS_PORT={port}: not permitted ({error}); give a METRICS_PORT of 1024 or more"
    return f"METRICS_PORT={port} on METRICS_HOST={host} cannot be opened ({error}); correct them, or set METRICS_PORT=0"


def _labelled_counter(name: str, about: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, about, labels=[label])
    for value, rows in values.items():
        family.add_metric([value], rows)
    return family


def _state_set(name: str, about: str, label: str, states: Iterable[str], present: Collection[str]) -> Metric:
    """One series a state, 1 for those present. A plain gauge, so that the label has a short name of its own."""
    family = GaugeMetricFamily(PREFIX + name, about, labels=[label])
    for state in states:
        family.add_metric([str(state)], state in present)
    return family


def _seconds_histogram(name: str, about: str, snapshot: HistogramSnapshot) -> Metric:
    """Milliseconds inside, seconds for Prometheus."""
    ends = [str(bound / 1000) for bound in snapshot.bounds] + ["+Inf"]
    buckets = list(zip(ends, snapshot.cumulative(), strict=True))
    return HistogramMetricFamily(PREFIX + name, about, buckets=buckets, sum_value=snapshot.total / 1000)
