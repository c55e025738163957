"""What the SDK costs around a tick: the recorder's receiving side on three transports, and the whole recorder.

    python -m benchmarks.transport

Receivers take turns on the same load, each in a process of its own: ``sdk`` is ``sources.futu.sdk.Connection`` as the
recorder uses it; ``asyncio`` and ``thread`` are the least an own transport can be (the SDK's message classes for
InitConnect, Sub and KeepAlive, no encryption, no other requests, no reconnecting), on an event loop of its own or in a
thread that blocks in ``recv``. All three use the recorder's frame cutting, mapping and continuity, and a sink that only
counts.
``raw`` is the floor's handler on the SDK's own callback thread: the SDK cuts, nothing is checked or followed.
``recorder`` is the whole program on the same load: what a transport can save at most is the difference between ``sdk``
and the cheapest of the others, and its share of the recorder's CPU says whether it is worth having.

A lost tick ends the benchmark with exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import queue
import signal
import socket
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import rig
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.main import GC_THRESHOLD_OBJECTS
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.sources.continuity import Continuity
from hk_tick_collector.sources.futu import spec
from hk_tick_collector.sources.futu.frames_in import HEAD, FrameCutter, WireStats
from hk_tick_collector.sources.futu.mapping import TickMapper
from hk_tick_collector.sources.futu.push import PushHandler
from hk_tick_collector.sources.intake import Intake
from hk_tick_collector.sources.plausible import PlausibleDays
from tests.harness import Process, clean_env, ended

SDK, ASYNCIO, THREAD, RAW = "sdk", "asyncio", "thread", "raw"
RECEIVERS = (SDK, ASYNCIO, THREAD, RAW)
DEFAULT_TICKS = {1: 200_000, 50: 400_000}
SHORT_TICKS = 20_000
DEFAULT_RATES = (200, 1000)
WINDOW_SEC = 10.0
SHORT_WINDOW_SEC = 3.0
SETTLE_SEC = 2.0
RECV_BYTES = 128 * 1024  # as the SDK
RECV_TIMEOUT_SEC = 1  # how soon the thread sees that it shall end
REQUEST_TIMEOUT_SEC = 10.0
LOST_TOLERANCE = 0.02  # of a steady window: its two counts are not taken at exactly its ends
COLUMNS = ("load", "program", "CPU us/tick", "min-max", "CPU %", "switches/s", "saved us/tick", "of the recorder's CPU")


# The receiving process


class Counter:
    """The sink: counts, and says when ``wanted`` ticks are there (0: never)."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self.ticks = self.new_holes = 0

    def take(self, ticks: Sequence[object]) -> None:
        self.ticks += len(ticks)
        if self._wanted and self.ticks >= self._wanted:
            self._wanted = 0
            print("all_received", flush=True)

    def put(self, rows: Sequence[object]) -> None:
        """As a queue: the floor's handler hands over so."""
        self.take(rows)

    def hole(self) -> None:
        self.new_holes += 1

    def handler(self) -> PushHandler:
        """What the recorder does with pushes, with this sink behind it."""

        def sink(ticks: Sequence[Tick]) -> None:
            self.take(ticks)

        continuity = Continuity(lambda _facts: None, spec.HK)
        clock, days = SystemClock(), PlausibleDays(HK)
        intake = Intake(
            sink, lambda _rejected: None, lambda _facts: None, continuity, FeedProgress(), clock, days, self.hole,
            lambda: None,
        )  # fmt: skip
        return PushHandler(intake, TickMapper(days), clock)


