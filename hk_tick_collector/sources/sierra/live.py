"""Sierra Chart as a live source: the growing ``.scid`` files of a directory, followed on a thread of their own.

The file is the queue. Nothing is read while much of what was read waits to be stored, so that nothing has to be
spilled; what is not read stands in the file. The thread alone touches the directory, which may lie on a share
that hangs: the loop looks at numbers in memory, and at how long ago the thread was last seen.

Limits: a look every POLL_SEC, at the list of files every LIST_SEC, READ_RECORDS a symbol and turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout, InputError, RecorderError
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.sources.sierra.depthfiles import DepthFiles, DepthKeeper
from hk_tick_collector.sources.sierra.filedays import Days
from hk_tick_collector.sources.sierra.following import Following
from hk_tick_collector.sources.sierra.naming import Instrument, Rule, described, instrument_of
from hk_tick_collector.sources.sierra.scid import ScidError
from hk_tick_collector.sources.source import Described, Pulled, Ready, Sink, SourceSpec, Subscribed
from hk_tick_collector.sources.stored import StoredDays

log = logging.getLogger(__name__)

POLL_SEC = 0.5
LIST_SEC = 10.0
ROOM_SEC = 0.002
READ_RECORDS = 10_000
# Whoever stores shares the interpreter with this thread, and loses it for milliseconds at each row: so the two take
# turns. Of the queue's limit, so much may wait while reading goes on, and so much is read at most.
WAITING_SHARE, READ_SHARE = 8, 2
RETRY_SEC = 5.0  # after a file that could not be read
CHECK_SEC = 30.0  # between two looks for days that are over
READ_AGAIN_SEC = 3600.0  # a day that was held against its file is read again after so long
ASK_SEC = 0.02


class SierraLink:
    """The files of a directory, from ``open`` to ``close``."""

    def __init__(self, source: SierraSource, sink: Sink) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._reader = reader = _Reader(source, sink, self._report_lost)
        self._depth: DepthFiles | None = None
        if source.depth is not None:
            self._depth = DepthFiles(source.directory, source.depth, source.clock, lambda: reader.wanted)

    async def open(self, timeout_sec: float) -> None:
        """The directory is there. FeedLost with the system's words when it is not."""
        self._reader.start()
        await self._until(lambda: self._reader.listed or self._reader.list_error, timeout_sec)
        if not self._reader.listed:
            raise FeedLost(self._reader.list_error)
        if self._depth is not None:
            self._depth.start()

    async def ready(self, timeout_sec: float) -> Ready:
        """Does the thread come round?"""
        reader = self._reader
        silent_sec = time.monotonic() - reader.seen_monotonic
        if silent_sec > timeout_sec:
            raise FeedTimeout(f"{reader.directory} has not answered for {silent_sec:.0f} s")
        action = "see whether the directory (SIERRA_DIR) is mounted and may be read"
        return Ready(not reader.list_error, details={"error": reader.list_error, "action": action})

    async def subscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """Follow their files. FeedError when one of them has none, or one that is not recorded, with the reason."""
        reader = self._reader
        reader.want(symbols)
        await self._until(lambda: all(symbol in reader.looked for symbol in symbols), timeout_sec)
        problems = [reader.problem(symbol) for symbol in symbols]
        first = next((problem for problem in problems if problem is not None), None)
        if first is not None:
            raise FeedError(first)

    async def unsubscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """Their files are left alone."""
        self._reader.leave(symbols)

    async def subscribed(self, timeout_sec: float) -> Subscribed:
        """Those whose files are followed."""
        return Subscribed(frozenset(symbol for symbol in self._reader.wanted if self._reader.follows(symbol)))

    async def pull(self, symbol: str, rows: int, push_type: str, timeout_sec: float) -> Pulled:
        """A file is not asked."""
        raise FeedError(f"{symbol}: Sierra Chart's files are followed, not asked")

    async def describe(self, symbols: Sequence[str]) -> Sequence[Described]:
        """By the files' names and the settings."""
        return [described(self._reader.instrument(symbol)) for symbol in symbols if self._reader.follows(symbol)]

    async def trading_days(self, first: str, last: str, timeout_sec: float) -> None:
        """There is no calendar among the files."""

    def close(self) -> None:
        """The thread ends at its next step; one that hangs in the file system is left to itself and hands over nothing
        more."""
        self._reader.stop()
        if self._depth is not None:
            self._depth.stop()
        if not self.lost.done():
            self.lost.set_result("closed")

    async def _until(self, condition: Any, timeout_sec: float) -> None:
        deadline_sec = time.monotonic() + timeout_sec
        while not condition():
            if self.lost.done():
                raise FeedLost(self.lost.result())
            if time.monotonic() >= deadline_sec:
                raise FeedTimeout(f"{self._reader.directory} does not answer in {timeout_sec:g} s")
            await asyncio.sleep(ASK_SEC)

    def _report_lost(self, reason: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(lambda: None if self.lost.done() else self.lost.set_result(reason))


class SierraSource:
    """Sierra Chart's data directory. ``max_waiting_rows``: the queue's limit."""

    def __init__(
        self,
        spec: SourceSpec,
        directory: Path,
        rules: tuple[Sequence[Rule], Sequence[Rule]],
        market: Days,
        stored: StoredDays,
        max_waiting_rows: int,
        clock: Clock,
        depth: DepthKeeper | None = None,
    ) -> None:
        self.spec = spec
        self.depth = depth
        self.directory = directory
        self.place: Mapping[str, Any] = {"dir": directory}
        self.multipliers, self.tick_sizes = rules
        self.market = market
        self.stored = stored
        self.max_waiting_rows = max_waiting_rows
        self.clock = clock

    def open(self, sink: Sink) -> SierraLink:
        """A link that reads nothing yet."""
        return SierraLink(self, sink)

    def alive(self) -> bool:
        """Each link has a thread of its own."""
        return True

    def advice(self, error: FeedError) -> str:
        """The same whatever it was."""
        return "retrying; is SIERRA_DIR mounted, and may the recorder read it?"


class _Reader:
    """The thread. ``looked``, ``listed`` and what begins with ``list_`` are read by the loop and written here alone."""

    def __init__(self, source: SierraSource, sink: Sink, on_lost: Any) -> None:
        self._source = source
        self._sink = sink
        self._on_lost = on_lost
        self.directory = source.directory
        self._stop = threading.Event()
        self._names: dict[str, Path] = {}  # symbol: its file
        self._instruments: dict[str, Instrument] = {}
        self._followings: dict[str, Following] = {}
        self._retry_at: dict[str, float] = {}
        self._checked: dict[tuple[str, str], float] = {}  # symbol and day, when it was held against its file
        self._check_at = 0.0
        self._list_at = 0.0
        self._log = RateLimitedLog(log, period_sec=60)
        self.wanted: tuple[str, ...] = ()  # replaced, never changed
        self.looked: frozenset[str] = frozenset()
        self.listed = False
        self.list_error = ""
        self.seen_monotonic = time.monotonic()

    def start(self) -> None:
        threading.Thread(target=self._run, name="sierra", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def want(self, symbols: Sequence[str]) -> None:
        """On the loop: follow these, too, and look at once at those that could not be followed."""
        self.looked = self.looked.difference(symbol for symbol in symbols if not self.follows(symbol))
        self.wanted = tuple(dict.fromkeys([*self.wanted, *symbols]))

    def leave(self, symbols: Sequence[str]) -> None:
        """On the loop."""
        self.wanted = tuple(symbol for symbol in self.wanted if symbol not in symbols)

    def follows(self, symbol: str) -> bool:
        """Is its file there and recorded?"""
        return symbol in self.looked and self.problem(symbol) is None

    def instrument(self, symbol: str) -> Instrument:
        """Of one that is followed."""
        return self._instruments[symbol]

    def problem(self, symbol: str) -> str | None:
        """Why a symbol is not recorded."""
        following = self._followings.get(symbol)
        if following is not None:
            return following.problem
        venue = "one of CME, CBOT, NYMEX, COMEX"
        name = symbol.partition(".")[2]
        return f"there is no file {name}_FUT_CME.scid (or of {venue}) in {self.directory}"

    # --- on the thread ---

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.seen_monotonic = time.monotonic()
                self._list()
                busy = [self._turn(symbol) for symbol in self.wanted]
                if not any(busy):
                    self._check_days()
                    self._stop.wait(POLL_SEC)
        except Exception as exc:
            log.error(event("sierra_reader_failed", error=repr(exc), action="beginning anew"), exc_info=exc)
            self._on_lost(f"the reading thread ended: {exc!r}")

    def _list(self) -> None:
        if time.monotonic() < self._list_at and set(self.wanted) <= self.looked:
            return
        self._list_at = time.monotonic() + LIST_SEC
        try:
            paths = sorted(path for path in self.directory.iterdir() if path.suffix.lower() == ".scid")
        except OSError as exc:
            self.list_error = f"{self.directory} cannot be read: {exc.strerror or exc}"
            return
        names: dict[str, Path] = {}
        for path in paths:
            with contextlib.suppress(InputError):  # of another exchange, or of another program
                instrument = instrument_of(path.name, self._source.multipliers, self._source.tick_sizes)
                names.setdefault(instrument.symbol, path)
                self._instruments[instrument.symbol] = instrument
        self._names, self.listed, self.list_error = names, True, ""

    def _turn(self, symbol: str) -> bool:
        """Read on in a symbol's file, if its turn has come. True when there is more to do at once."""
        following = self._following(symbol)
        try:
            if following is None or time.monotonic() < self._retry_at.get(symbol, 0.0):
                return False
            return self._read(following)
        except (OSError, RecorderError) as exc:
            self._failed(symbol, following, exc)
            return False
        finally:
            self.looked |= {symbol}

    def _following(self, symbol: str) -> Following | None:
        path, following = self._names.get(symbol), self._followings.get(symbol)
        if path is None:
            self._followings.pop(symbol, None)
            return None
        if following is None or following.path != path:
            source = self._source
            following = self._followings[symbol] = Following(
                path, self._instruments[symbol], source.market, source.stored, source.clock.now_ms
            )
        return following

    def _read(self, following: Following) -> bool:
        waiting_rows = self._sink.waiting_rows()
        if waiting_rows if following.begins else waiting_rows > self._source.max_waiting_rows // WAITING_SHARE:
            self._stop.wait(ROOM_SEC)
            return True
        if following.begins:
            following.problem = None
        step = following.step(min(READ_RECORDS, max(1, self._source.max_waiting_rows // READ_SHARE)))
        if self._stop.is_set():
            return False
        if step.rejected:
            self._sink.reject(step.rejected)
        if step.ticks:
            self._sink.push([step.ticks])
        return step.more

    def _failed(self, symbol: str, following: Following | None, error: Exception) -> None:
        """Nothing is lost: the file is read again from where the stored rows end."""
        words = str(error) if isinstance(error, RecorderError) else getattr(error, "strerror", None) or str(error)
        self._retry_at[symbol] = time.monotonic() + RETRY_SEC
        if following is None:
            return
        following.begin_again()
        following.problem = f"{following.path.name}: {words}"
        action = "this file is left out; correct it" if isinstance(error, ScidError) else "tried again"
        self._log.log(
            logging.WARNING, "sierra_file_unread", key=symbol, file=following.path, error=words, action=action
        )

    # --- days that are over ---

    def _check_days(self) -> None:
        """Hold days that are over against their files: the first reading compares, a later one confirms."""
        if time.monotonic() < self._check_at or self._sink.waiting_rows():
            return
        followed = [(symbol, self._followings[symbol]) for symbol in self.wanted if symbol in self._followings]
        whole = [
            (symbol, following) for symbol, following in followed if not following.problem and not following.begins
        ]
        if whole:  # until then nobody has looked: the first look is no period later
            self._check_at = time.monotonic() + CHECK_SEC
        for symbol, following in whole:
            try:
                self._check_symbol(symbol, following)
            except (OSError, RecorderError) as exc:
                self._log.log(logging.WARNING, "sierra_day_unread", key=symbol, file=following.path, error=exc)

    def _check_symbol(self, symbol: str, following: Following) -> None:
        for day in self._source.stored.days(symbol):
            if self._stop.is_set() or not following.is_over(day) or not self._is_due(symbol, day, following):
                continue
            self._checked[symbol, day] = time.monotonic()
            fact = following.hold_against(day, lambda ticks: self._sink.push([ticks]))
            self.seen_monotonic = time.monotonic()
            if fact is not None and not self._stop.is_set():
                self._sink.learn([fact])
                log.info(event("sierra_day_compared", symbol=symbol, trading_day=day, records=fact.ticks))

    def _is_due(self, symbol: str, day: str, following: Following) -> bool:
        last_sec = self._checked.get((symbol, day))
        if last_sec is not None and time.monotonic() < last_sec + READ_AGAIN_SEC:
            return False
        replay = self._source.stored.replay(symbol, day)
        return replay is None or (not replay[1] and following.has_later_than(day))
