"""The bounded way out, on real sockets: slow readers, throttling, frames damaged on command."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from hk_tick_collector.opend_sim import wire
from hk_tick_collector.opend_sim.faults import FaultState, parse_fault
from hk_tick_collector.opend_sim.outlet import OVERSIZE_BODY_BYTES, Outlet

FRAMES = [wire.encode_frame(3011, n, bytes([n]) * 1000) for n in range(10)]

Body = Callable[[Outlet, asyncio.StreamReader], Awaitable[None]]


def with_client(body: Body, faults: FaultState, max_buffer_bytes: int = 1 << 24) -> None:
    """Run ``body`` with an outlet and the reader at its other end."""

    async def run() -> None:
        accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        server = await asyncio.start_server(lambda _r, w: accepted.put_nowait(w), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=1 << 16)
        outlet = Outlet(await accepted.get(), faults, max_buffer_bytes, conn_id=7)
        try:
            await asyncio.wait_for(body(outlet, reader), 20)
        finally:
            outlet.abort()
            writer.close()
            server.close()

    asyncio.run(run())


def begun(*lines: str) -> FaultState:
    faults = FaultState()
    for line in lines:
        faults.begin(parse_fault(line.split()))
    return faults


def test_frames_arrive_as_they_are() -> None:
    async def body(outlet: Outlet, reader: asyncio.StreamReader) -> None:
        outlet.push(FRAMES)
        assert await reader.readexactly(sum(map(len, FRAMES))) == b"".join(FRAMES)

    with_client(body, FaultState())


def test_a_client_that_does_not_read_is_disconnected(caplog: pytest.LogCaptureFixture) -> None:
    async def body(outlet: Outlet, _reader: asyncio.StreamReader) -> None:
        most_bytes = 0
        for _ in range(10_000):
            outlet.push(FRAMES)
            most_bytes = max(most_bytes, outlet.waiting_bytes())
            if not outlet.is_open():
                break
            await asyncio.sleep(0)
        assert outlet.overflowed
        assert most_bytes <= 200_000
        assert outlet.waiting_bytes() == 0

    with_client(body, FaultState(), max_buffer_bytes=200_000)
    assert "client_overflow conn=7" in caplog.text
    assert "action=disconnect" in caplog.text


def test_throttling_slows_down_and_loses_nothing() -> None:
    async def body(outlet: Outlet, reader: asyncio.StreamReader) -> None:
        begun_sec = time.monotonic()
        outlet.push(FRAMES)
        outlet.send(b"the end")
        total = sum(map(len, FRAMES))
        assert await reader.readexactly(total) == b"".join(FRAMES)
        assert await reader.readexactly(7) == b"the end"
        assert time.monotonic() - begun_sec > 0.8 * total / 20_000

    with_client(body, begun("throttle bytes_per_sec=20000"))


def test_what_a_throttle_held_back_comes_when_it_ends() -> None:
    faults = begun("throttle bytes_per_sec=100")

    async def body(outlet: Outlet, reader: asyncio.StreamReader) -> None:
        outlet.push(FRAMES)
        await asyncio.sleep(0.1)
        assert outlet.waiting_bytes() > 9000
        faults.end()
        assert await reader.readexactly(sum(map(len, FRAMES))) == b"".join(FRAMES)

    with_client(body, faults)


def test_a_throttled_backlog_is_bounded_too() -> None:
    async def body(outlet: Outlet, _reader: asyncio.StreamReader) -> None:
        for _ in range(20):
            outlet.push(FRAMES)
        assert outlet.overflowed

    with_client(body, begun("throttle bytes_per_sec=10"), max_buffer_bytes=50_000)


def test_a_cut_frame_ends_the_connection() -> None:
    async def body(outlet: Outlet, reader: asyncio.StreamReader) -> None:
        outlet.push(FRAMES)
        data = await reader.read()
        assert data == FRAMES[0][: len(FRAMES[0]) // 2]

    with_client(body, begun("cut"))


def test_a_bad_sha1_is_in_one_frame_only() -> None:
    async def body(outlet: Outlet, reader: asyncio.StreamReader) -> None:
        outlet.push(FRAMES[:2])
        assert await reader.readexactly(len(FRAMES[0])) == wire.with_bad_sha1(FRAMES[0])
        assert await reader.readexactly(len(FRAMES[1])) == FRAMES[1]

    with_client(body, begun("bad-sha1"))


def test_an_oversize_header_promises_a_hundred_megabytes() -> None:
    async def body(outlet: Outlet, reader: asyncio.StreamReader) -> None:
        outlet.push(FRAMES[:1])
        header = wire.decode_header(await reader.readexactly(wire.HEADER_BYTES), max_body_bytes=1 << 31)
        assert (header.proto_id, header.body_bytes) == (3011, OVERSIZE_BODY_BYTES)

    with_client(body, begun("oversize"))
