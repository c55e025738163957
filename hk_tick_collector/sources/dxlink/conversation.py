"""One WebSocket connection to a dxLink endpoint, on a thread with an event loop of its own.

Owns the order of the greeting, the token of this connection, the subscriptions as they were asked for, and the
judgement that the far side is mute. The thread may be held up by a full queue; the recorder's loop never waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, RejectCode
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.records.tick import RejectedTick
from hk_tick_collector.sources.dxlink import messages
from hk_tick_collector.sources.dxlink.mapping import TradeMapper
from hk_tick_collector.sources.dxlink.tokens import Access, Tokens
from hk_tick_collector.sources.source import Sink

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_SEC = 8
CLOSE_TIMEOUT_SEC = 1
SHOWN_CHARS = 120
CHECK_SEC = 1.0
ROTATE_SEC = 3600  # a token is exchanged so long before it ends, and again after so long when that was not possible
ROTATE_AGAIN_SEC = 300
MAX_FRAMES_WAITING = 16
MAX_GARBAGE = 20
GONE = "the connection is gone"
# Errors of the protocol after which nothing comes any more; the others speak of one message.
FATAL = frozenset({"UNAUTHORIZED", "UNSUPPORTED_PROTOCOL", "TIMEOUT"})


class Conversation:
    """``on_lost`` is called once, on the thread, with the reason; ``opened`` is done when trades can be asked for."""

    def __init__(
        self, tokens: Tokens, mapper: TradeMapper, sink: Sink, clock: Clock, on_lost: Callable[[str], None]
    ) -> None:
        self.opened: Future[None] = Future()
        self.subscribed: frozenset[str] = frozenset()  # in dxFeed's spelling; replaced on the thread alone
        self.heard_sec = clock.monotonic()
        self._tokens = tokens
        self._mapper = mapper
        self._sink = sink
        self._clock = clock
        self._on_lost = on_lost
        self._thread = threading.Thread(target=self._run, name="dxlink", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._socket: Any = None
        self._access: Access | None = None
        self._rows = messages.FeedRows()
        self._state = ""  # of AUTH_STATE
        self._channel_open = False
        self._changed: asyncio.Event | None = None
        self._asked: set[Future[None]] = set()
        self._has_ended = False
        self._garbage = 0  # in a row
        self._log = RateLimitedLog(log, period_sec=60)

    # --- called on the recorder's loop ---

    def start(self) -> None:
        """Begin; ``opened`` tells how it went."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is read afterwards is not handed over."""
        self._stopped = True
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(task.cancel)

    def ask(self, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Future[None]:
        """Subscribe and unsubscribe. The server does not answer: done when it is sent. FeedLost, also in the future,
        when the connection is gone."""
        assert self._loop is not None  # ``opened`` is done
        asked: Future[None] = Future()
        self._asked.add(asked)

        def begin() -> None:
            if self._has_ended:
                self._fail(asked)
                return
            task = asyncio.ensure_future(self._ask(add, remove))
            task.add_done_callback(lambda done: self._answer(asked, done))

        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:  # the thread's loop has ended
            self._fail(asked)
        if self._has_ended:  # it may not come to ``begin`` any more
            self._fail(asked)
        return asked

    def _answer(self, asked: Future[None], done: asyncio.Task[None]) -> None:
        with contextlib.suppress(InvalidStateError):  # it was given up
            error = FeedLost(GONE) if done.cancelled() else done.exception()
            if error is None:
                asked.set_result(None)
            else:
                asked.set_exception(error)
        self._asked.discard(asked)

    def _fail(self, asked: Future[None]) -> None:
        with contextlib.suppress(InvalidStateError):
            asked.set_exception(FeedLost(GONE))
        self._asked.discard(asked)

    # --- on the thread ---

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._main())
        except Exception as exc:  # noqa: BLE001 - a fault of ours, too, ends this connection and no more
            words = f"{type(exc).__name__}: {_words(exc)}"
            log.error(event("dxlink_thread_failed", error=words, action="reconnecting; report it"))
            self._end(FeedLost(f"a fault of ours: {words}"))

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._task = asyncio.current_task()
        error = FeedError("closed")
        if not self._stopped:
            try:
                await self._converse()
            except FeedError as exc:
                error = exc
            except asyncio.CancelledError:
                error = FeedLost("closed")
        self._end(error)

    def _end(self, error: FeedError) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
        self._has_ended = True
        for asked in tuple(self._asked):
            self._fail(asked)
        self._on_lost(str(error))

    async def _converse(self) -> None:
        """Until it is lost: FeedError with the reason."""
        # Imported here: others need no WebSockets.
        from websockets.exceptions import WebSocketException  # noqa: PLC0415

        from hk_tick_collector.sources.dxlink.straight import connect  # noqa: PLC0415

        self._access = access = await asyncio.to_thread(self._tokens.get)
        try:
            async with connect(
                access.url,
                open_timeout=CONNECT_TIMEOUT_SEC,
                close_timeout=CLOSE_TIMEOUT_SEC,
                ping_interval=None,  # dxLink has a KEEPALIVE of its own
                max_size=messages.MAX_MESSAGE_BYTES,
                max_queue=MAX_FRAMES_WAITING,
            ) as socket:
                self._socket = socket
                await self._serve(socket)
        except (OSError, TimeoutError, WebSocketException) as exc:
            raise FeedLost(_words(exc)) from None

    async def _serve(self, socket: Any) -> None:
        jobs = [asyncio.ensure_future(job) for job in (self._read(socket), self._greet(), self._keep_alive())]
        try:
            await asyncio.gather(*jobs)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _greet(self) -> None:
        """In the order that the server wants, each step after the answer to the one before it."""
        assert self._access is not None
        await self._send(messages.setup())
        await self._until(lambda: bool(self._state))
        if self._state != "AUTHORIZED":
            if self._access.token is None:
                raise FeedError("the endpoint wants a token: name its file in DXLINK_SECRETS_FILE")
            self._state = ""
            await self._send(messages.auth(self._access.token))
            await self._until(lambda: bool(self._state))
            self._check_authorized("the token was refused")
        await self._send(messages.request_feed())
        await self._until(lambda: self._channel_open)
        await self._send(messages.feed_setup())
        self.opened.set_result(None)
        await self._rotate()

    async def _until(self, condition: Callable[[], bool]) -> None:
        assert self._changed is not None
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _check_authorized(self, why: str) -> None:
        if self._state != "AUTHORIZED":
            self._tokens.refused()
            raise FeedLost(why)

    async def _rotate(self) -> None:
        """Before the token ends, the connection gets the next one and goes on without a break."""
        assert self._access is not None
        while math.isfinite(self._access.until_sec):
            await asyncio.sleep(CHECK_SEC)
            if self._clock.monotonic() < self._access.until_sec - ROTATE_SEC:
                continue
            try:
                access = await asyncio.to_thread(lambda: self._tokens.get(fresh=True))
            except Exception as exc:  # noqa: BLE001 - whatever it is, the present token is still good
                self._log.log(logging.WARNING, "dxlink_token_not_renewed", error=_words(exc), action="trying again")
                await asyncio.sleep(ROTATE_AGAIN_SEC)
                continue
            self._access = access
            if access.token is not None:
                await self._send(messages.auth(access.token))
            log.info(event("dxlink_token_renewed"))

    async def _keep_alive(self) -> None:
        said_sec = self._clock.monotonic()
        while True:
            await asyncio.sleep(CHECK_SEC)
            now_sec = self._clock.monotonic()
            if now_sec - self.heard_sec > messages.SILENCE_SEC:
                raise FeedLost(f"not a message for {messages.SILENCE_SEC} s")
            if now_sec - said_sec >= messages.KEEPALIVE_SEC:
                said_sec = now_sec
                await self._send(messages.keepalive())

    async def _ask(self, add: Sequence[str], remove: Sequence[str]) -> None:
        from websockets.exceptions import WebSocketException  # noqa: PLC0415

        try:
            await self._send(messages.subscription(add=add, remove=remove))
        except (OSError, WebSocketException) as exc:
            raise FeedLost(_words(exc)) from None
        self.subscribed = self.subscribed.union(add).difference(remove)

    async def _send(self, text: str) -> None:
        await self._socket.send(text)

    async def _read(self, socket: Any) -> None:
        async for raw in socket:
            if self._stopped:
                return
            self.heard_sec = self._clock.monotonic()
            message = messages.read(raw)
            if message is None:
                self._keep_garbage(raw)
            else:
                self._garbage = 0
                self._take(message)
        raise FeedLost("the server closed the connection")

    def _keep_garbage(self, raw: str | bytes) -> None:
        """One costs itself alone; whoever sends many, or begins so, does not speak dxLink."""
        self._garbage += 1
        if self._garbage >= MAX_GARBAGE or not self.opened.done():
            raise FeedLost("what comes is no message: is this a dxLink address?")
        told = RejectedTick(
            "", "no message", {"raw": cut(ascii(raw[:SHOWN_CHARS]))}, self._clock.now_ms(), RejectCode.SYMBOL
        )
        self._sink.reject([told])

    def _take(self, message: Mapping[str, Any]) -> None:
        kind = message["type"]
        if kind == "FEED_DATA":
            self._take_events(message)
            return
        take = _TAKERS.get(kind)
        if take is not None:
            take(self, message)
            assert self._changed is not None
            self._changed.set()

    def _take_events(self, message: Mapping[str, Any]) -> None:
        if message.get("channel") != messages.FEED_CHANNEL:
            return
        mapped = self._mapper.map(self._rows.rows(message.get("data")), self._clock.now_ms())
        if mapped.disagree_rows:
            action = "the trade's own time is stored"
            self._log.log(logging.WARNING, "dxlink_index_disagrees", rows=mapped.disagree_rows, action=action)
        if mapped.rejected:
            self._sink.reject(mapped.rejected)
        if mapped.ticks:
            self._sink.push(list(mapped.ticks.values()))
        if mapped.amended:
            self._sink.learn(mapped.amended)

    def _auth_state(self, message: Mapping[str, Any]) -> None:
        self._state = "AUTHORIZED" if message.get("state") == "AUTHORIZED" else "UNAUTHORIZED"
        if self.opened.done():
            self._check_authorized("the server no longer takes the token")

    def _channel_opened(self, message: Mapping[str, Any]) -> None:
        self._channel_open = self._channel_open or message.get("channel") == messages.FEED_CHANNEL

    def _channel_closed(self, message: Mapping[str, Any]) -> None:
        if message.get("channel") == messages.FEED_CHANNEL:
            raise FeedLost("the server closed the channel")

    def _feed_config(self, message: Mapping[str, Any]) -> None:
        if message.get("channel") != messages.FEED_CHANNEL:
            return
        self._rows.configure(message.get("eventFields"))
        period_sec = message.get("aggregationPeriod")
        if isinstance(period_sec, int | float) and period_sec > 0:
            self._log.log(logging.INFO, "dxlink_feed_config", aggregation_period_sec=period_sec)

    def _error(self, message: Mapping[str, Any]) -> None:
        kind, words = _shown(message.get("error")), _shown(message.get("message"))
        if kind in FATAL:
            if kind == "UNAUTHORIZED":
                self._tokens.refused()
            raise FeedLost(f"{kind}: {words}")
        self._log.log(logging.WARNING, "dxlink_error", key=kind[:20], error=kind, message=words)


_TAKERS: dict[str, Callable[[Conversation, Mapping[str, Any]], None]] = {
    "AUTH_STATE": Conversation._auth_state,
    "CHANNEL_OPENED": Conversation._channel_opened,
    "CHANNEL_CLOSED": Conversation._channel_closed,
    "FEED_CONFIG": Conversation._feed_config,
    "ERROR": Conversation._error,
}


def _shown(value: object) -> str:
    return printable(cut(value if isinstance(value, str) else ascii(value), SHOWN_CHARS))


def _words(exc: Exception) -> str:
    """What went wrong with the connection, without the address's query, which may hold a key."""
    text = printable(cut(str(exc).partition("?")[0], SHOWN_CHARS))
    return text or type(exc).__name__
