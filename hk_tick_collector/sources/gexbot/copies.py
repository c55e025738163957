"""gexbot's own copy of a day: one file a series, read to its end, as the second copy that proves and fills.

Runs on a thread of its own, one file at a time, oldest day first, and at most ``calls_per_hour`` of them. What is read
goes the way of what was polled; the store knows what it has. Who is refused waits, longer each time. A file that ends
early proves nothing: what was read of it is stored, and it is asked for again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, TickRejected
from hk_tick_collector.core.facts import SnapshotsCopied
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.records.snapshot import COPY, Series, Snapshot
from hk_tick_collector.records.tick import RejectedTick, Tick
from hk_tick_collector.sources.addresses import url_problem
from hk_tick_collector.sources.gexbot.access import PLAIN_HEADERS, Access, Banned
from hk_tick_collector.sources.gexbot.mapping import MAX_BODY_BYTES, SnapshotMapper
from hk_tick_collector.sources.gexbot.packed import UNPACK_BYTES, Answer, Gzip
from hk_tick_collector.sources.gexbot.polls import names_in, rejected
from hk_tick_collector.sources.gexbot.series import ticker_of
from hk_tick_collector.sources.remote.asking import words_of
from hk_tick_collector.sources.source import Sink

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

MAX_DAYS_BACK = 90  # what gexbot keeps
LOOK_SEC = 1.0
BATCH = 200
MAX_WAITING_ROWS = 500
MAX_RECORDS = 100_000  # of a day there are 23,400 seconds
MAX_FILE_BYTES = 8 * 1024**3
MAX_REJECTED = 1000  # more of one file, and it is another kind of file
READ_SEC = 20.0
MAX_FILE_SEC = 3600.0
MAX_ADDRESS_BYTES = 65_536
RETRY_MIN_SEC, RETRY_MAX_SEC = 300.0, 6 * 3600.0
AFTER_CLOSE_MS = 30 * 60_000  # not known when a day's file is ready


@dataclass(slots=True)
class Ledger:
    """What was asked for, and what came of it; outlives a connection. Of the thread that reads copies."""

    calls: deque[float] = field(default_factory=deque)  # monotonic, of the last hour
    told: set[tuple[str, Series]] = field(default_factory=set)  # read to the end
    retry: dict[tuple[str, Series], tuple[float, float]] = field(default_factory=dict)  # not before, and the next wait
    pause: tuple[float, float] = (0.0, 0.0)  # the same of all files


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """How far back, and how much."""

    days: int  # trading days; 0: none is fetched
    calls_per_hour: int


class HistoryRefused(FeedError):
    """No file is given at all. What is polled may be given all the same: that is found out there."""


class Copies:
    """``copied``: of which series a day's copy is stored already; asked on the thread. ``series``: what is wanted."""

    def __init__(
        self,
        access: Access,
        mapper: SnapshotMapper,
        sink: Sink,
        calendar: TradingCalendar,
        clock: Clock,
        options: CopyOptions,
        ledger: Ledger,
        copied: Callable[[str], Collection[Series]],
        series: Callable[[], Sequence[Series]],
    ) -> None:
        self._access = access
        self._mapper = mapper
        self._sink = sink
        self._calendar = calendar
        self._clock = clock
        self._options = options
        self._copied = copied
        self._series = series
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gexbot-copies", daemon=True)
        self._ledger = ledger
        self._calls, self._told, self._retry = ledger.calls, ledger.told, ledger.retry
        self._log = RateLimitedLog(log, period_sec=600)

    def start(self) -> None:
        """Begin, if anything is wanted at all."""
        if self._options.days:
            self._thread.start()

    def stop(self) -> None:
        """End soon: what is being read is asked for again."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SEC):
            try:
                self.check()
            except Banned as exc:
                self._log.log(logging.WARNING, "gexbot_copies_wait", reason=str(exc))
            except Exception:
                log.exception("gexbot_copies_failed")
                self._stop.wait(RETRY_MIN_SEC)

    def check(self) -> None:
        """Fetch the next file, when it is time. Banned."""
        due = self._due() if self._calls_left() and self._clock.monotonic() >= self._ledger.pause[0] else None
        if due is None:
            return
        self._calls.append(self._clock.monotonic())
        try:
            self._fetch(*due)
        except Banned:
            self._ledger.pause = self._later(self._ledger.pause)
            raise

    def _later(self, before: tuple[float, float] | None) -> tuple[float, float]:
        """Not before, and the next wait."""
        wait_sec = before[1] if before and before[1] else RETRY_MIN_SEC
        return self._clock.monotonic() + wait_sec, min(2 * wait_sec, RETRY_MAX_SEC)

    def days(self) -> list[str]:
        """Trading days that are over, oldest first."""
        now_ms = self._clock.now_ms()
        days: list[str] = []
        day = self._calendar.market.trading_day(now_ms)
        while len(days) < min(self._options.days, MAX_DAYS_BACK):
            if self._calendar.is_trading_day(day):
                close_ms = self._calendar.market.close_ms(day, self._calendar.day_kind(day))
                if close_ms + AFTER_CLOSE_MS <= now_ms:
                    days.append(day)
            day = self._calendar.previous_trading_day(day)
        return days[::-1]

    def _due(self) -> tuple[str, Series] | None:
        now_sec, wanted = self._clock.monotonic(), self._series()
        for day in self.days() if wanted else ():
            missing = [series for series in wanted if (day, series) not in self._told]
            missing = [series for series in missing if self._retry.get((day, series), (0.0, 0.0))[0] <= now_sec]
            stored = self._copied(day) if missing else ()  # a look into a file, which need not be each second
            self._told.update((day, series) for series in stored)
            due = next((series for series in missing if series not in stored), None)
            if due is not None:
                return day, due
        return None

    def _calls_left(self) -> int:
        """Within the hour. Banned while gexbot is to be left alone."""
        self._access.check()
        now_sec = self._clock.monotonic()
        while self._calls and self._calls[0] <= now_sec - 3600:
            self._calls.popleft()
        return max(0, self._options.calls_per_hour - len(self._calls))

    def _fetch(self, day: str, series: Series) -> None:
        reading = _Reading(day, series)
        try:
            self._read(reading)
        except Banned:
            raise
        except FeedError as exc:
            retry = self._retry[day, series] = self._later(self._retry.get((day, series)))
            if isinstance(exc, HistoryRefused):
                retry = self._ledger.pause = self._later(self._ledger.pause)
            self._log.log(
                logging.WARNING, "gexbot_copy_failed", key=f"{day} {series}", day=day, series=series, error=str(exc),
                records=reading.records, wait_sec=round(retry[0] - self._clock.monotonic()),
                action="asked for again then",
            )  # fmt: skip
            return
        self._ledger.pause = (0.0, 0.0)
        self._told.add((day, series))
        seconds = tuple(sorted(reading.seconds))
        at_ms, sha256 = self._clock.now_ms(), reading.sha256.hexdigest()
        told = SnapshotsCopied(day, *series, at_ms, reading.records, reading.rejected, seconds, sha256)
        self._sink.learn([told])
        log.info(event("gexbot_copied", day=day, series=series, records=reading.records, rejected=reading.rejected))

    def _read(self, reading: _Reading) -> None:
        """All of a day's file, handed over. FeedError, Banned."""
        import httpx  # noqa: PLC0415 - an extra

        from hk_tick_collector.core.paced import paced_client  # noqa: PLC0415 - as above

        try:
            with paced_client(trust_env=False, timeout=READ_SEC) as client:
                url = _address(client, self._access, reading.day, reading.series)
                # The address is a key by itself: nothing of ours goes with it, and it is told to nobody.
                with client.stream("GET", url, headers=PLAIN_HEADERS) as response:
                    if response.status_code != 200:
                        raise FeedError(f"the day's file was answered with status {response.status_code}")
                    self._hand_over(reading, records_in(unpacked(_chunks(response, reading, self._stop))))
        except (httpx.HTTPError, httpx.InvalidURL, zlib.error) as exc:
            raise FeedError(f"the day's file was not read: {words_of(exc)}") from None

    def _hand_over(self, reading: _Reading, records: Iterable[str]) -> None:
        batch: list[Snapshot] = []
        for body in records:
            reading.records += 1
            if reading.records > MAX_RECORDS:
                raise FeedError(f"the day's file has more than {MAX_RECORDS:,} records")
            recv_ts_ms = self._clock.now_ms()
            try:
                snapshot = self._mapper.map(reading.series, body, recv_ts_ms, COPY, reading.day)
            except TickRejected as exc:
                self._refuse(reading, rejected(reading.series, exc, body.encode(), recv_ts_ms))
                continue
            reading.seconds.add(snapshot.ts_ms // 1000)
            batch.append(snapshot)
            if len(batch) >= BATCH:
                self._push(batch)
                batch = []
        self._push(batch)

    def _refuse(self, reading: _Reading, row: RejectedTick) -> None:
        reading.rejected += 1
        self._sink.reject([row])
        if reading.rejected > MAX_REJECTED:
            raise FeedError(f"more than {MAX_REJECTED:,} records of the day's file cannot be read: {row.reason}")

    def _push(self, batch: Sequence[Snapshot]) -> None:
        while self._sink.waiting_rows() > MAX_WAITING_ROWS:
            if self._stop.wait(0.02):
                raise FeedError("stopped")
        if batch:
            self._sink.push([[cast("Tick", snapshot) for snapshot in batch]], replayed=True)


def address_of(access: Access, day: str, symbol: str, package: str, category: str) -> str:
    """Where a day's file is, for a short while. FeedError, Banned."""
    import httpx  # noqa: PLC0415 - an extra

    from hk_tick_collector.core.paced import paced_client  # noqa: PLC0415 - as above

    try:
        with paced_client(trust_env=False, timeout=READ_SEC) as client:
            return _address(client, access, day, Series(symbol, package, category))
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise FeedError(f"gexbot was not reached: {words_of(exc)}") from None


def _address(client: httpx.Client, access: Access, day: str, series: Series) -> str:
    place = f"{ticker_of(series.symbol)}/{series.package}/{series.category}/{day[:4]}-{day[4:6]}-{day[6:]}"
    with client.stream("GET", f"{access.api}/hist/{place}?noredirect", headers=access.headers()) as response:
        answer = Answer(response.headers.get("Content-Encoding", ""), MAX_ADDRESS_BYTES)
        until_sec = time.monotonic() + READ_SEC
        for chunk in response.iter_raw():
            answer.add(chunk)
            if time.monotonic() > until_sec:
                raise FeedError(f"the address of the day's file did not come within {READ_SEC:g} s")
    status = response.status_code
    if status == 429:
        raise access.refuse(status, response.headers.get("Retry-After"), is_key=False)
    if status == 401:
        raise HistoryRefused("gexbot refused the key for its files (401): is history in the subscription?")
    if status != 200:
        hint = ": is history in the subscription?" if status == 403 else ""
        raise FeedError(f"the day's file was refused with status {status}{hint}")
    access.served()
    addresses = [name for name in names_in(answer.whole()) if "://" in name]
    problem = url_problem(addresses[0], "https") if addresses else "is missing"
    if problem:
        raise FeedError(f"the address of the day's file {problem}")
    return addresses[0]


class _Reading:
    """A file that is being read."""

    def __init__(self, day: str, series: Series) -> None:
        self.day = day
        self.series = series
        self.sha256 = hashlib.sha256()
        self.seconds: set[int] = set()
        self.records = 0
        self.rejected = 0


def _chunks(response: httpx.Response, reading: _Reading, stop: threading.Event) -> Iterator[bytes]:
    """The file's bytes as they come."""
    until_sec = time.monotonic() + MAX_FILE_SEC
    for chunk in response.iter_raw(UNPACK_BYTES):  # one that was packed on its way is unpacked as a packed file is
        if stop.is_set():
            raise FeedError("stopped")
        if time.monotonic() > until_sec:
            raise FeedError(f"the day's file was not read within {MAX_FILE_SEC:g} s")
        reading.sha256.update(chunk)
        yield chunk


def unpacked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Out of gzip where they are packed, in one piece or several, and no more than a day can have. FeedError."""
    unpacker, total = None, 0
    for number, chunk in enumerate(chunks):
        if number == 0 and chunk.startswith(b"\x1f\x8b"):
            unpacker = Gzip()
        for part in [chunk] if unpacker is None else unpacker.steps(chunk):
            total += len(part)
            if total > MAX_FILE_BYTES:
                raise FeedError(f"the day's file has more than {MAX_FILE_BYTES:,} bytes")
            yield part
    if unpacker is not None and not unpacker.is_whole:
        raise FeedError("the day's file ends early")


def records_in(parts: Iterable[bytes]) -> Iterator[str]:
    """The JSON objects of an array, or of lines, as they came. FeedError when there is none, or it ends early."""
    decoder = json.JSONDecoder()
    text, is_array, is_over, records = "", None, False, 0
    utf8 = _Utf8()
    for part in parts:
        text += utf8.decode(part)
        if is_array is None:
            text = text.lstrip("\ufeff \t\r\n")
            if not text:
                continue
            is_array = text[0] == "["
            text = text[1:] if is_array else text
        at = 0
        while True:
            at = _skip(text, at)
            if at < len(text) and text[at] == "]" and is_array:
                is_over, at = True, at + 1
                continue
            if at >= len(text) or is_over:
                break
            try:
                _, end = decoder.raw_decode(text, at)
            except (ValueError, RecursionError):
                break
            records += 1
            yield text[at:end]
            at = end
        text = text[at:]
        if len(text) > MAX_BODY_BYTES:
            raise FeedError("the day's file holds something that is no JSON object")
    if text.strip() or (is_array and not is_over) or not records:
        raise FeedError("the day's file ends early" if records else "the day's file holds no record")


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in ", \t\r\n":
        at += 1
    return at


class _Utf8:
    def __init__(self) -> None:
        import codecs  # noqa: PLC0415

        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def decode(self, part: bytes) -> str:
        return self._decoder.decode(part)
