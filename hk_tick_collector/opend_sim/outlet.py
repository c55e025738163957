"""The way out of one connection: bounded, and where faults of frames happen.

A client that does not read must not cost memory: when more than ``max_buffer_bytes`` wait for it, it is disconnected,
as OpenD does, with a log line. Requests are only read on while less than ``ANSWER_BACKLOG_BYTES`` wait, so a client
that asks faster than it reads is slowed down instead. Answers are never damaged; pushes are, when a fault says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from hk_tick_collector.core.logline import event
from hk_tick_collector.opend_sim import wire
from hk_tick_collector.opend_sim.faults import FaultState

ANSWER_BACKLOG_BYTES = 1024 * 1024
OVERSIZE_BODY_BYTES = 100 * 1024 * 1024
_THROTTLE_STEP_SEC = 0.05
_FRAME_FAULTS = ("cut", "oversize", "bad-sha1")

_log = logging.getLogger(__name__)


class Outlet:
    """Writes frames to one client. Used from the event loop only; ``send`` and ``push`` never wait."""

    def __init__(self, writer: asyncio.StreamWriter, faults: FaultState, max_buffer_bytes: int, conn_id: int) -> None:
        self._writer = writer
        self._transport = writer.transport
        self._transport.set_write_buffer_limits(high=ANSWER_BACKLOG_BYTES)
        self._faults = faults
        self._max_buffer_bytes = max_buffer_bytes
        self._conn_id = conn_id
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._pump: asyncio.Task[None] | None = None
        self.overflowed = False

    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def waiting_bytes(self) -> int:
        """What the client has not taken yet, kernel buffers aside."""
        return self._transport.get_write_buffer_size() + self._backlog_bytes

    def send(self, data: bytes) -> None:
        """Hand bytes over; over the bound the connection is closed instead."""
        if not self.is_open():
            return
        if self.waiting_bytes() + len(data) > self._max_buffer_bytes:
            self.give_up()
        elif self._backlog or self._faults.active("throttle") is not None:
            self._backlog.append(data)
            self._backlog_bytes += len(data)
            if self._pump is None or self._pump.done():
                self._pump = asyncio.create_task(self._pump_backlog(), name=f"throttle-{self._conn_id}")
        else:
            self._transport.write(data)

    def give_up(self) -> None:
        """Disconnect a client that does not read."""
        self.overflowed = True
        _log.warning(
            event(
                "client_overflow",
                conn=self._conn_id,
                waiting_bytes=self.waiting_bytes(),
                limit_bytes=self._max_buffer_bytes,
                action="disconnect",
            )
        )
        self.abort()

    def push(self, frames: Sequence[bytes]) -> None:
        """Hand push frames over, damaged where a fault strikes."""
        if not any(self._faults.active(name) for name in _FRAME_FAULTS):
            self.send(frames[0] if len(frames) == 1 else b"".join(frames))
            return
        for frame in frames:
            if self._faults.hit("cut") is not None:
                self.send(frame[: max(wire.HEADER_BYTES + 1, len(frame) // 2)])
                self.close()
                return
            if self._faults.hit("oversize") is not None:
                self.send(_oversize_header(frame))
            damaged = self._faults.hit("bad-sha1") is not None
            self.send(wire.with_bad_sha1(frame) if damaged else frame)

    async def room(self) -> None:
        """Wait until the client has taken most of what was sent. ConnectionError when it is gone."""
        await self._writer.drain()
        if self._pump is not None and self._backlog_bytes > ANSWER_BACKLOG_BYTES:
            await asyncio.wait({self._pump})

    def close(self) -> None:
        """Close after what is in the transport was sent."""
        self._forget_backlog()
        self._writer.close()

    def abort(self) -> None:
        """Close at once."""
        self._forget_backlog()
        self._transport.abort()

    def _forget_backlog(self) -> None:
        self._backlog.clear()
        self._backlog_bytes = 0
        if self._pump is not None:
            self._pump.cancel()

    async def _pump_backlog(self) -> None:
        while self._backlog and self.is_open():
            fault = self._faults.active("throttle")
            if fault is None:
                self._transport.write(self._take(self._backlog_bytes))
                return
            self._transport.write(self._take(max(1, int(fault.bytes_per_sec * _THROTTLE_STEP_SEC))))
            await asyncio.sleep(_THROTTLE_STEP_SEC)

    def _take(self, limit_bytes: int) -> bytes:
        taken: list[bytes] = []
        left = limit_bytes
        while self._backlog and left > 0:
            data = self._backlog.popleft()
            if len(data) > left:
                self._backlog.appendleft(data[left:])
                data = data[:left]
            left -= len(data)
            taken.append(data)
        self._backlog_bytes -= limit_bytes - left
        return b"".join(taken)


def _oversize_header(frame: bytes) -> bytes:
    """A header like the frame's own that promises a body of 100 MB."""
    header = wire.decode_header(frame[: wire.HEADER_BYTES], max_body_bytes=len(frame))
    return wire.HEADER.pack(
        wire.MAGIC,
        header.proto_id,
        header.fmt,
        wire.PROTO_VERSION,
        header.serial,
        OVERSIZE_BODY_BYTES,
        header.sha1,
        b"",
    )
