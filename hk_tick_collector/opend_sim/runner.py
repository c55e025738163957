"""Puts one simulator together from its options and runs it until it is told to stop.

Ready means: the port listens, the control port listens, and with ``--firehose`` every frame is made. Then one line
goes to standard output, ``opend_sim_ready host=127.0.0.1 port=NNN [control=ADDRESS]``. SIGTERM and SIGINT end it at
once, with the truth file complete.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.core.logline import event
from hk_tick_collector.opend_sim.control import ControlServer, FaultDesk
from hk_tick_collector.opend_sim.depth_feed import DepthFeed
from hk_tick_collector.opend_sim.depth_truth import DepthTruthWriter
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig
from hk_tick_collector.opend_sim.faults import FaultState
from hk_tick_collector.opend_sim.firehose import MARKET_TICKS_PER_SEC, Firehose, StillMarket
from hk_tick_collector.opend_sim.market_feed import MarketFeed
from hk_tick_collector.opend_sim.opend import OpenD, SimSettings
from hk_tick_collector.opend_sim.recorded_depth import RecordedDepth
from hk_tick_collector.opend_sim.replay import ReplayExchange
from hk_tick_collector.opend_sim.scenario import Step, play
from hk_tick_collector.opend_sim.server import SimServer
from hk_tick_collector.opend_sim.simclock import ClockFile, SimClock
from hk_tick_collector.opend_sim.truth import TruthWriter
from hk_tick_collector.store.layout import book_file, parse_day

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Everything a run needs; ``market`` or the day files of ``replay``. Times are UTC epoch milliseconds, None is now
    (in a replay: the first tick)."""

    settings: SimSettings
    market: MarketConfig | None
    replay: tuple[Path, ...] = ()
    assumed_book: bool = False  # of a replay: books of the prints where none were recorded
    start_ms: int | None = None
    speed: float = 1.0
    wait_for_client: bool = False  # market time stands still until somebody subscribes
    truth: Path | None = None
    book_truth: Path | None = None
    clock_file: Path | None = None
    scenario: list[Step] = field(default_factory=list)
    control_port: int | None = None
    control_socket: Path | None = None
    port_file: Path | None = None
    duration_sec: float | None = None
    firehose_ticks: int = 0


