"""After the close: the whole day once more, as the gateway shows it, held against what was recorded.

What the copy has and the file has not is stored (``repair``), and the end of its running total is what the file's must
reach (``Verified``). A copy that contradicts the file is a doubt about the day: which of the two is right nobody can
tell, and nothing of it is stored. A copy that is shorter than the file is asked for again later.

One answer a symbol and day, never while the market trades, and none when the day's traffic is used up: then an answer
would be empty, and no proof of anything. An empty answer is believed when another symbol's of the day was not empty.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, RecorderError, TickRejected
from hk_tick_collector.core.facts import NO_TICK, Unproven, Verified
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.market.dates import add_days
from hk_tick_collector.market.hours import DayKind, Phase
from hk_tick_collector.market.market import Market
from hk_tick_collector.records.tick import PUSH_TYPE_REPAIR, Tick, tick_with
from hk_tick_collector.records.totals import NO_TRADE, SECOND_SESSION
from hk_tick_collector.sources.shioaji import messages
from hk_tick_collector.sources.shioaji.gateway import Gateway
from hk_tick_collector.sources.shioaji.mapping import MAX_VOLUME, WallClock, direction_of, price_of, session_base
from hk_tick_collector.sources.shioaji.symbols import FUTURES, Contract
from hk_tick_collector.sources.source import Sink
from hk_tick_collector.sources.stored import Stored, StoredDays

log = logging.getLogger(__name__)

ReplayedTick: Any = tick_with("ts_ns_part", "total_volume", "bid_price", "ask_price")
REPLAY_DISAGREES = "the whole day as the source shows it after the close has other trades"
NIGHT_NOT_SHOWN = "whether the night session had trades is not known: the whole day shows none, and none was told"
NIGHT_NOT_TOLD = "no trade of the night session was told, and whether the whole day shows all of it is not known"
CHECK_SEC = 20.0
AFTER_CLOSE_MS = 300_000  # so long after the last tick may have come
DAYS_BACK = 3
AGAIN_SEC = 900.0  # after an answer that proves nothing yet
MAX_TRIES = 4  # of such answers a symbol and day
ANSWER_SEC = 60.0
MAX_ANSWER_BYTES = 128 << 20
MIN_LEFT_BYTES = 5_000_000
RESET_MS = 8 * 3_600_000  # the day's traffic begins anew, Taipei time
COLUMNS = ("datetime", "close", "volume", "tick_type")
QUIET = frozenset({Phase.CLOSED, Phase.OVERNIGHT, Phase.PAUSE})


class Trade(NamedTuple):
    """A row of the copy, with the sequence that its running total gives it."""

    time_us: int  # UTC
    seq: int
    price: float
    volume: int
    direction: str
    bid_price: float | None
    ask_price: float | None


class Compared(NamedTuple):
    """What a copy says of a file."""

    missing: list[Trade]  # in the copy alone
    differing: int  # of the same sequence and another content
    unknown: int  # in the file alone
    end: int  # the sequence of the copy's last trade; NO_TICK
    elsewhen: int  # of the same sequence at another time
    is_night_told: bool  # does something that was told bear out its sums of the first of two sessions?

    @property
    def agrees(self) -> bool:
        return not self.differing and not self.unknown


def trades_of(answer: Any, symbol: str, day: str, market: Market) -> list[Trade]:
    """The trades of ``day`` in an answer, without the sums of an earlier session. FeedError for one that is none."""
    if not isinstance(answer, dict) or any(not isinstance(answer.get(name), list) for name in COLUMNS):
        raise FeedError(f"{symbol}: the whole day is not in the known form")
    columns = [answer[name] for name in COLUMNS]
    quotes = [answer.get(name) for name in ("bid_price", "ask_price")]
    columns += [column if isinstance(column, list) and column else [None] * len(columns[0]) for column in quotes]
    if len({len(column) for column in columns}) != 1:
        raise FeedError(f"{symbol}: the columns of the whole day differ in length")
    clock = WallClock(market)
    sums: dict[int, int] = {}
    trades: list[Trade] = []
    for when, close, volume, side, bid, ask in zip(*columns, strict=True):
        try:
            time_us, second = _moment(clock, when)
            price = price_of(close)
        except TickRejected as exc:
            raise FeedError(f"{symbol}: a row of the whole day cannot be read: {exc}") from None
        if type(volume) is not int or not 0 < volume <= MAX_VOLUME:
            raise FeedError(f"{symbol}: a row of the whole day has no volume")
        if market.trading_day(time_us // 1000) != day:
            continue
        base = session_base(symbol, second)
        sums[base] = sums.get(base, 0) + volume
        trades.append(Trade(time_us, base + sums[base], price, volume, direction_of(side), _quote(bid), _quote(ask)))
    return trades


def _moment(clock: WallClock, when: Any) -> tuple[int, int]:
    """``2026-11-27T09:00:00.113699``."""
    text = when if isinstance(when, str) else ""
    return clock.at_us(text[:10], text[11:])


def _quote(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0 < value < 1e8 else None


def compare(trades: Sequence[Trade], stored: Mapping[int, Stored]) -> Compared:
    """Where a second session's totals go on from the first one's, the copy is counted so, too: by what is stored, which
    knows. Trades that are all alike fit both ways; then the times tell."""
    best = _compare(trades, stored)
    night_end = max((trade.seq for trade in trades if trade.seq < SECOND_SESSION), default=0)
    if not night_end or (best.agrees and not best.elsewhen):
        return best
    shifted = [trade if trade.seq < SECOND_SESSION else trade._replace(seq=trade.seq + night_end) for trade in trades]
    other = _compare(shifted, stored)
    if other.agrees and (not best.agrees or other.elsewhen < best.elsewhen):
        return other._replace(is_night_told=True)
    return best


def _compare(trades: Sequence[Trade], stored: Mapping[int, Stored]) -> Compared:
    shown = {trade.seq: trade for trade in trades}
    missing = [trade for trade in trades if trade.seq not in stored]
    both = [(trade, stored[seq]) for seq, trade in shown.items() if seq in stored]
    differing = sum((row.price, row.volume) != (trade.price, trade.volume) for trade, row in both)
    elsewhen = sum(row.ts_ms != trade.time_us // 1000 for trade, row in both)
    is_night_told = any(seq < SECOND_SESSION for seq in stored)
    end = trades[-1].seq if trades else NO_TICK
    return Compared(missing, differing, len(stored.keys() - shown.keys()), end, elsewhen, is_night_told)


class Replay:
    """The thread that asks, from the first subscription of a link to its end. ``wanted`` is replaced by the loop."""

    def __init__(self, gateway: Gateway, market: Market, stored: StoredDays, sink: Sink, clock: Clock) -> None:
        self._gateway = gateway
        self._market = market
        self._stored = stored
        self._sink = sink
        self._clock = clock
        self._stop = threading.Event()
        self._since_ms: dict[str, int] = {}  # when a symbol was first seen here
        self._settled: set[tuple[str, str]] = set()  # days that need not be asked for
        self._tries: dict[tuple[str, str], int] = {}
        self._again_sec: dict[tuple[str, str], float] = {}
        self._not_before_ms = 0
        self._deaf_nights: set[str] = set()  # trading days in whose night the gateway had no session for a while
        self._shown_days: set[str] = set()  # of which a trade was shown, of any symbol
        self._log = RateLimitedLog(log, period_sec=600)
        self.wanted: Mapping[str, Contract] = {}

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="shioaji replay", daemon=True).start()

    def stop(self) -> None:
        """End, after the question at hand; its answer is not handed over."""
        self._stop.set()

    def note_deaf(self) -> None:
        """The gateway has no session at this moment. On any thread."""
        now_ms = self._clock.now_ms()
        day = self._market.trading_day(now_ms)
        if self._market.phase_at(now_ms, self._market.table_kind(day)) is Phase.OVERNIGHT:
            self._deaf_nights.add(day)

    def _run(self) -> None:
        while not self._stop.wait(CHECK_SEC):
            try:
                self.check()
            except RecorderError as exc:
                self._log.log(logging.WARNING, "shioaji_replay_later", error=str(exc))
            except Exception as exc:  # a fault of ours costs the proof of a day, and never its ticks
                log.error(event("shioaji_replay_failed", error=repr(exc), action="report it"), exc_info=exc)
                return

    def check(self) -> None:
        """Ask for every day that is over and not compared yet. FeedError, StoreError: again later."""
        now_ms = self._clock.now_ms()
        wanted = self.wanted
        for symbol in wanted:
            self._since_ms.setdefault(symbol, now_ms)
        if now_ms < self._not_before_ms or not self._is_quiet(now_ms):
            return
        for day in self._over(now_ms):
            for symbol, contract in wanted.items():
                if contract.is_odd:  # there is no history of odd lots
                    continue
                if self._stop.is_set() or self._sink.waiting_rows():
                    return
                if self._is_due(symbol, day):
                    self._ask(symbol, contract, day)
                if self._clock.now_ms() < self._not_before_ms:
                    return

    def _is_quiet(self, now_ms: int) -> bool:
        day = self._market.trading_day(now_ms)
        return self._market.phase_at(now_ms, self._market.table_kind(day)) in QUIET

    def _over(self, now_ms: int) -> list[str]:
        """The newest trading days that are over, the newest first."""
        day = self._market.trading_day(now_ms)
        days: list[str] = []
        while len(days) < DAYS_BACK:
            if self._market.table_kind(day) is not DayKind.CLOSED and now_ms >= self._closes_ms(day) + AFTER_CLOSE_MS:
                days.append(day)
            day = add_days(day, -1)
        return days

    def _closes_ms(self, day: str) -> int:
        return self._market.no_more_ticks_ms(day, DayKind.WHOLE)

    def _is_due(self, symbol: str, day: str) -> bool:
        key = (symbol, day)
        if key in self._settled or self._clock.monotonic() < self._again_sec.get(key, 0.0):
            return False
        closes_ms = self._closes_ms(day)
        is_compared = (self._stored.shown_until_ms(symbol, day) or 0) >= closes_ms
        if is_compared or (self._since_ms[symbol] >= closes_ms and day not in self._stored.days(symbol)):
            self._settled.add(key)
        return key not in self._settled

    def _ask(self, symbol: str, contract: Contract, day: str) -> None:
        key = (symbol, day)
        self._again_sec[key] = self._clock.monotonic() + AGAIN_SEC
        if not self._has_budget():
            return
        asked_ms = self._clock.now_ms()
        answer = self._gateway.ask(
            "POST",
            messages.TICKS,
            messages.whole_day(contract, day),
            timeout_sec=ANSWER_SEC,
            max_bytes=MAX_ANSWER_BYTES,
        )
        trades = trades_of(answer, symbol, day, self._market)
        if not trades and not self._has_budget():
            return
        self._tries[key] = self._tries.get(key, 0) + 1
        if trades:
            self._shown_days.add(day)
        elif day not in self._shown_days:  # nor did any other symbol have a trade: is there a history at all?
            if self._tries[key] >= MAX_TRIES:
                self._settled.add(key)
            return
        rows = self._stored.rows(symbol, day)
        stored = {row.seq: row for row in rows if row.seq is not None and row.seq < NO_TRADE}
        compared = compare(trades, stored)
        if self._stop.is_set():
            return
        if compared.agrees:
            self._tell(symbol, day, compared, asked_ms)
        elif self._tries[key] >= MAX_TRIES or compared.differing:
            self._settled.add(key)
            self._sink.learn([Unproven(symbol, day, REPLAY_DISAGREES)])
            self._report(symbol, day, compared, logging.WARNING, "shioaji_replay_disagrees")

    def _tell(self, symbol: str, day: str, compared: Compared, asked_ms: int) -> None:
        self._settled.add((symbol, day))
        doubt = self._doubt_of_night(symbol, day, compared)
        if doubt is not None:  # before its trades: once they are stored, they look as if they had been told
            self._sink.learn([Unproven(symbol, day, doubt)])
        if compared.missing:
            self._sink.push([list(_ticks(symbol, day, compared.missing, asked_ms))], replayed=True)
        self._sink.learn([Verified(symbol, day, compared.end, asked_ms)])
        self._report(symbol, day, compared, logging.INFO, "shioaji_day_compared")

    def _doubt_of_night(self, symbol: str, day: str, compared: Compared) -> str | None:
        """Nobody knows under which date a whole day shows its night. One that begins in the middle of it adds up from 0
        as well, and only a total that was told says otherwise; of none at all knows who listened all night."""
        if not symbol.startswith(FUTURES) or compared.is_night_told:
            return None
        if any(trade.seq < SECOND_SESSION for trade in compared.missing):
            return NIGHT_NOT_TOLD
        has_listened = self._since_ms[symbol] <= self._market.day_bounds(day)[0] and day not in self._deaf_nights
        return None if has_listened else NIGHT_NOT_SHOWN

    def _report(self, symbol: str, day: str, compared: Compared, level: int, name: str) -> None:
        log.log(
            level,
            event(
                name, symbol=symbol, trading_day=day, missing=len(compared.missing), differing=compared.differing,
                unknown=compared.unknown,
            ),
        )  # fmt: skip

    def _has_budget(self) -> bool:
        """Is the day's traffic not used up? When it is, nothing is asked for before it begins anew."""
        usage = self._gateway.ask("GET", messages.USAGE)
        left = usage.get("remaining_bytes") if isinstance(usage, dict) else None
        if type(left) is not int:
            raise FeedError("the gateway does not say how much traffic is left: no empty answer could be believed")
        if left >= MIN_LEFT_BYTES:
            return True
        self._not_before_ms = next_reset_ms(self._market, self._clock.now_ms())
        until = datetime.fromtimestamp(self._not_before_ms / 1000, UTC)
        log.warning(
            event(
                "shioaji_traffic_used_up",
                left_bytes=left,
                until=f"{until:%Y-%m-%d %H:%M:%S} UTC",
                action="days are compared then; ticks go on",
            )
        )
        return False


def next_reset_ms(market: Market, now_ms: int) -> int:
    """08:00 of the next trading day, Taipei time."""
    day = market.zone.date(now_ms)
    while market.table_kind(day) is DayKind.CLOSED or market.zone.at_ms(day, RESET_MS) <= now_ms:
        day = add_days(day, 1)
    return market.zone.at_ms(day, RESET_MS)


def _ticks(symbol: str, day: str, trades: Iterable[Trade], recv_ts_ms: int) -> Iterable[Tick]:
    make: Callable[..., Tick] = ReplayedTick
    for trade in trades:
        yield make(
            symbol, trade.time_us // 1000, trade.price, trade.volume, None, trade.direction, trade.seq, "AUTO_MATCH",
            PUSH_TYPE_REPAIR, day, recv_ts_ms, None, None, None, 0, trade.time_us % 1000 * 1000,
            trade.seq % SECOND_SESSION, trade.bid_price, trade.ask_price,
        )  # fmt: skip
