"""One WebSocket connection to a source, on a thread with an event loop of its own.

Owns the connection's life: it is opened, greeted, read and given up when the far side is mute. What is said there is a
protocol's own (``Conversation``'s abstract methods). The thread may be held up by a full queue; the recorder's loop
never waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, ClassVar, TypeVar

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout, RejectCode
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.records.tick import RejectedTick
from hk_tick_collector.sources.remote.asking import SHOWN_CHARS, words_of
from hk_tick_collector.sources.remote.texts import value_of
from hk_tick_collector.sources.source import Sink

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_TIMEOUT_SEC = 8
CLOSE_TIMEOUT_SEC = 1
CHECK_SEC = 1.0
MAX_FRAMES_WAITING = 16
MAX_GARBAGE = 20
MAX_REJECTED = 10_000  # events of one message that cannot be mapped: 4 MB hold a million, which would fill the memory
GONE = "the connection is gone"


class Conversation(ABC):
    """``on_lost`` is called once, on the thread, with the reason; ``opened`` is done when trades can be asked for. A
    protocol, whole::

        class Echo(Conversation):
            word, title, silence_sec, max_message_bytes = "echo", "Echo", 60, 1 << 20

            def address(self):
                return "wss://echo.example/"

            async def greet(self):
                await self.send("hello")
                await self.until(lambda: self.is_welcome)
                self.opened.set_result(None)

            def read(self, raw):
                return read_object(raw)

            def take(self, message):
                self.is_welcome = message.get("says") == "welcome"
                self.note_change()
    """

    word: ClassVar[str]  # begins its log lines, and names the thread
    title: ClassVar[str]  # what people call it
    silence_sec: ClassVar[int]  # without any message: lost
    max_message_bytes: ClassVar[int]

    def __init__(self, sink: Sink, clock: Clock, on_lost: Callable[[str], None]) -> None:
        self.opened: Future[None] = Future()
        self.heard_sec = clock.monotonic()
        self.sink = sink
        self.clock = clock
        self.repeat_log = RateLimitedLog(log, period_sec=60)
        self._on_lost = on_lost
        self._thread = threading.Thread(target=self._run, name=self.word, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._socket: Any = None
        self._changed: asyncio.Event | None = None
        self._asked: set[Future[None]] = set()
        self._has_ended = False
        self._garbage = 0  # in a row

    # --- a protocol's own, on the thread ---

    @abstractmethod
    def address(self) -> str:
        """Where to connect, with whatever the greeting will need at hand; may wait. FeedError."""

    @abstractmethod
    async def greet(self) -> None:
        """In the order that the server wants; sets ``opened``. What it does afterwards ends with the connection."""

    @abstractmethod
    def read(self, raw: str | bytes) -> Mapping[str, Any] | None:
        """A message; None for what is none."""

    @abstractmethod
    def take(self, message: Mapping[str, Any]) -> None:
        """A message that came. FeedLost ends the connection."""

    def turned_away(self, status: int, retry_after: str) -> FeedError:
        """What it is that the server answered the request for a WebSocket with this status."""
        return FeedLost(f"the server answered with status {status}")

    async def keep_alive(self) -> None:  # noqa: B027 - not every protocol has something to say
        """Called every second."""

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

    def run_there(self, make: Callable[[], Coroutine[Any, Any, None]]) -> Future[None]:
        """Run it on the thread, after ``opened``. FeedLost, also in the future, when the connection is gone."""
        assert self._loop is not None  # ``opened`` is done
        asked: Future[None] = Future()
        self._asked.add(asked)

        def begin() -> None:
            if self._has_ended:
                self._fail(asked)
                return
            task = asyncio.ensure_future(make())
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

    async def send(self, text: str) -> None:
        """FeedLost when it cannot be sent."""
        from websockets.exceptions import WebSocketException  # noqa: PLC0415 - others need no WebSockets

        try:
            await self._socket.send(text)
        except (OSError, WebSocketException) as exc:
            raise FeedLost(_words_of(exc)) from None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what a message brings, see ``note_change``."""
        assert self._changed is not None
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def note_change(self) -> None:
        """Whoever waits in ``until`` looks again."""
        assert self._changed is not None
        self._changed.set()

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._main())
        except Exception as exc:  # noqa: BLE001 - a fault of ours, too, ends this connection and no more
            words = f"{type(exc).__name__}: {words_of(exc)}"
            log.error(event(f"{self.word}_thread_failed", error=words, action="reconnecting; report it"))
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
        from websockets.exceptions import InvalidStatus, WebSocketException  # noqa: PLC0415

        from hk_tick_collector.sources.remote.straight import connect  # noqa: PLC0415

        address = await asyncio.to_thread(self.address)
        try:
            async with connect(
                address,
                open_timeout=CONNECT_TIMEOUT_SEC,
                close_timeout=CLOSE_TIMEOUT_SEC,
                ping_interval=None,  # the protocols say by messages of their own that somebody is there
                max_size=self.max_message_bytes,
                max_queue=MAX_FRAMES_WAITING,
            ) as socket:
                self._socket = socket
                await self._serve(socket)
        except InvalidStatus as exc:
            answer = exc.response
            raise self.turned_away(answer.status_code, answer.headers.get("Retry-After", "")) from None
        except (OSError, TimeoutError, WebSocketException) as exc:
            raise FeedLost(_words_of(exc)) from None

    async def _serve(self, socket: Any) -> None:
        jobs = [asyncio.ensure_future(job) for job in (self._read(socket), self.greet(), self._watch())]
        try:
            await asyncio.gather(*jobs)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SEC)
            if self.clock.monotonic() - self.heard_sec > self.silence_sec:
                raise FeedLost(f"not a message for {self.silence_sec} s")
            await self.keep_alive()

    async def _read(self, socket: Any) -> None:
        async for raw in socket:
            if self._stopped:
                return
            self.heard_sec = self.clock.monotonic()
            message = self.read(raw)
            if message is None:
                self._keep_garbage(raw)
            else:
                self._garbage = 0
                self.take(message)
        raise FeedLost("the server closed the connection")

    def _keep_garbage(self, raw: str | bytes) -> None:
        """One costs itself alone; whoever sends many, or begins so, does not speak the protocol."""
        self._garbage += 1
        if self._garbage >= MAX_GARBAGE or not self.opened.done():
            raise FeedLost(f"what comes is no message: is this a {self.title} address?")
        told = RejectedTick(
            "", "no message", {"raw": cut(ascii(raw[:SHOWN_CHARS]))}, self.clock.now_ms(), RejectCode.SYMBOL
        )
        self.sink.reject([told])