async def run(options: RunOptions) -> None:
    """Run until SIGTERM, SIGINT or the end of ``duration_sec``. ConfigError when it cannot start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    market, firehose = _market(options)
    depth = _recorded_depth(options, market) if options.replay else None
    opend = OpenD(options.settings, market, FaultState(seed=options.settings.seed), depth)
    server = SimServer(opend, _open_book_truth(options.book_truth))
    control: ControlServer | None = None
    try:
        if firehose is not None and not await _unless_stopped(firehose.prepare(), stop):
            return
        _keep_clock_file(options.clock_file, market.clock)
        await server.start()
        desk = FaultDesk(server)
        control = await _start_control(options, desk)
        # A full collection over the market's past takes tens of milliseconds, which clients would see as late ticks.
        gc.collect()
        gc.freeze()
        _say_ready(options, server, control)
        await _until_stopped(options, server, desk, firehose, stop)
    finally:
        if control is not None:
            control.close()
        await server.close()
        _log.info(event("opend_sim_stopped", **{k: v for k, v in FaultDesk(server).status().items() if k != "active"}))


def _market(options: RunOptions) -> tuple[MarketFeed, Firehose | None]:
    truth = _open_truth(options.truth)
    if options.market is None:
        recorded = ReplayExchange(options.replay, options.start_ms)
        clock = SimClock(recorded.start_ms, options.speed, held=options.wait_for_client)
        replay = MarketFeed(recorded, clock, truth)
        replay.record_history()
        return replay, None
    if options.firehose_ticks:
        now_ms = time.time_ns() // 1_000_000 if options.start_ms is None else options.start_ms
        span_ms = round(options.firehose_ticks / MARKET_TICKS_PER_SEC * 1000)
        exchange = Exchange(options.market, now_ms - span_ms)
        still = StillMarket(exchange, SimClock(options.start_ms, options.speed), truth)
        still.record_history()
        return still, Firehose(still, now_ms - span_ms, options.firehose_ticks, options.settings.ticks_per_push)
    clock = SimClock(options.start_ms, options.speed, held=options.wait_for_client)
    exchange = Exchange(options.market, clock.now_ms())
    market = MarketFeed(exchange, clock, truth)
    market.record_history()
    return market, None


def _recorded_depth(options: RunOptions, market: MarketFeed) -> RecordedDepth:
    """The books that were recorded beside the ticks of the days."""
    paths = []
    for path in options.replay:
        day = parse_day(path)
        if day is not None and (book := book_file(path.parent, day)).exists():
            paths.append(book)
    seed = options.settings.seed
    assumed = DepthFeed(market, seed, options.settings.book_merge_ms) if options.assumed_book else None
    depth = RecordedDepth(paths, assumed)
    depth.step((), market.now_ms(), frozenset(), 0)  # what lies before the start is history
    _log.info(event("replay_books", days=len(options.replay), with_books=len(paths), assumed=options.assumed_book))
    return depth


def _open_truth(path: Path | None) -> TruthWriter | None:
    try:
        return TruthWriter(path) if path is not None else None
    except OSError as err:
        raise ConfigError(f"truth file {path}: {err.strerror or err}") from err


def _open_book_truth(path: Path | None) -> DepthTruthWriter | None:
    try:
        return DepthTruthWriter(path) if path is not None else None
    except OSError as err:
        raise ConfigError(f"truth file of books {path}: {err.strerror or err}") from err


def _keep_clock_file(path: Path | None, clock: SimClock) -> None:
    if path is None:
        return
    file = ClockFile(path)
    try:
        file.write(clock.course)
    except OSError as err:
        raise ConfigError(f"clock file {path}: {err.strerror or err}") from err
    clock.on_change = file.write


async def _start_control(options: RunOptions, desk: FaultDesk) -> ControlServer | None:
    if options.control_port is None and options.control_socket is None:
        return None
    control = ControlServer(desk)
    if options.control_socket is not None:
        await control.start_unix(options.control_socket)
    else:
        assert options.control_port is not None
        await control.start_tcp(options.control_port)
    return control


def _say_ready(options: RunOptions, server: SimServer, control: ControlServer | None) -> None:
    if options.port_file is not None:
        try:
            options.port_file.write_text(f"{server.port}\n")
        except OSError as err:
            raise ConfigError(f"port file {options.port_file}: {err.strerror or err}") from err
    fields: dict[str, object] = {"host": options.settings.host, "port": server.port}
    if control is not None:
        fields["control"] = control.address
    print(event("opend_sim_ready", **fields), flush=True)  # noqa: T201 - other programs wait for this line


async def _until_stopped(
    options: RunOptions, server: SimServer, desk: FaultDesk, firehose: Firehose | None, stop: asyncio.Event
) -> None:
    """Run the server's tasks until one fails, the time is over, or a signal came."""
    work = [asyncio.create_task(server.run(), name="market")]
    if firehose is not None:
        work.append(asyncio.create_task(firehose.run(server), name="firehose"))
    script = asyncio.create_task(play(options.scenario, server.opend.market.clock, desk.apply), name="scenario")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        waiting = {*work, script, stopped}
        deadline_sec = None if options.duration_sec is None else time.monotonic() + options.duration_sec
        while stopped in waiting:
            left_sec = None if deadline_sec is None else deadline_sec - time.monotonic()
            done, waiting = await asyncio.wait(waiting, timeout=left_sec, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not done:
                return
    finally:
        for task in (*work, script, stopped):
            task.cancel()
        await asyncio.gather(*work, script, stopped, return_exceptions=True)


async def _unless_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Finish the work, or give up when told to stop. True when it was finished."""
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        task.cancel()
        return False
    task.result()
    return True
