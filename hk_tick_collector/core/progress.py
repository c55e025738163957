"""Counters and watermarks: what each stage has done so far. Facts flow down the pipeline, these numbers flow back.

Every field has one writing thread, or is written under one lock (named in its group): ``+=`` of two threads would lose
counts. Reading needs no lock: a reader may see a value one step old, never a torn one. Rates are made by whoever keeps
two readings (``health.report``). Nothing here grows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hk_tick_collector.core.histogram import Histogram


@dataclass(slots=True)
class FeedProgress:
    """Written by the feed: push fields on the SDK's network thread, the rest on the loop."""

    push_rows: int = 0
    push_frames: int = 0
    last_push_monotonic: float = 0.0
    pushed_max_ts_ms: int = 0  # newest event time mapped, UTC epoch ms

    connected: bool = False  # TCP, InitConnect and login done
    connections: int = 0
    disconnections: int = 0
    last_answer_monotonic: float = 0.0  # OpenD answered a state request
    source: str = "OpenD"  # what people call it
    noun: str = "tick"  # what people call one of its rows
    shows_whole_day: bool = False  # after the close: what is missing before is not lost yet
    link_state: str = "down"  # down | connecting | not_ready | ready
    market_state: str = ""  # what the source says of the market, in its own word
    closed_by_source: bool = False  # and by that there is no continuous trading now
    login_advice: str = ""  # what a person does then
    login_ends_ms: int = 0  # from when on a person has to log in again, UTC epoch ms; 0: never, or it is not known
    symbols_wanted: int = 0
    symbols_subscribed: int = 0
    symbols_refused: int = 0
    refused_symbols: dict[str, str] = field(default_factory=dict)  # code -> OpenD's words; replaced, never changed
    pulled_max_ts_ms: int = 0
    poll_fetched_rows: int = 0
    poll_accepted_rows: int = 0
    backfill_fetched_rows: int = 0
    backfill_accepted_rows: int = 0
    duplicate_rows: int = 0  # pulled rows known to be stored or on their way
    request_errors: int = 0
    holes_seen: int = 0
    takes_restarts: bool = False  # somebody may ask for a restart of the feed, and is heard
    restarts: int = 0  # those that were asked for and done
    restarted_at_ms: int = 0
    restarted_by: str = ""

    @property
    def max_ts_ms(self) -> int:
        """Newest event time seen, UTC epoch ms."""
        return max(self.pushed_max_ts_ms, self.pulled_max_ts_ms)


@dataclass(slots=True)
class IngestProgress:
    """``in_rows`` to ``spilled_rows``: under the queue's lock, by whoever brings or spills rows.
    ``quarantined_rows`` to ``quarantine_known_rows``: under the quarantine's lock. The rest on the loop, or on the
    writer's thread in its turn, while the worker on the loop waits (ingest/worker.py)."""

    in_rows: int = 0
    refused_rows: int = 0  # neither queue nor spill could take them
    last_refused_monotonic: float = 0.0
    spilled_rows: int = 0

    quarantined_rows: int = 0
    quarantine_dropped_rows: int = 0  # of the quarantined: beyond its limits, so in no file
    quarantine_known_rows: int = 0  # told again word for word: counted once, when they first came

    refused_rows_settled: int = 0  # of the refused: asked for again; what did not come is in the coverage
    files_set_aside: int = 0  # day files found broken; what OpenD still has of their rows is fetched again
    files_replaced: int = 0  # day files that somebody moved, removed or exchanged; the same
    out_rows: int = 0
    persisted_rows: int = 0
    ignored_rows: int = 0  # already stored: ON CONFLICT DO NOTHING
    commits: int = 0
    unspilled_rows: int = 0
    poison_rows: int = 0  # of the quarantined: refused by SQLite; the others could not be mapped
    write_errors: int = 0
    busy_errors: int = 0
    recoveries: int = 0
    missing_ticks: int = 0  # of the open days' files, as their coverage says
    unseen_ticks: int = 0  # at most, before the first ticks seen of these days
    last_dequeue_monotonic: float = 0.0
    last_commit_monotonic: float = 0.0
    last_commit_rows: int = 0
    last_commit_sec: float = 0.0
    last_error_monotonic: float = 0.0
    last_error: str = ""
    max_committed_ts_ms: int = 0
    commit_latency_ms: Histogram = field(default_factory=Histogram)  # commit less recv_ts_ms
    event_latency_ms: Histogram = field(default_factory=Histogram)  # commit less ts_ms, of pushed ticks only


@dataclass(slots=True)
class BookProgress:
    """Of order books, or of broker queues; all zero where none are wanted. ``received`` and ``merged``: under the
    queue's lock. ``wanted`` to ``breaks``: on the loop. The rest on the lane's own thread."""

    received: int = 0  # pushes
    merged: int = 0  # of these: passed over for a newer one of the same symbol, since the disk was behind
    waiting_since_monotonic: float = 0.0  # when the oldest of those that wait came, while any does

    wanted: int = 0  # symbols
    subscribed: int = 0
    refused_symbols: dict[str, str] = field(default_factory=dict)  # code -> why; replaced, never changed
    pulls: int = 0
    pulls_agreed: int = 0
    breaks: int = 0  # times that a symbol's book was no longer watched

    stored: int = 0
    unread: int = 0  # could not be read
    commits: int = 0
    write_errors: int = 0
    last_error: str = ""
    last_commit_monotonic: float = 0.0
    last_commit_lag_sec: float = 0.0  # from the receipt of the last push to its commit

    @property
    def waiting(self) -> int:
        """Pushes that are neither stored nor counted."""
        return self.received - self.stored - self.merged - self.unread

    def stuck_sec(self, now_monotonic: float) -> float:
        """Since when pushes wait and none is stored; 0 when none waits."""
        since = max(self.waiting_since_monotonic, self.last_commit_monotonic)
        return now_monotonic - since if self.waiting > 0 else 0.0


@dataclass(slots=True)
class Progress:
    """All stages' counters, created once by the daemon."""

    feed: FeedProgress = field(default_factory=FeedProgress)
    ingest: IngestProgress = field(default_factory=IngestProgress)
    books: BookProgress = field(default_factory=BookProgress)
    brokers: BookProgress = field(default_factory=BookProgress)
    loop_beat_monotonic: float = 0.0  # written by the loop every second: an old value means a stuck loop
