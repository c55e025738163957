"""What a scrape says, against the counters it is made from; and the files that are made for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.progress import Progress
from hk_tick_collector.health import metrics, metrics_server
from hk_tick_collector.health.judgement import Backlog, Judge, Waiting
from hk_tick_collector.health.metrics import LINK_STATES, MetricSources, MetricsServer, RecorderCollector
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hours import Phase
from hk_tick_collector.sources.continuity import Continuity
from hk_tick_collector.sources.futu import spec
from tests.clock import ManualClock
from tests.harness import wait_until
from tests.ticks import make_tick, make_ticks
from tests.unit.test_worker import Bench, run

ROOT = Path(__file__).resolve().parents[2]
MID_MORNING = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)  # a Friday, 10:30 in Hong Kong
NIGHT = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
CALENDAR = TradingCalendar(HK)


def test_order_books_are_told_of_where_they_are_recorded(tmp_path: Path) -> None:
    scraped = Scraped(tmp_path)
    assert scraped.value("books_received_total") is None
    books = scraped.progress.books
    books.wanted, books.received, books.merged, books.refused_symbols = 3, 41, 5, {"HK.00001": "no right"}
    books.last_commit_lag_sec = 0.25
    figures = [
        scraped.value(f"books_{name}") for name in ("received_total", "merged_total", "stored_total", "lag_seconds")
    ]
    assert figures == [41, 5, 0, 0.25]
    assert [scraped.value(f"books_symbols_{name}") for name in ("wanted", "watched", "refused")] == [3, 0, 1]


def test_broker_queues_have_the_metrics_of_books_under_their_own_name(tmp_path: Path) -> None:
    scraped = Scraped(tmp_path)
    scraped.progress.books.wanted, scraped.progress.books.received = 3, 1
    assert scraped.value("brokers_received_total") is None  # books alone
    queues = scraped.progress.brokers
    queues.wanted, queues.received, queues.stored, queues.merged, queues.unread = 2, 50, 41, 5, 4
    queues.breaks, queues.pulls, queues.pulls_agreed, queues.write_errors, queues.subscribed = 6, 7, 8, 9, 1
    told = {name: scraped.value(f"brokers_{name}_total") for name in ("received", "stored", "merged", "unread")}
    assert told == {"received": 50, "stored": 41, "merged": 5, "unread": 4}
    told = {
        name: scraped.value(f"brokers_{name}_total") for name in ("breaks", "pulls", "pulls_agreed", "write_errors")
    }
    assert told == {"breaks": 6, "pulls": 7, "pulls_agreed": 8, "write_errors": 9}
    assert [scraped.value(f"brokers_symbols_{name}") for name in ("wanted", "watched", "refused")] == [2, 1, 0]
    assert scraped.value("books_received_total") == 1


class Scraped:
    """One scrape of sources that a test has in hand."""

    def __init__(self, tmp_path: Path, moment: datetime = MID_MORNING) -> None:
        self.progress = Progress()
        self.clock = ManualClock(int(moment.timestamp() * 1000))
        self.backlog = Backlog(
            queue_rows=7, in_hand_rows=3, spill_rows=11, open_holes=2, wal_bytes=4096, worker_dead=False
        )
        judge = Judge(self.progress, CALENDAR, self.clock, drift_warn_sec=120, stall_sec=180, waiting=Waiting())
        self.sources = MetricSources(
            progress=self.progress,
            backlog=lambda: self.backlog,
            complaints=judge.complaints,
            calendar=CALENDAR,
            clock=self.clock,
            data_root=tmp_path,
            version="1.2.3",
            queue_limit_rows=20_000,
        )

    def value(self, name: str, **labels: str) -> float | None:
        registry = CollectorRegistry()
        registry.register(RecorderCollector(self.sources))
        return registry.get_sample_value(f"hk_tick_collector_{name}", labels)

    def values(self, name: str, label: str) -> dict[str, float]:
        return {
            sample.labels[label]: sample.value
            for family in RecorderCollector(self.sources).collect()
            for sample in family.samples
            if sample.name == f"hk_tick_collector_{name}"
        }


@pytest.fixture
def scraped(tmp_path: Path) -> Scraped:
    return Scraped(tmp_path)


@pytest.mark.parametrize(
    ("part", "field", "metric"),
    [
        ("feed", "push_rows", "ticks_pushed_total"),
        ("feed", "duplicate_rows", "ticks_duplicate_total"),
        ("feed", "connected", "opend_connected"),
        ("feed", "connections", "opend_connections_total"),
        ("feed", "disconnections", "opend_disconnections_total"),
        ("feed", "request_errors", "opend_request_errors_total"),
        ("feed", "holes_seen", "holes_seen_total"),
        ("feed", "symbols_wanted", "symbols_wanted"),
        ("feed", "symbols_subscribed", "symbols_subscribed"),
        ("feed", "symbols_refused", "symbols_refused"),
        ("ingest", "persisted_rows", "ticks_persisted_total"),
        ("ingest", "ignored_rows", "ticks_ignored_total"),
        ("ingest", "refused_rows", "ticks_refused_total"),
        ("ingest", "spilled_rows", "ticks_spilled_total"),
        ("ingest", "unspilled_rows", "ticks_unspilled_total"),
        ("ingest", "in_rows", "queue_in_rows_total"),
        ("ingest", "out_rows", "queue_out_rows_total"),
        ("ingest", "commits", "commits_total"),
        ("ingest", "recoveries", "writer_recoveries_total"),
        ("ingest", "missing_ticks", "missing_ticks"),
        ("ingest", "last_commit_rows", "last_commit_rows"),
        ("ingest", "last_commit_sec", "last_commit_duration_seconds"),
    ],
)
def test_a_counter_is_told_under_its_name(scraped: Scraped, part: str, field: str, metric: str) -> None:
    assert scraped.value(metric) == 0
    setattr(getattr(scraped.progress, part), field, 42)
    assert scraped.value(metric) == 42


def test_times_are_epoch_seconds_and_zero_before_the_first(scraped: Scraped) -> None:
    now_sec = scraped.clock.now_ms() / 1000
    for name in ("last_push", "last_commit", "last_answer", "loop_beat", "newest_tick", "newest_stored_tick"):
        assert scraped.value(f"{name}_timestamp_seconds") == 0, name
    scraped.progress.feed.last_push_monotonic = scraped.clock.monotonic()
    scraped.progress.ingest.last_commit_monotonic = scraped.clock.monotonic() - 2.5
    scraped.progress.feed.last_answer_monotonic = scraped.clock.monotonic() - 1
    scraped.progress.loop_beat_monotonic = scraped.clock.monotonic() - 0.5
    scraped.progress.feed.pushed_max_ts_ms = scraped.clock.now_ms() - 250
    scraped.progress.ingest.max_committed_ts_ms = scraped.clock.now_ms() - 750
    scraped.clock.advance(10)
    assert scraped.value("last_push_timestamp_seconds") == pytest.approx(now_sec)
    assert scraped.value("last_commit_timestamp_seconds") == pytest.approx(now_sec - 2.5)
    assert scraped.value("last_answer_timestamp_seconds") == pytest.approx(now_sec - 1)
    assert scraped.value("loop_beat_timestamp_seconds") == pytest.approx(now_sec - 0.5)
    assert scraped.value("newest_tick_timestamp_seconds") == now_sec - 0.25
    assert scraped.value("newest_stored_tick_timestamp_seconds") == now_sec - 0.75


def test_what_waits_and_what_surrounds(scraped: Scraped) -> None:
    assert scraped.value("queue_rows") == 7
    assert scraped.value("in_hand_rows") == 3
    assert scraped.value("spill_rows") == 11
    assert scraped.value("wal_bytes") == 4096
    assert scraped.value("queue_limit_rows") == 20_000
    assert scraped.value("worker_alive") == 1
    scraped.backlog = replace(scraped.backlog, worker_dead=True)
    assert scraped.value("worker_alive") == 0
    free, size = scraped.value("data_free_bytes"), scraped.value("data_size_bytes")
    assert free is not None
    assert size is not None
    assert 0 < free <= size
    assert set(scraped.values("build_info", "version")) == {"1.2.3"}


def test_a_vanished_data_root_costs_its_own_values_only(scraped: Scraped, tmp_path: Path) -> None:
    scraped.sources = replace(scraped.sources, data_root=tmp_path / "gone")
    assert scraped.value("data_free_bytes") is None
    assert scraped.value("queue_rows") == 7


def test_reasons_add_up_to_the_whole(scraped: Scraped) -> None:
    ingest, feed = scraped.progress.ingest, scraped.progress.feed
    ingest.quarantined_rows, ingest.poison_rows = 10, 3
    ingest.write_errors, ingest.busy_errors = 8, 6
    feed.poll_accepted_rows, feed.backfill_accepted_rows = 4, 900
    assert scraped.values("quarantined_total", "reason") == {"unreadable": 7, "refused_by_sqlite": 3}
    assert scraped.values("write_errors_total", "reason") == {"locked": 6, "other": 2}
    assert scraped.values("ticks_pulled_total", "reason") == {"poll": 4, "backfill": 900}


@pytest.mark.parametrize(("moment", "phase"), [(MID_MORNING, "morning"), (NIGHT, "closed")])
def test_the_phase_is_one_of_all(tmp_path: Path, moment: datetime, phase: str) -> None:
    phases = Scraped(tmp_path, moment).values("market_phase", "phase")
    assert set(phases) == {phase.value for phase in Phase}
    assert [name for name, present in phases.items() if present] == [phase]


def test_the_status_is_that_of_the_health_line(tmp_path: Path) -> None:
    morning, night = Scraped(tmp_path), Scraped(tmp_path, NIGHT)
    assert morning.values("health_status", "status") == {"ok": 0, "warn": 0, "alert": 1}, "down in an open market"
    assert night.values("health_status", "status") == {"ok": 0, "warn": 1, "alert": 0}
    night.progress.feed.connected = True
    night.backlog = replace(night.backlog, spill_rows=0)
    assert night.values("health_status", "status") == {"ok": 1, "warn": 0, "alert": 0}


def test_every_state_the_feed_speaks_of_is_known() -> None:
    source = (ROOT / "hk_tick_collector/sources/session.py").read_text() + (
        ROOT / "hk_tick_collector/core/progress.py"
    ).read_text()
    words = re.findall(r'link_state(?:: str)? = ("\w+"(?: if .* else "\w+")?)', source)
    assert {state for word in words for state in re.findall(r'"(\w+)"', word)} == set(LINK_STATES)


def test_latencies_are_in_seconds_with_all_buckets(scraped: Scraped) -> None:
    scraped.progress.ingest.commit_latency_ms.observe(40, 10)
    scraped.progress.ingest.commit_latency_ms.observe(999_999)
    scraped.progress.ingest.event_latency_ms.observe(1500)
    assert scraped.value("commit_latency_seconds_bucket", le="0.03") == 0
    assert scraped.value("commit_latency_seconds_bucket", le="0.05") == 10
    assert scraped.value("commit_latency_seconds_bucket", le="300.0") == 10
    assert scraped.value("commit_latency_seconds_bucket", le="+Inf") == 11
    assert scraped.value("commit_latency_seconds_count") == 11
    assert scraped.value("commit_latency_seconds_sum") == pytest.approx(0.4 + 999.999)
    assert scraped.value("event_latency_seconds_bucket", le="1.0") == 0
    assert scraped.value("event_latency_seconds_bucket", le="2.0") == 1


def test_symbols_have_a_label_only_when_asked_for(scraped: Scraped) -> None:
    assert scraped.values("symbol_ticks_pushed_total", "symbol") == {}
    continuity = Continuity(lambda facts: None, spec.HK)
    continuity.observe_push(make_ticks(1, 5) + make_ticks(1, 2, "HK.00005"), 0.0)
    continuity.observe_push([make_tick(9)], 0.0)
    scraped.sources = replace(scraped.sources, symbol_rows=continuity.pushed_rows)
    assert scraped.values("symbol_ticks_pushed_total", "symbol") == {"HK.00700": 6, "HK.00005": 2}


def test_each_committed_row_is_counted_once_in_the_latencies(tmp_path: Path) -> None:
    """Whatever the batch holds: the sample stands for all of its rows."""
    now_ms = SystemClock().now_ms()
    old = {"recv_ts_ms": now_ms - 4000, "ts_ms": now_ms - 20_000}

    async def scenario(bench: Bench) -> None:
        stored = 0
        for rows, push_type in ((1, "push"), (16, "poll"), (17, "push"), (50, "backfill"), (49, "push")):
            bench.queue.put(make_ticks(stored + 1, stored + rows, push_type=push_type, **old))
            stored += rows
            await bench.until(lambda rows=stored: bench.progress.persisted_rows == rows, f"{stored} rows")
        await bench.finish()
        commit, event = bench.progress.commit_latency_ms.snapshot(), bench.progress.event_latency_ms.snapshot()
        assert commit.count == stored
        assert event.count == 1 + 17 + 49, "pushed ticks only"
        assert 2000 < (commit.quantile(0.01) or 0) <= (commit.quantile(0.99) or 0) <= 10_000
        assert 10_000 < (event.quantile(0.01) or 0) <= 30_000

    run(scenario, tmp_path / "data")


def test_rows_refused_by_sqlite_are_told_apart(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.queue.put([make_tick(1), make_tick(2, volume=2**70)])
        await bench.finish()
        assert (bench.progress.quarantined_rows, bench.progress.poison_rows) == (1, 1)

    run(scenario, tmp_path / "data")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_server_answers_until_it_is_closed(scraped: Scraped) -> None:
    port = free_port()
    server = MetricsServer(scraped.sources, "127.0.0.1", port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        body = answer.read().decode()
    assert "hk_tick_collector_queue_rows 7.0" in body
    assert "process_resident_memory_bytes" in body
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    MetricsServer(scraped.sources, "127.0.0.1", port).close()  # a restart finds its port free


@pytest.fixture
def port(scraped: Scraped) -> Iterator[int]:
    """Of a server that runs."""
    port = free_port()
    server = MetricsServer(scraped.sources, "127.0.0.1", port)
    try:
        yield port
    finally:
        server.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def test_a_client_that_sends_a_byte_now_and_then_loses_its_connection(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is for the whole request: a byte now and then must not win more of it."""
    monkeypatch.setattr(metrics_server, "REQUEST_DEADLINE_SEC", 1.0)
    with connect(port) as slow:
        slow.settimeout(0.1)
        cut_off = False
        give_up_at = time.monotonic() + 30
        while not cut_off and time.monotonic() < give_up_at:
            try:
                slow.sendall(b"G")
                cut_off = slow.recv(100) == b""
            except TimeoutError:
                continue
            except OSError:
                cut_off = True
        assert cut_off
    assert answers(port)