class OwnTransport:
    """A connection of our own making. ``open`` and ``request`` block; ``take`` runs wherever the bytes arrive."""

    def __init__(self, handler: PushHandler) -> None:
        from futu.common.constant import ProtoId  # noqa: PLC0415
        from futu.common.pb import Qot_UpdateTicker_pb2  # noqa: PLC0415

        self._handler = handler
        self._answers: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        decode = Qot_UpdateTicker_pb2.Response.FromString
        self._cutter = FrameCutter(ProtoId.Qot_UpdateTicker, decode, self._answer, WireStats())
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)  # as the SDK
        self.keep_alive_sec = 10.0
        self._conn_id = 0

    def open(self, port: int, codes: list[str]) -> None:
        """Connect, InitConnect, subscribe with pushes. Raises ``RuntimeError`` with OpenD's words."""
        from futu.common.constant import SubType  # noqa: PLC0415
        from futu.common.pb import InitConnect_pb2, Qot_Sub_pb2  # noqa: PLC0415
        from futu.quote.quote_query import InitConnect, SubscriptionQuery  # noqa: PLC0415

        self.sock.settimeout(REQUEST_TIMEOUT_SEC)
        self.sock.connect(("127.0.0.1", port))
        packed = InitConnect.pack_req(101, "benchmark", recv_notify=True, is_encrypt=False, push_proto_fmt=0)
        init = self._request(packed, InitConnect_pb2.Response.FromString)
        self._conn_id = init.s2c.connID
        self.keep_alive_sec = init.s2c.keepAliveInterval * 4 / 5
        packed = SubscriptionQuery.pack_subscribe_req(codes, [SubType.TICKER], self._conn_id, True, True, False, False)
        self._request(packed, Qot_Sub_pb2.Response.FromString)

    def keep_alive_frame(self) -> bytes:
        from futu.quote.quote_query import KeepAlive  # noqa: PLC0415

        frame: bytes = KeepAlive.pack_req(self._conn_id)[2]
        return frame

    def take(self, data: bytes) -> None:
        """Bytes from the socket."""
        pushes: list[Any] = []
        self._cutter.cut(data, pushes, encrypted=False)
        if pushes:
            self._handler(pushes)

    def _answer(self, frame: bytes) -> None:
        self._answers.put((HEAD.unpack_from(frame)[1], frame[HEAD.size :]))

    def _request(self, packed: tuple[Any, ...], decode: Callable[[bytes], Any]) -> Any:
        _, message, frame, proto_id, _ = packed
        if frame is None:
            raise RuntimeError(message)
        self.sock.sendall(frame)
        while True:
            while self._answers.empty():
                self.take(self.sock.recv(RECV_BYTES))
            answered, body = self._answers.get()
            if answered == proto_id:
                answer = decode(body)
                if answer.retType != 0:
                    raise RuntimeError(answer.retMsg)
                return answer


def receive_in_thread(transport: OwnTransport, stop: threading.Event) -> Callable[[bytes], None]:
    """One ``recv`` a wake-up and no selector: the fewest system calls there can be. Returns how to send."""
    # The kernel's timeout; Python's own would poll before each recv.
    transport.sock.settimeout(None)
    transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", RECV_TIMEOUT_SEC, 0))

    def run() -> None:
        recv, take = transport.sock.recv, transport.take
        while not stop.is_set():
            try:
                data = recv(RECV_BYTES)
            except BlockingIOError:  # nothing for a second
                continue
            if not data:
                break
            take(data)

    threading.Thread(target=run, daemon=True).start()
    return transport.sock.sendall


class _Protocol(asyncio.Protocol):
    """Hands bytes on."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take

    def data_received(self, data: bytes) -> None:
        self._take(data)


def receive_on_loop(transport: OwnTransport) -> Callable[[bytes], None]:
    """An event loop of its own in a thread: the recorder's loop has other things to do. Returns how to send."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    transport.sock.setblocking(False)
    made = loop.create_connection(lambda: _Protocol(transport.take), sock=transport.sock)
    stream, _ = asyncio.run_coroutine_threadsafe(made, loop).result(REQUEST_TIMEOUT_SEC)

    def send(frame: bytes) -> None:
        loop.call_soon_threadsafe(stream.write, frame)

    return send


async def receive_own(kind: str, port: int, codes: list[str], counter: Counter, stop: asyncio.Event) -> None:
    """``asyncio`` or ``thread`` until stopped."""
    transport = OwnTransport(counter.handler())
    transport.open(port, codes)
    ended_too = threading.Event()
    send = receive_on_loop(transport) if kind == ASYNCIO else receive_in_thread(transport, ended_too)
    print("subscribed", flush=True)
    while not stop.is_set():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), transport.keep_alive_sec)
        send(transport.keep_alive_frame())
    ended_too.set()


async def receive_sdk(port: int, codes: list[str], counter: Counter, stop: asyncio.Event) -> None:
    """The recorder's way until stopped."""
    from hk_tick_collector.sources.futu import sdk  # noqa: PLC0415

    connection = sdk.Connection("127.0.0.1", port, counter.handler(), lambda _notice: None)
    await connection.open(REQUEST_TIMEOUT_SEC)
    await connection.subscribe_tickers(codes, REQUEST_TIMEOUT_SEC)
    print("subscribed", flush=True)
    await stop.wait()
    connection.close()


async def receive_raw(port: int, codes: list[str], counter: Counter, stop: asyncio.Event) -> None:
    """The floor's handler until stopped."""
    import futu  # noqa: PLC0415

    from benchmarks.floor import Handler  # noqa: PLC0415

    context = futu.OpenQuoteContext("127.0.0.1", port)
    context.set_handler(Handler(counter))  # type: ignore[arg-type]
    ret, message = context.subscribe(codes, [futu.SubType.TICKER])
    if ret != futu.RET_OK:
        raise RuntimeError(message)
    print("subscribed", flush=True)
    await stop.wait()
    context.close()


