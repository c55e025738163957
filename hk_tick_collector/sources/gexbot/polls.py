"""One question a second for each series, on a thread with an event loop of its own.

The grid is fixed: a series is asked at its own place in every second, once at most, and an answer that takes longer
than a second is given up. A slow series holds up no other, and no question is made up for: the second is gone, and the
source's copy of the day has it. An answer whose second is known already is an answer, not a loss; that it cannot serve
now (5xx) is none. A second of that costs a second, MUTE_SEC of it the connection, and with Retry-After it is left alone
at once.

Owns the series as they were asked for, what each is refused for, and the judgement that the far side is mute. The
thread may be held up by a full queue; the recorder's loop never waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, RejectCode, TickRejected
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.text import cut
from hk_tick_collector.records.snapshot import LIVE, Series
from hk_tick_collector.records.tick import RejectedTick, Tick
from hk_tick_collector.sources.gexbot.access import PLAIN_HEADERS, Access
from hk_tick_collector.sources.gexbot.mapping import MAX_BODY_BYTES, RAW_CHARS, SnapshotMapper
from hk_tick_collector.sources.gexbot.packed import Answer
from hk_tick_collector.sources.gexbot.series import ticker_of
from hk_tick_collector.sources.remote.asking import words_of
from hk_tick_collector.sources.source import Sink

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

ANSWER_SEC = 1.0  # what gexbot asks its clients to wait at most
LIST_SEC = 5.0
MAX_LIST_BYTES = 1024 * 1024
MAX_LIST_NAMES = 5000
MUTE_SEC = 30.0  # asked, and not served once
CLOSED_CHECK_SEC = 1.0
REFUSED_MIN_SEC, REFUSED_MAX_SEC = 60.0, 3600.0


@dataclass(slots=True)
class _Asked:
    """A series that is asked for."""

    place: float  # in the second, 0 to 1
    task: asyncio.Task[None]
    known: tuple[int, str] = (0, "")  # the newest second, and what it said
    body: bytes = b""  # of it: the same bytes again need no reading
    refused: str = ""
    wait_sec: float = REFUSED_MIN_SEC


@dataclass(slots=True)
class PollCounts:
    """Written on the thread of the polls."""

    asked: int = 0
    answered: int = 0  # with a snapshot
    unchanged: int = 0  # of these: one that was known
    failed: int = 0  # no answer in time, or an error
    skipped: int = 0  # seconds without a question: we were held up
    heard_sec: float = field(default=0.0)  # monotonic


class Polls:
    """``is_open``: may there be new snapshots now? ``on_lost`` is called once, on the thread, with the reason.
    ``opened`` is done when series can be asked for."""

    def __init__(
        self,
        access: Access,
        mapper: SnapshotMapper,
        sink: Sink,
        clock: Clock,
        is_open: Callable[[], bool],
        on_lost: Callable[[str], None],
    ) -> None:
        self.opened: Future[None] = Future()
        self.tickers: frozenset[str] = frozenset()  # as gexbot lists them; empty: it did not say
        self.counts = PollCounts(heard_sec=clock.monotonic())
        self._access = access
        self._mapper = mapper
        self._sink = sink
        self._clock = clock
        self._is_open = is_open
        self._on_lost = on_lost
        self._thread = threading.Thread(target=self._run, name="gexbot", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Future[str] | None = None
        self._asked: dict[Series, _Asked] = {}
        self._stopped = False
        self._quiet_since_sec = 0.0  # since when questions are not answered; 0: they are
        self._log = RateLimitedLog(log, period_sec=60)

    # --- called on the recorder's loop ---

    def start(self) -> None:
        """Begin; ``opened`` tells how it went."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; nobody is told."""
        self._stopped = True
        self._call(lambda: self._end("closed"))

    def add(self, series: Sequence[Series]) -> None:
        """Ask for these, too."""
        self._call(lambda: self._begin(series))

    def remove(self, series: Sequence[Series]) -> None:
        """No longer."""
        self._call(lambda: [self._asked.pop(left).task.cancel() for left in series if left in self._asked])

    def refused(self, series: Series) -> str:
        """Why gexbot does not give it; empty when it does, or was not asked yet."""
        asked = self._asked.get(series)
        return "" if asked is None else asked.refused

    # --- on the thread ---

    def _call(self, step: Callable[[], object]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(step)

    def _run(self) -> None:
        reason = "closed"
        try:
            reason = asyncio.run(self._serve())
        except FeedError as exc:
            reason = str(exc)
            self._fail(exc)
        except Exception as exc:
            log.exception("gexbot_thread_failed")
            reason = f"the recorder's own code failed: {type(exc).__name__}"
            self._fail(FeedError(reason))
        if not self._stopped:
            self._on_lost(reason)

    def _fail(self, exc: FeedError) -> None:
        with contextlib.suppress(InvalidStateError):
            self.opened.set_exception(exc)

    async def _serve(self) -> str:
        import httpx  # noqa: PLC0415 - an extra

        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)  # they log addresses
        self._loop = asyncio.get_running_loop()
        self._ending = self._loop.create_future()
        self._access.check()
        self._access.headers()
        async with httpx.AsyncClient(trust_env=False, timeout=LIST_SEC, http2=False) as client:
            self._client = client
            self.tickers = frozenset(await self._names(f"{self._access.api}/tickers"))
            with contextlib.suppress(InvalidStateError):
                self.opened.set_result(None)
            try:
                return await self._ending
            finally:
                tasks = [asked.task for asked in self._asked.values()]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, reason: str) -> None:
        if self._ending is not None and not self._ending.done():
            self._ending.set_result(reason)

    async def _names(self, url: str) -> list[str]:
        """All the words of a list. FeedError when it is not given."""
        try:
            async with asyncio.timeout(LIST_SEC):
                status, body, retry_after = await self._get(url, PLAIN_HEADERS, MAX_LIST_BYTES)
        except TimeoutError:
            raise FeedError(f"gexbot did not answer in {LIST_SEC:g} s") from None
        if status == 429 or (status >= 500 and retry_after):
            raise self._access.refuse(status, retry_after, is_key=False)
        if status >= 500:
            raise FeedError(f"gexbot cannot serve now ({status})")
        if status != 200:
            raise FeedError(f"gexbot's list of tickers was answered with status {status}; is GEXBOT_API right?")
        return names_in(body)

    async def _get(self, url: str, headers: dict[str, str], most_bytes: int) -> tuple[int, bytes, str | None]:
        """Status, body and Retry-After. FeedError when nobody answers, or more than that."""
        import httpx  # noqa: PLC0415

        try:
            async with self._client.stream("GET", url, headers=headers) as response:
                answer = Answer(response.headers.get("Content-Encoding", ""), most_bytes)
                async for chunk in response.aiter_raw():
                    answer.add(chunk)
                return response.status_code, answer.whole(), response.headers.get("Retry-After")
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise FeedError(f"gexbot was not reached: {words_of(exc)}") from None

    def _begin(self, series: Sequence[Series]) -> None:
        for wanted in series:
            if wanted not in self._asked:
                place = (len(self._asked) * 0.618034) % 1.0  # spread, and the same for each for good
                work: Coroutine[Any, Any, None] = self._poll(wanted, place)
                self._asked[wanted] = _Asked(place, asyncio.get_running_loop().create_task(work))

    async def _poll(self, series: Series, place: float) -> None:
        """Until cancelled, or until the connection ends."""
        try:
            while True:
                await self._wait_turn(place)
                if not self._is_open():
                    self._quiet_since_sec = 0.0
                    await asyncio.sleep(CLOSED_CHECK_SEC)
                    continue
                await self._ask(series, self._asked[series])
        except FeedError as exc:
            self._end(str(exc))
        except Exception as exc:
            log.exception("gexbot_thread_failed")
            self._end(f"the recorder's own code failed: {type(exc).__name__}")

    async def _wait_turn(self, place: float) -> None:
        """The next time that the clock stands at this place in a second. What was missed is not made up for."""
        now = self._clock.now_ms() / 1000
        await asyncio.sleep(math.floor(now - place) + 1 + place - now)

    async def _ask(self, series: Series, asked: _Asked) -> None:
        self._access.check()
        url = f"{self._access.api}/{ticker_of(series.symbol)}/{series.package}/{series.category}"
        counts, headers = self.counts, self._access.headers()
        counts.asked += 1
        try:
            async with asyncio.timeout(ANSWER_SEC):
                status, body, retry_after = await self._get(url, headers, MAX_BODY_BYTES)
        except (TimeoutError, FeedError) as exc:
            counts.failed += 1
            self._note_silence(str(exc) or f"no answer in {ANSWER_SEC:g} s")
            return
        if status >= 500:
            counts.failed += 1
            self._note_unserved(status, retry_after)
            return
        counts.heard_sec, self._quiet_since_sec = self._clock.monotonic(), 0.0
        if status == 200:
            self._access.served()
            counts.answered += 1
            asked.refused, asked.wait_sec = "", REFUSED_MIN_SEC
            self._take(series, asked, body)
        else:
            counts.failed += 1
            await self._refused(series, asked, status, retry_after)

    async def _refused(self, series: Series, asked: _Asked, status: int, retry_after: str | None) -> None:
        """FeedLost where all is over for a while; a series that is not ours to have waits by itself."""
        if status in (401, 429):
            raise FeedLost(str(self._access.refuse(status, retry_after, is_key=status == 401)))
        if status in (400, 403, 404):
            asked.refused = f"{series.package}/{series.category} is refused ({status}): is it in the subscription?"
            if all(poll.refused for poll in self._asked.values()):
                raise FeedLost(str(self._access.refuse(status, retry_after, is_key=True)))
            self._log.log(
                logging.WARNING, "gexbot_series_refused", key=str(series), series=series, status=status,
                wait_sec=asked.wait_sec, action="asked again then; the others are recorded",
            )  # fmt: skip
            wait_sec, asked.wait_sec = asked.wait_sec, min(2 * asked.wait_sec, REFUSED_MAX_SEC)
            await asyncio.sleep(wait_sec)
            return
        self._log.log(logging.WARNING, "gexbot_answer", key=str(status), status=status, series=series)

    def _note_unserved(self, status: int, retry_after: str | None) -> None:
        if retry_after:
            raise FeedLost(str(self._access.refuse(status, retry_after, is_key=False)))
        self._note_silence(f"it cannot serve now ({status})")

    def _note_silence(self, why: str) -> None:
        now_sec = self._clock.monotonic()
        self._log.log(logging.WARNING, "gexbot_no_answer", error=why, failed=self.counts.failed)
        if not self._quiet_since_sec:
            self._quiet_since_sec = now_sec
        elif now_sec - self._quiet_since_sec >= MUTE_SEC:
            raise FeedLost(f"gexbot has given no snapshot for {MUTE_SEC:.0f} s: {why}")

    def _take(self, series: Series, asked: _Asked, body: bytes) -> None:
        recv_ts_ms = self._clock.now_ms()
        if body == asked.body:
            self.counts.unchanged += 1
            return
        try:
            snapshot = self._mapper.map(series, decode(body), recv_ts_ms, LIVE)
        except TickRejected as exc:
            self._sink.reject([rejected(series, exc, body, recv_ts_ms)])
            return
        known, asked.body = (snapshot.ts_ms, snapshot.digest), body
        if known == asked.known:
            self.counts.unchanged += 1
            return
        asked.known = known
        self._sink.push([[cast("Tick", snapshot)]])  # a lane of snapshots is behind this sink


def decode(body: bytes) -> str:
    """TickRejected for what is no text."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise TickRejected(RejectCode.SYMBOL, "no UTF-8 text") from None


def rejected(series: Series, exc: TickRejected, body: bytes, recv_ts_ms: int) -> RejectedTick:
    """For the quarantine; a long body is cut there."""
    raw: dict[str, object] = {"series": str(series), "body": cut(ascii(body[:RAW_CHARS]), RAW_CHARS)}
    return RejectedTick(series.symbol, str(exc), raw, recv_ts_ms, exc.code)


def names_in(body: bytes) -> list[str]:
    """Every word in the lists of an answer, however they are nested; none where it cannot be read."""
    import json  # noqa: PLC0415

    try:
        waiting: list[Any] = [json.loads(body)]
    except (ValueError, RecursionError):
        return []
    names: list[str] = []
    while waiting and len(names) < MAX_LIST_NAMES:
        value = waiting.pop()
        if isinstance(value, str):
            names.append(value)
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
    return names