def test_more_connections_than_the_limit_are_closed_at_once(port: int, caplog: pytest.LogCaptureFixture) -> None:
    threads_before = threading.active_count()
    with ExitStack() as stack:
        mute = [stack.enter_context(connect(port)) for _ in range(3 * metrics_server.MAX_CONNECTIONS)]
        for connection in mute[metrics_server.MAX_CONNECTIONS :]:
            assert connection.recv(1) == b"", "closed by the server"
        assert threading.active_count() - threads_before <= metrics_server.MAX_CONNECTIONS
    assert caplog.text.count("metrics_refused") == 1
    wait_until(lambda: answers(port), "an answer once the others are gone")


def test_a_request_without_end_is_cut_off(port: int) -> None:
    with connect(port) as endless:
        endless.sendall(b"GET /metrics HTTP/1.1\r\n")
        with contextlib.suppress(OSError):  # reset, or a broken pipe
            for _ in range(90):  # headers; the standard library's own limit is 100, of 65,536 bytes each
                endless.sendall(b"X-Filler: " + b"x" * 60_000 + b"\r\n")
            pytest.fail("5 MB of a request were taken")
    assert answers(port)


def test_the_last_descriptors_are_not_for_clients(port: int, caplog: pytest.LogCaptureFixture) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert answers(port)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + metrics_server.RESERVED_DESCRIPTORS, limits[1]))
    try:
        with connect(port) as connection:
            assert connection.recv(1) == b""
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "metrics_refused" in caplog.text
    assert "few descriptors are left" in caplog.text
    assert answers(port)