async def receive(kind: str, port: int, wanted: int) -> None:
    """One receiving process: SIGUSR1 asks it for its counts, SIGTERM ends it."""
    counter, stop, loop = Counter(wanted), asyncio.Event(), asyncio.get_running_loop()
    # The same start for all, which is the recorder's: no pandas, and a collector that leaves what was loaded alone.
    # What these two buy has nothing to do with the transport.
    from hk_tick_collector.sources.futu import sdk  # noqa: PLC0415 (the measuring process goes without the SDK)

    sdk.configure()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD_OBJECTS, 20, 20)
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def show() -> None:
        print(f"ticks={counter.ticks} new_holes={counter.new_holes}", flush=True)

    loop.add_signal_handler(signal.SIGUSR1, show)
    codes = rig.SYMBOLS.split(",")
    ways = {SDK: receive_sdk, RAW: receive_raw}
    way = ways.get(kind) or functools.partial(receive_own, kind)
    await way(port, codes, counter, stop)


# The measuring process


class Receiver(Process):
    """A receiving process of one kind."""

    def __init__(self, kind: str, directory: Path, port: int, wanted: int) -> None:
        self.kind = kind
        command = [sys.executable, "-m", "benchmarks.transport", "--receive", kind, str(port), str(wanted)]
        super().__init__(command, clean_env(directory / f"home-{kind}"))

    def counts(self) -> tuple[int, int]:
        """Ticks and holes so far."""
        lines_before = len(self.lines)
        self.signal(signal.SIGUSR1)
        deadline = time.monotonic() + REQUEST_TIMEOUT_SEC
        while time.monotonic() < deadline and len(self.lines) == lines_before:
            time.sleep(0.002)
        match = self.find(r"ticks=(\d+) new_holes=(\d+)")
        assert match is not None, f"{self.kind} says nothing\n{self.output}"
        return int(match[1]), int(match[2])


@dataclass(frozen=True)
class Run:
    """One program over one load."""

    cpu_us: float
    cpu_percent: float
    switches_per_sec: float


