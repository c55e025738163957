"""One connection to a dxLink endpoint: ``remote.conversation`` in dxFeed's words.

Owns the order of the greeting, the token of this connection and the subscriptions as they were asked for.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost
from hk_tick_collector.core.logline import event
from hk_tick_collector.sources.dxlink import messages
from hk_tick_collector.sources.dxlink.history import MAX_WAITING_ROWS, HistoryChannel, Past
from hk_tick_collector.sources.dxlink.mapping import Mapped, TradeMapper
from hk_tick_collector.sources.dxlink.tokens import Access, Tokens
from hk_tick_collector.sources.remote import conversation as remote
from hk_tick_collector.sources.remote.asking import BUSY, REFUSALS, busy_wait_sec, words_of
from hk_tick_collector.sources.remote.conversation import CHECK_SEC, check_flood, shown
from hk_tick_collector.sources.source import Sink

log = logging.getLogger(__name__)

ROTATE_SEC = 3600  # a token is exchanged so long before it ends, and again after so long when that was not possible
ROTATE_AGAIN_SEC = 300
# Errors of the protocol after which nothing comes any more; the others speak of one message.
FATAL = frozenset({"UNAUTHORIZED", "UNSUPPORTED_PROTOCOL", "TIMEOUT"})


class Conversation(remote.Conversation):
    """See ``remote.conversation.Conversation``."""

    word, title = "dxlink", "dxLink"
    silence_sec = messages.SILENCE_SEC
    max_message_bytes = messages.MAX_MESSAGE_BYTES

    def __init__(
        self,
        tokens: Tokens,
        mapper: TradeMapper,
        sink: Sink,
        clock: Clock,
        on_lost: Callable[[str], None],
        past: tuple[Past, TradeMapper] | None = None,
    ) -> None:
        """``past``: what was missed, and who maps it; None: the past is not asked for."""
        super().__init__(sink, clock, self._note_lost)
        self._tell_lost = on_lost
        self._past: Past | None = past[0] if past is not None else None
        self._past_mapper = past[1] if past is not None else mapper
        self._history: HistoryChannel | None = None
        self.subscribed: frozenset[str] = frozenset()  # in dxFeed's spelling; replaced on the thread alone
        self._tokens = tokens
        self._mapper = mapper
        self._access: Access | None = None
        self._rows = messages.FeedRows()
        self._state = ""  # of AUTH_STATE
        self._channel_open = False
        self._said_sec = clock.monotonic()

    def ask(self, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Future[None]:
        """Subscribe and unsubscribe, on any thread. The server does not answer: done when it is sent. FeedLost, also in
        the future, when the connection is gone."""
        return self.run_there(lambda: self._ask(add, remove))

    # --- on the thread ---

    def address(self) -> str:
        """Of the token that is good at this moment."""
        self._access = self._tokens.get()
        return self._access.url

    def read(self, raw: str | bytes) -> Mapping[str, Any] | None:
        """One with a type."""
        return messages.read(raw)

    def turned_away(self, status: int, retry_after: str) -> FeedError:
        """Who is busy is left alone; a token that is not taken is fetched anew."""
        if status in BUSY:
            return self._tokens.leave_alone(
                f"the endpoint wants to be left alone ({status})", busy_wait_sec(retry_after)
            )
        if status in REFUSALS:
            self._tokens.refused()
        return super().turned_away(status, retry_after)

    async def greet(self) -> None:
        """In the order that the server wants, each step after the answer to the one before it."""
        await self.enter(messages.request_feed())
        await self.send(messages.feed_setup())
        self.opened.set_result(None)
        if self._past is not None:
            self._history = HistoryChannel(self._past, self)
            await asyncio.gather(self._rotate(), self._history.run())
        await self._rotate()

    async def enter(self, request: str) -> None:
        """Let in, and with the channel that ``request`` asks for."""
        assert self._access is not None
        await self.send(messages.setup())
        await self.until(lambda: bool(self._state))
        if self._state != "AUTHORIZED":
            if self._access.token is None:
                raise FeedError("the endpoint wants a token: name its file in DXLINK_SECRETS_FILE")
            self._state = ""
            await self.send(messages.auth(self._access.token))
            await self.until(lambda: bool(self._state))
            self._check_authorized("the token was refused")
        await self.send(request)
        await self.until(lambda: self._channel_open)

    def is_busy(self) -> bool:
        """Do many rows wait to be stored?"""
        return self.sink.waiting_rows() > MAX_WAITING_ROWS

    def there(self) -> frozenset[str]:
        """What is subscribed, in dxFeed's spelling."""
        return self.subscribed

    def _note_lost(self, reason: str) -> None:
        if self._past is not None:
            heard_ms = self.clock.now_ms() - round((self.clock.monotonic() - self.heard_sec) * 1000)
            self._past.lost(heard_ms, under_a_question=self._history is not None and self._history.is_asking)
        self._tell_lost(reason)

    def _check_authorized(self, why: str) -> None:
        if self._state != "AUTHORIZED":
            self._tokens.refused()
            raise FeedLost(why)

    async def _rotate(self) -> None:
        """Before the token ends, the connection gets the next one and goes on without a break."""
        assert self._access is not None
        while math.isfinite(self._access.until_sec):
            await asyncio.sleep(CHECK_SEC)
            if self.clock.monotonic() < self._access.until_sec - ROTATE_SEC:
                continue
            try:
                access = await asyncio.to_thread(lambda: self._tokens.get(fresh=True))
            except Exception as exc:  # noqa: BLE001 - whatever it is, the present token is still good
                self.repeat_log.log(
                    logging.WARNING, "dxlink_token_not_renewed", error=words_of(exc), action="trying again"
                )
                await asyncio.sleep(ROTATE_AGAIN_SEC)
                continue
            self._access = access
            if access.token is not None:
                await self.send(messages.auth(access.token))
            log.info(event("dxlink_token_renewed"))

    async def keep_alive(self) -> None:
        """The server wants one, too."""
        now_sec = self.clock.monotonic()
        if now_sec - self._said_sec >= messages.KEEPALIVE_SEC:
            self._said_sec = now_sec
            await self.send(messages.keepalive())

    async def _ask(self, add: Sequence[str], remove: Sequence[str]) -> None:
        await self.send(messages.subscription(add=add, remove=remove))
        self.subscribed = self.subscribed.union(add).difference(remove)
        if self._past is not None:
            self._past.unsubscribed(remove)
            self._past.subscribed(add)

    def take(self, message: Mapping[str, Any]) -> None:
        """Events above all."""
        kind = message["type"]
        if kind == "FEED_DATA":
            self._take_events(message)
            return
        take = _TAKERS.get(kind)
        if take is not None:
            take(self, message)
            self.note_change()

    def _take_events(self, message: Mapping[str, Any]) -> None:
        history = self._history_of(message)
        if history is not None:
            rows = history.trades(history.rows.rows(message.get("data")))
            self._hand_over(self._past_mapper.map(rows, self.clock.now_ms()), is_past=True)
        elif message.get("channel") == messages.FEED_CHANNEL:
            mapped = self._mapper.map(self._rows.rows(message.get("data")), self.clock.now_ms())
            self._hand_over(mapped, is_past=False)

    def _history_of(self, message: Mapping[str, Any]) -> HistoryChannel | None:
        """Where the past is asked for, if the message is of that channel."""
        return self._history if message.get("channel") == messages.HISTORY_CHANNEL else None

    def _hand_over(self, mapped: Mapped, *, is_past: bool) -> None:
        if mapped.disagree_rows:
            action = "the trade's own time is stored"
            self.repeat_log.log(logging.WARNING, "dxlink_index_disagrees", rows=mapped.disagree_rows, action=action)
        if mapped.rejected:
            self.sink.reject(mapped.rejected)
        if mapped.ticks and is_past:  # it comes the newest first
            self.sink.push([ticks[::-1] for ticks in mapped.ticks.values()], replayed=True)
        elif mapped.ticks:
            self.sink.push(list(mapped.ticks.values()))
        if mapped.amended:
            self.sink.learn(mapped.amended)
        check_flood(mapped.rejected)

    def _auth_state(self, message: Mapping[str, Any]) -> None:
        self._state = "AUTHORIZED" if message.get("state") == "AUTHORIZED" else "UNAUTHORIZED"
        if self.opened.done():
            self._check_authorized("the server no longer takes the token")

    def _channel_opened(self, message: Mapping[str, Any]) -> None:
        history = self._history_of(message)
        if history is not None:
            history.opened()
        self._channel_open = self._channel_open or message.get("channel") == messages.FEED_CHANNEL

    def _channel_closed(self, message: Mapping[str, Any]) -> None:
        history = self._history_of(message)
        if history is not None:
            history.refused("the server closed the channel")
        if message.get("channel") == messages.FEED_CHANNEL:
            raise FeedLost("the server closed the channel")

    def _feed_config(self, message: Mapping[str, Any]) -> None:
        history = self._history_of(message)
        if history is not None:
            self._history_config(history, message)
        if message.get("channel") != messages.FEED_CHANNEL:
            return
        self._rows.configure(message.get("eventFields"))
        period_sec = message.get("aggregationPeriod")
        if isinstance(period_sec, int | float) and period_sec > 0:
            self.repeat_log.log(logging.INFO, "dxlink_feed_config", aggregation_period_sec=period_sec)

    @staticmethod
    def _history_config(history: HistoryChannel, message: Mapping[str, Any]) -> None:
        try:
            history.rows.configure(message.get("eventFields"))
        except FeedLost as exc:  # of that channel alone
            history.refused(str(exc))

    def _error(self, message: Mapping[str, Any]) -> None:
        kind, words = shown(message.get("error")), shown(message.get("message"))
        history = self._history_of(message)
        if history is not None:  # no right to the past is none to lose the present for
            history.refused(f"{kind}: {words}")
            return
        if kind in FATAL:
            if kind == "UNAUTHORIZED":
                self._tokens.refused()
            raise FeedLost(f"{kind}: {words}")
        self.repeat_log.log(logging.WARNING, "dxlink_error", key=kind[:20], error=kind, message=words)


_TAKERS: dict[str, Callable[[Conversation, Mapping[str, Any]], None]] = {
    "AUTH_STATE": Conversation._auth_state,
    "CHANNEL_OPENED": Conversation._channel_opened,
    "CHANNEL_CLOSED": Conversation._channel_closed,
    "FEED_CONFIG": Conversation._feed_config,
    "ERROR": Conversation._error,
}
