"""The lines an operator greps: ``health``, ``persist_summary``, ``persist_loop_heartbeat``.

Each is made from two readings of the counters; the cost of a line does not depend on how many rows are stored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.complaint import status_word
from hk_tick_collector.core.histogram import HistogramSnapshot
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.progress import BookProgress, Progress
from hk_tick_collector.health.judgement import Backlog, Judge
from hk_tick_collector.market.calendar import TradingCalendar

log = logging.getLogger(__name__)


class Reporter:
    """Writes the lines. What is wrong, the judge says."""

    def __init__(
        self,
        progress: Progress,
        backlog: Callable[[], Backlog],
        calendar: TradingCalendar,
        clock: Clock,
        judge: Judge,
    ) -> None:
        self._progress = progress
        self._backlog = backlog
        self._calendar = calendar
        self._clock = clock
        self._judge = judge
        self._started = clock.monotonic()
        self._last: dict[str, tuple[float, dict[str, int]]] = {}
        self._latency_then = progress.ingest.commit_latency_ms.snapshot()
        self._event_latency_then = progress.ingest.event_latency_ms.snapshot()

    def health(self, stopping: str | None = None) -> str:
        """The ``health`` line: connection, rates since the line before, ages, holes, a status with its reason,
        and the codes of all complaints.

        ``stopping``: why the recorder stops. The last line then complains about nothing that the stop brings about.
        """
        feed, ingest = self._progress.feed, self._progress.ingest
        per_min = self._rates("health", 60.0)
        latency, event_latency = self._latencies()
        backlog = self._backlog()
        now_ms = self._clock.now_ms()
        complaints = self._judge.complaints(backlog) if stopping is None else ()
        status, reason = status_word(complaints) if stopping is None else ("stopping", stopping)
        line = event(
            "health",
            connected=feed.connected,
            status=status,
            reason=reason,
            phase=self._calendar.phase(now_ms),
            **{"opend": feed.link_state, f"market_{self._calendar.market.code.lower()}": feed.market_state or None},
            symbols=feed.symbols_subscribed,
            wanted=feed.symbols_wanted,
            refused=feed.symbols_refused,
            queue=backlog.queue_rows,
            spill=backlog.spill_rows,
            persisted_rows_per_min=per_min["persisted_rows"],
            ignored_rows_per_min=per_min["ignored_rows"],
            push_rows_per_min=per_min["push_rows"],
            queue_in=per_min["in_rows"],
            queue_out=per_min["out_rows"],
            db_commits_per_min=per_min["commits"],
            poll_fetched=feed.poll_fetched_rows,
            poll_accepted=feed.poll_accepted_rows,
            last_commit_age_sec=self._age(ingest.last_commit_monotonic),
            ts_drift_sec=(now_ms - feed.max_ts_ms) / 1000 if feed.max_ts_ms else None,
            max_ts_utc=_utc(feed.max_ts_ms),
            dropped_queue_full=ingest.refused_rows,
            dropped_duplicate=feed.duplicate_rows,
            spilled_rows=ingest.spilled_rows,
            quarantined_rows=ingest.quarantined_rows,
            open_holes=backlog.open_holes,
            missing_ticks=ingest.missing_ticks,
            latency_ms_p50=latency.quantile(0.5),
            latency_ms_p99=latency.quantile(0.99),
            event_latency_ms_p50=event_latency.quantile(0.5),
            event_latency_ms_p99=event_latency.quantile(0.99),
            complaints=",".join(complaint.code for complaint in complaints) or None,
        )
        log.log(logging.INFO if status in ("ok", "stopping") else logging.WARNING, line)
        return line

    def persist_summary(self) -> None:
        """One line about what was stored since the last one; nothing was stored, nothing is said."""
        delta = self._rates("summary", None)
        if delta["out_rows"]:
            backlog = self._backlog()
            log.info(
                event(
                    "persist_summary",
                    inserted=delta["persisted_rows"],
                    ignored=delta["ignored_rows"],
                    commits=delta["commits"],
                    queue=backlog.queue_rows,
                    last_commit_ms=self._progress.ingest.last_commit_sec * 1000,
                    max_ts_utc=_utc(self._progress.ingest.max_committed_ts_ms),
                )
            )

    def heartbeat(self) -> None:
        """The persist loop's pulse: is it dequeuing, is it committing, what went wrong last."""
        ingest = self._progress.ingest
        delta = self._rates("heartbeat", None)
        backlog = self._backlog()
        log.info(
            event(
                "persist_loop_heartbeat",
                queue=backlog.queue_rows,
                in_hand=backlog.in_hand_rows,
                spill=backlog.spill_rows,
                dequeued=delta["out_rows"],
                committed=delta["persisted_rows"],
                commits=delta["commits"],
                last_commit_rows=ingest.last_commit_rows,
                last_dequeue_age_sec=self._age(ingest.last_dequeue_monotonic),
                last_commit_age_sec=self._age(ingest.last_commit_monotonic),
                write_errors=ingest.write_errors,
                busy_errors=ingest.busy_errors,
                last_error=ingest.last_error or None,
                last_error_age_sec=self._age(ingest.last_error_monotonic),
                wal_bytes=backlog.wal_bytes,
                recoveries=ingest.recoveries,
                worker_alive=not backlog.worker_dead,
            )
        )

    def books(self) -> None:
        """One line about order books, where they are recorded: what came, what became of it, who is not watched."""
        for kind, books in (("books", self._progress.books), ("brokers", self._progress.brokers)):
            if books.wanted:
                self._state_line(kind, books)

    def _state_line(self, kind: str, books: BookProgress) -> None:
        log.info(
            event(
                "book_health",
                symbols=books.subscribed,
                wanted=books.wanted,
                refused=len(books.refused_symbols),
                received=books.received,
                stored=books.stored,
                merged=books.merged,
                unread=books.unread,
                commits=books.commits,
                pulls=books.pulls,
                pulls_agreed=books.pulls_agreed,
                write_errors=books.write_errors,
                last_error=books.last_error or None,
                last_commit_age_sec=self._age(books.last_commit_monotonic),
                kind=kind,
            )
        )

    def _latencies(self) -> tuple[HistogramSnapshot, HistogramSnapshot]:
        """Latencies of rows committed since the last ``health`` line: from receipt, and from the event."""
        ingest = self._progress.ingest
        latency, event_latency = ingest.commit_latency_ms.snapshot(), ingest.event_latency_ms.snapshot()
        both = latency.since(self._latency_then), event_latency.since(self._event_latency_then)
        self._latency_then, self._event_latency_then = latency, event_latency
        return both

    def _age(self, monotonic_sec: float) -> float | None:
        return self._clock.monotonic() - monotonic_sec if monotonic_sec else None

    def _rates(self, line: str, per_sec: float | None) -> dict[str, int]:
        """Counters since this line was last made, scaled to ``per_sec`` seconds if given."""
        now_sec = self._clock.monotonic()
        parts = self._progress.feed, self._progress.ingest
        values = {field.name: getattr(part, field.name) for part in parts for field in fields(part)}
        counters = {name: value for name, value in values.items() if type(value) is int}
        then_sec, before = self._last.get(line, (self._started, {}))
        self._last[line] = (now_sec, counters)
        scale = per_sec / max(now_sec - then_sec, 1e-3) if per_sec else 1.0
        return {key: round((value - before.get(key, 0)) * scale) for key, value in counters.items()}


def _utc(ts_ms: int) -> str | None:
    if not ts_ms:
        return None
    return datetime.fromtimestamp(ts_ms / 1000, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
