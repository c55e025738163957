"""Futu OpenD as a source: ``source.Link`` over the SDK's connection, and what OpenD says of itself in plain words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout, RequestNotBuilt
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.records.tick import RejectedTick
from hk_tick_collector.sources.books import BookSink
from hk_tick_collector.sources.futu import sdk
from hk_tick_collector.sources.futu.answers import SymbolInfo
from hk_tick_collector.sources.futu.books import BROKER_PUSHES, BookHandler
from hk_tick_collector.sources.futu.depth import book_feed, broker_feed
from hk_tick_collector.sources.futu.mapping import TickMapper, unread_rows
from hk_tick_collector.sources.futu.markets import at_futu
from hk_tick_collector.sources.futu.push import PushHandler
from hk_tick_collector.sources.futu.reference import Reference
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.source import Described, Pulled, Ready, Sink, SourceSpec, Subscribed

log = logging.getLogger(__name__)

SHARES = frozenset({"Eqty", "Trust"})  # Qot_Common.SecurityType whose volume is in shares

# What an operator does about OpenD's own events; the others are logged by name alone.
_GTW_ADVICE = {
    "KickedOut": "another client logged in with this account: log OpenD in again",
    "LoginFailed": "check OpenD's account and password",
    "LoginPwdChanged": "give OpenD the new password",
    "BanLogin": "the account is banned from logging in: ask Futu",
    "NeedPicVerifyCode": "give OpenD the picture code (input_pic_verify_code on its telnet port)",
    "NeedPhoneVerifyCode": "give OpenD the phone code (input_phone_verify_code on its telnet port)",
    "ForceUpdate": "update OpenD",
    "UnAgreeDisclaimer": "agree to the API disclaimer on Futu's site",
}


class FutuLink:
    """One connection to OpenD. ``push`` False: symbols are subscribed only so that they can be asked for."""

    def __init__(
        self,
        connection: sdk.Connection,
        mapper: TickMapper,
        clock: Clock,
        on_wanted: Callable[[Sequence[str]], None] = lambda _symbols: None,
        *,
        push: bool = True,
        books: BookHandler | None = None,
        brokers: BookHandler | None = None,
        no_right: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.books = book_feed(connection, books, no_right)
        self.brokers = broker_feed(connection, brokers, no_right)
        self._connection = connection
        self._mapper = mapper
        self._clock = clock
        self._on_wanted = on_wanted
        self._push = push
        self.lost = connection.lost

    async def open(self, timeout_sec: float) -> None:
        """As ``Connection.open``."""
        await self._connection.open(timeout_sec)

    async def ready(self, timeout_sec: float) -> Ready:
        """Accepting TCP does not mean logged in (GetGlobalState). One that refuses to say may serve all the same."""
        try:
            state = await self._connection.global_state(timeout_sec)
        except (FeedLost, FeedTimeout):
            raise
        except FeedError as exc:
            return Ready(serving=True, refusal=str(exc))
        clock_ms = state.opend_time_sec * 1000
        self._mapper.days.note_source_time(clock_ms, self._clock.now_ms())
        details = {
            "qot_logined": state.qot_logined,
            "program_status": state.program_status,
            "action": "waiting; log OpenD in",
        }
        market_state = state.market_state
        return Ready(state.ready, market_state, self._mapper.market.says_closed(market_state), clock_ms, details)

    async def subscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """OpenD refuses all of them when it refuses one."""
        self._on_wanted(symbols)
        await self._connection.subscribe_tickers(list(symbols), timeout_sec, push=self._push)

    async def unsubscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """OpenD takes it only a minute after they were subscribed; until then their pushes are wanted."""
        await self._connection.unsubscribe_tickers(list(symbols), timeout_sec)

    async def subscribed(self, timeout_sec: float) -> Subscribed:
        """As OpenD has it."""
        info = await self._connection.subscriptions(timeout_sec)
        return Subscribed(info.ticker_codes, info.remain_quota)

    async def pull(self, symbol: str, rows: int, push_type: str, timeout_sec: float) -> Pulled:
        """``get_rt_ticker``; an answer of 1000 ticks is mapped in about 3 ms."""
        message = await self._connection.recent_ticks(symbol, rows, timeout_sec)
        rejected: list[RejectedTick] = []
        ticks = self._mapper.map_all(symbol, message.tickerList, push_type, self._clock.now_ms(), rejected)
        return Pulled(ticks, unread_rows(message.tickerList, rejected) if rejected else (), rejected)

    async def describe(self, symbols: Sequence[str]) -> Sequence[Described]:
        """OpenD's static data; it knows no tick size, which goes with the price here."""
        answers = await Reference(self._connection, self._clock).static_info(symbols)
        if answers.refused and not answers.given:
            raise FeedError(next(iter(answers.refused.values())))
        market = self._mapper.market.market
        known = {code: info for code, info in answers.given.items() if not info.delisted}
        return [
            _described(known[code], market.currency_of(code)) if code in known else Described(code)
            for code in symbols
            if code not in answers.unanswered
        ]

    async def trading_days(self, first: str, last: str, timeout_sec: float) -> Mapping[str, str]:
        """OpenD's own calendar."""
        return await self._connection.trading_days(_dashed(first), _dashed(last), timeout_sec)

    def close(self) -> None:
        """As ``Connection.close``."""
        self._connection.close()