def test_it_listens_on_its_address_alone(scraped: Scraped) -> None:
    port = free_port()
    server = MetricsServer(scraped.sources, "127.0.0.1", port)
    try:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)
    finally:
        server.close()


def test_a_taken_port_is_waited_for(
    scraped: Scraped, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "LISTEN_AGAIN_SEC", 0.05)
    tries: list[str] = []
    why_not = metrics._why_not
    monkeypatch.setattr(metrics, "_why_not", lambda *given: tries.append(why_not(*given)) or tries[-1])
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = MetricsServer(scraped.sources, "127.0.0.1", port)
        wait_until(lambda: len(tries) > 3, "it is tried again")
    assert caplog.text.count("metrics_not_listening") == 1, "and said once in ten minutes"
    assert re.search(rf"METRICS_PORT={port}: another program listens .* or 0 for no endpoint", caplog.text)
    wait_until(lambda: answers(port), "the port is free")
    server.close()
    assert not answers(port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_there_is_named_and_waited_for(
    scraped: Scraped, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    MetricsServer(scraped.sources, host, free_port()).close()
    assert f"METRICS_HOST={host} is not an address of this machine" in caplog.text


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_name_that_cannot_be_one_is_told_and_stops_nothing(
    scraped: Scraped, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    MetricsServer(scraped.sources, host, free_port()).close()
    assert f"on METRICS_HOST={host} cannot be opened" in caplog.text


def alerts() -> list[dict[str, Any]]:
    content = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_happened_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    summary, description = alert["annotations"]["summary"], alert["annotations"]["description"]
    assert summary.endswith(".")
    assert len(description) > 100
    source = "".join(path.read_text() for path in (ROOT / "hk_tick_collector").rglob("*.py"))
    for word in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", description):
        if not word.startswith("hk_tick_collector_"):
            known = f'"{word}"' in source or f'event("{word} ' in source
            by_source = f'}}_{word.partition("_")[2]}"' in source  # the source's word comes first: futu_disconnected
            assert known or by_source or f'"{word.removesuffix("_failed")}"' in source, f"no log line says {word}"
    for key in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", description):
        assert f'"{key}"' in source, f"{key} is no setting"


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_has_its_test_and_its_section(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert f'alertname="{name}"' in (ROOT / "deploy/prometheus/alerts_test.yml").read_text()
    assert f"\n### {name}\n" in (ROOT / "docs/monitoring.md").read_text()


def test_the_dashboard_is_in_order() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert at["x"] + at["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"], panel["title"]
            for target in panel["targets"]:
                assert 'job=~"$job", instance=~"$instance"' in target["expr"]