class Meter:
    """CPU and switches of a process from now to ``read``."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._begun = time.monotonic(), rig.cpu_sec(pid), rig.context_switches(pid)

    def read(self, ticks: int) -> Run:
        now = time.monotonic(), rig.cpu_sec(self._pid), rig.context_switches(self._pid)
        took_sec, cpu_sec, switches = (after - before for after, before in zip(now, self._begun, strict=True))
        return Run(cpu_sec / ticks * 1e6, cpu_sec / took_sec * 100, switches / took_sec)


def measure_full(directory: Path, kind: str, ticks: int, ticks_per_push: int) -> Run:
    """One program as fast as the socket takes it, from the first frame sent to the last tick counted or readable."""
    with contextlib.ExitStack() as cleanup:
        load = ("--firehose", ticks, "--ticks-per-push", ticks_per_push)
        simulator = rig.simulator(directory / "sim", *load)
        cleanup.enter_context(ended(simulator))
        made = int(simulator.wait_for(r"firehose_ready ticks=(\d+)").group(1))
        program: Any
        if kind == rig.RECORDER:
            pulls_off: dict[str, Any] = {"BACKFILL_N": 0, "FUTU_POLL_ENABLED": 0}
            program = rig.Collector(kind, directory / "data", simulator.port, **pulls_off)
            reader = cleanup.enter_context(contextlib.closing(rig.RowReader(program.data_root)))
        else:
            program = Receiver(kind, directory, simulator.port, made)
        cleanup.enter_context(ended(program))
        rig.wait_quickly(lambda: simulator.find("firehose_begin"), "subscriptions", program)
        meter = Meter(program.proc.pid)
        if kind == rig.RECORDER:
            rig.wait_quickly(lambda: reader.rows() >= made, f"{made} rows", program)
        else:
            rig.wait_quickly(lambda: program.find("all_received"), f"{made} ticks", program)
        run = meter.read(made)
        if kind != rig.RECORDER:
            assert program.counts() == (made, 0), f"{kind}: {program.output}, made were {made}"
    return run


def measure_steady(directory: Path, kind: str, rate: int, window_sec: float) -> Run:
    """One program at ``rate`` ticks a second, one a push."""
    with contextlib.ExitStack() as cleanup:
        simulator = rig.simulator(directory / "sim", "--rate", rate, "--ticks-per-push", 1)
        cleanup.enter_context(ended(simulator))
        if kind == rig.RECORDER:
            recorder = rig.Collector(kind, directory / "data", simulator.port, FUTU_POLL_TRADING_ONLY=0)
            cleanup.enter_context(ended(recorder))
            recorder.wait_for("backfill_done")
            time.sleep(SETTLE_SEC)
            meter = Meter(recorder.proc.pid)
            time.sleep(window_sec)
            return meter.read(int(rate * window_sec))
        receiver = Receiver(kind, directory, simulator.port, 0)
        cleanup.enter_context(ended(receiver))
        receiver.wait_for("subscribed")
        time.sleep(SETTLE_SEC)
        before, _ = receiver.counts()
        meter = Meter(receiver.proc.pid)
        time.sleep(window_sec)
        run = meter.read(int(rate * window_sec))
        after, new_holes = receiver.counts()
    lost = 1 - (after - before) / (rate * window_sec)
    assert abs(lost) < LOST_TOLERANCE, f"{kind} got {after - before} ticks in {window_sec:g} s"
    assert new_holes == 0, f"{kind} missed ticks: {new_holes} holes"
    return run


def compare(load: str, rounds: int, measure: Callable[[str, int], Run]) -> list[list[object]]:
    """The table's rows for one load; ``measure`` takes the program and the round's number."""
    programs = (*RECEIVERS, rig.RECORDER)
    runs: dict[str, list[Run]] = {program: [] for program in programs}
    for number in range(rounds):
        # Another one begins each round: what the machine does beside it hits all alike.
        turn = number % len(programs)
        for program in programs[turn:] + programs[:turn]:
            runs[program].append(measure(program, number))
    return [_row(load, program, runs) for program in programs]


def _row(load: str, program: str, runs: dict[str, list[Run]]) -> list[object]:
    own = runs[program]
    cpu_us = [run.cpu_us for run in own]
    saved = share = None
    if program != rig.RECORDER:
        # Of one round each: the machine is the same for all of them.
        saved = statistics.median(sdk.cpu_us - run.cpu_us for sdk, run in zip(runs[SDK], own, strict=True))
        whole = statistics.median(run.cpu_us for run in runs[rig.RECORDER])
        share = f"{saved / whole:.1%}" if program != SDK else f"is {statistics.median(cpu_us) / whole:.0%}"
        saved = None if program == SDK else saved
    return [
        load,
        program,
        statistics.median(cpu_us),
        f"{min(cpu_us):.1f}-{max(cpu_us):.1f}",
        statistics.median(run.cpu_percent for run in own),
        statistics.median(run.switches_per_sec for run in own),
        saved,
        share,
    ]


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 measured, 1 a tick was lost."""
    parser = rig.parser(str(__doc__).splitlines()[0])
    parser.add_argument("--ticks", type=int, help="ticks of a run at full load (default: 200,000 or 400,000)")
    parser.add_argument("--ticks-per-push", type=int, nargs="*", default=list(DEFAULT_TICKS), metavar="N")
    parser.add_argument("--rate", type=int, nargs="*", default=list(DEFAULT_RATES), metavar="R", help="ticks a second")
    parser.add_argument("--window", type=float, default=WINDOW_SEC, metavar="SEC", help="how long each rate is watched")
    parser.add_argument("--receive", nargs=3, metavar=("KIND", "PORT", "TICKS"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.receive is not None:
        asyncio.run(receive(args.receive[0], int(args.receive[1]), int(args.receive[2])))
        return 0
    rig.print_machine()
    rounds, rows = 1 if args.short else args.rounds, list[list[object]]()
    with rig.workspace(args.keep) as directory:
        try:
            for size in args.ticks_per_push:
                ticks = args.ticks or (SHORT_TICKS if args.short else DEFAULT_TICKS.get(size, 200_000))
                rows += compare(
                    f"full, {size} a push",
                    rounds,
                    lambda kind, number, size=size, ticks=ticks: measure_full(  # type: ignore[misc]
                        directory / f"push-{size}-{kind}-{number}", kind, ticks, size
                    ),
                )
            window_sec = SHORT_WINDOW_SEC if args.short else args.window
            for rate in args.rate:
                rows += compare(
                    f"{rate:,} ticks/s",
                    rounds,
                    lambda kind, number, rate=rate: measure_steady(  # type: ignore[misc]
                        directory / f"rate-{rate}-{kind}-{number}", kind, rate, window_sec
                    ),
                )
        except AssertionError as exc:
            print(exc, file=sys.stderr)
            return 1
    print(rig.table(COLUMNS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
