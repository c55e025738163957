"""One channel of the gateway's events, on a thread of its own.

The thread may be held up by a full queue; the recorder's loop never waits for it. Each part that the connection brings
is cut into events, mapped and handed over at once.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, RejectCode
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.text import cut
from hk_tick_collector.records.tick import RejectedTick
from hk_tick_collector.sources.remote.asking import SHOWN_CHARS, words_of
from hk_tick_collector.sources.remote.conversation import MAX_GARBAGE
from hk_tick_collector.sources.shioaji import messages
from hk_tick_collector.sources.shioaji.gateway import Gateway
from hk_tick_collector.sources.shioaji.mapping import TickMapper
from hk_tick_collector.sources.source import Sink

log = logging.getLogger(__name__)

READ_BYTES = 1 << 16


class Conversation:
    """``opened`` is done when events can come; ``on_lost`` is called once, on the thread, with the reason."""

    def __init__(
        self,
        channel: str,
        gateway: Gateway,
        mapper: TickMapper,
        sink: Sink,
        clock: Clock,
        on_lost: Callable[[str], None],
    ) -> None:
        self.opened: Future[None] = Future()
        self._channel = channel
        self._name = channel.encode()
        self._gateway = gateway
        self._mapper = mapper
        self._sink = sink
        self._clock = clock
        self._on_lost = on_lost
        self._stopped = False
        self._line: socket.socket | None = None
        self._garbage = 0  # in a row

    def start(self) -> None:
        """Begin; ``opened`` tells how it went."""
        threading.Thread(target=self._run, name=f"shioaji {self._channel}", daemon=True).start()

    def stop(self) -> None:
        """End; what is read afterwards is not handed over."""
        self._stopped = True
        line = self._line
        if line is not None:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        error = FeedError("closed")
        try:
            self._converse()
        except FeedError as exc:
            error = exc
        except Exception as exc:  # noqa: BLE001 - a fault of ours, too, ends this connection and no more
            words = f"{type(exc).__name__}: {words_of(exc)}"
            log.error(event("shioaji_thread_failed", error=words, action="reconnecting; report it"))
            error = FeedLost(f"a fault of ours: {words}")
        if not self.opened.done():
            self.opened.set_exception(error)
        self._on_lost(str(error))

    def _converse(self) -> None:
        self._line, response = self._gateway.listen(messages.channel_path(self._channel), messages.SILENCE_SEC)
        try:
            self.opened.set_result(None)
            self._read(response)
        except TimeoutError:
            raise FeedLost(f"not a byte for {messages.SILENCE_SEC} s") from None
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise FeedLost(words_of(exc)) from None
        finally:
            response.close()
            self._line.close()

    def _read(self, response: http.client.HTTPResponse) -> None:
        stream, heard_sec = messages.EventStream(), self._clock.monotonic()
        while not self._stopped:
            part = response.read1(READ_BYTES)
            if not part:
                raise FeedLost("the gateway closed the connection")
            events = stream.feed(part)
            if events:
                heard_sec = self._clock.monotonic()
                self._take(events)
            elif self._clock.monotonic() - heard_sec > messages.SILENCE_SEC:
                raise FeedLost(f"bytes and not an event for {messages.SILENCE_SEC} s")

    def _take(self, events: list[messages.Event]) -> None:
        recv_ts_ms = self._clock.now_ms()
        texts = [event.data for event in events if event.name == self._name]
        odd = [event for event in events if event.name not in (self._name, b"heartbeat")]
        rejected = [self._garbled(event.name + b" " + event.data, recv_ts_ms) for event in odd if not event.name]
        if texts:
            values = messages.read_all(texts)
            rejected += [
                self._garbled(text, recv_ts_ms) for text, value in zip(texts, values, strict=True) if value is None
            ]
            mapped = self._mapper.map([value for value in values if value is not None], recv_ts_ms)
            rejected += mapped.rejected
        if self._stopped:
            return
        if rejected:
            self._sink.reject(rejected)
        if texts and mapped.ticks:
            self._garbage = 0
            self._sink.push(list(mapped.ticks.values()))
        if self._garbage >= MAX_GARBAGE:
            raise FeedLost("what comes are no events: is this a Shioaji gateway?")

    def _garbled(self, raw: bytes, recv_ts_ms: int) -> RejectedTick:
        """One costs itself alone; many in a row end the connection."""
        self._garbage += 1
        shown = {"raw": cut(ascii(raw[:SHOWN_CHARS]))}
        return RejectedTick("", "no event", dict(shown), recv_ts_ms, RejectCode.SYMBOL)