class FutuSource:
    """One OpenD, on one market."""

    def __init__(
        self,
        spec: SourceSpec,
        host: str,
        port: int,
        rsa_key_file: Path | None,
        clock: Clock,
        books: BookSink | None = None,
        brokers: BookSink | None = None,
    ) -> None:
        """``books`` takes order books, ``brokers`` broker queues; None: there are none."""
        self.spec = spec
        self._books = books
        self._brokers = brokers
        self._right_lost: str | None = None
        self._market = at_futu(spec.market)
        self.place: Mapping[str, Any] = {"host": host, "port": port}
        self._address = host, port
        self._clock = clock
        self._days = PlausibleDays(self._market.market)  # over connections: the clock of OpenD goes on
        self._wanted: frozenset[str] = frozenset()
        self._notice_log = RateLimitedLog(log, period_sec=1)
        sdk.configure(rsa_key_file)

    def open(self, sink: Sink) -> FutuLink:
        """On a network thread that lives."""
        if sdk.replace_dead_network_thread():
            log.error(event("futu_network_thread_dead", action="a new one serves the next connection"))
        push = PushHandler(sink, TickMapper(self._days, self._market), self._clock)
        push.wanted = self._wanted

        def want(symbols: Sequence[str]) -> None:
            # What is dropped from the list is still pushed until OpenD takes it back, a minute later perhaps.
            push.wanted = self._wanted = self._wanted.union(symbols)

        books = brokers = None
        if self._books is not None:
            books = BookHandler(self._books, TickMapper(self._days, self._market))
        if self._brokers is not None:
            brokers = BookHandler(self._brokers, TickMapper(self._days, self._market), kind=BROKER_PUSHES)
        self._right_lost = None

        def notice(notice: sdk.Notice) -> None:
            self._say(notice)
            if notice.kind == "QotRight":
                self._right_lost = notice.name if notice.fields.get("cannot_subscribe") else None
            sink.changed(interrupted=notice.tells_outage)

        connection = sdk.Connection(
            *self._address, push, notice, market=self._market, on_books=books, on_brokers=brokers
        )
        mapper = TickMapper(self._days, self._market)
        return FutuLink(
            connection, mapper, self._clock, want, books=books, brokers=brokers, no_right=lambda: self._right_lost
        )

    def alive(self) -> bool:
        """Does the SDK's one network thread run?"""
        return sdk.network_thread_alive()

    def advice(self, error: FeedError) -> str:
        """By what went wrong."""
        if isinstance(error, RequestNotBuilt):
            return "retrying; OpenD was not asked: check FUTU_RSA_KEY_FILE, else report it"
        return "retrying; is OpenD running and is this its API port?"

    def _say(self, notice: sdk.Notice) -> None:
        """OpenD's own words (on the loop), by name."""
        advice = _GTW_ADVICE.get(notice.name)
        fields: dict[str, Any] = {key: value for key, value in notice.fields.items() if value != ""}
        lost = fields.pop("cannot_subscribe", None)
        if lost:
            advice = f"{lost} quotes are {notice.name}, which cannot subscribe: another terminal took the right"
        if advice:
            fields["action"] = advice
        level = logging.WARNING if advice or notice.fields.get("qot_logined") is False else logging.INFO
        # A name that is a bare number, and the words beside it, are OpenD's: they are no part of the key.
        key = f"{notice.kind} {'' if notice.name.isdigit() else notice.name} {notice.fields.get('qot_logined')}"
        self._notice_log.log(level, "futu_notice", key=key, kind=notice.kind, name=notice.name or "none", **fields)


def _described(info: SymbolInfo, currency: str | None) -> Described:
    is_share = info.kind in SHARES
    return Described(
        info.code,
        name=info.name,
        lot_size=info.lot_size,
        unit="shares" if is_share else None,
        multiplier=1.0 if is_share else None,
        currency=currency,
    )


def _dashed(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"