def _words_of(exc: Exception) -> str:
    """How a WebSocket ended."""
    from websockets.exceptions import ConnectionClosed  # noqa: PLC0415 - others need no WebSockets

    if not isinstance(exc, ConnectionClosed):
        return words_of(exc)
    told = exc.rcvd or exc.sent
    if told is None:
        return "the connection was broken off"
    ending = "the server closed the connection" if exc.rcvd else "what came breaks the protocol"
    return f"{ending} ({told.code}{': ' if told.reason else ''}{shown(told.reason)})"


def check_flood(rejected: Sequence[RejectedTick]) -> None:
    """FeedLost where so many events of a message were rejected that its mapper stopped: what follows is unknown."""
    if len(rejected) >= MAX_REJECTED:
        raise FeedLost(f"{MAX_REJECTED:,} events of one message cannot be read")


async def within(future: Future[T], timeout_sec: float, problem: str) -> T:
    """Its result, on another loop. FeedTimeout says ``problem`` did not happen."""
    done = asyncio.wrap_future(future)
    done.add_done_callback(lambda late: late.cancelled() or late.exception())  # whoever waited may be gone by then
    await asyncio.wait({done}, timeout=timeout_sec)
    if not done.done():
        raise FeedTimeout(f"{problem} in {timeout_sec:g} s")
    return done.result()


class Loss:
    """Tells a loop, once, that the connection is gone: ``Link.lost``."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[str] = self._loop.create_future()

    def report(self, reason: str) -> None:
        """On any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.tell, reason)

    def tell(self, reason: str) -> None:
        """On the loop."""
        if not self.future.done():
            self.future.set_result(reason)


def read_object(raw: str | bytes) -> dict[str, Any] | None:
    """A JSON object; None for anything else."""
    try:
        message = value_of(raw)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def shown(value: object) -> str:
    """The far side's words, fit for a log line."""
    return printable(cut(value if isinstance(value, str) else ascii(value), SHOWN_CHARS))
