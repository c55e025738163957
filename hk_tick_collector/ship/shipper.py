"""Both halves of the shipper put together: one thread for rows as they are stored, one for whole days, and the main
thread, which says how it goes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from hk_tick_collector.clickhouse.connection import ClickHouse, EngineAway, EngineRefused
from hk_tick_collector.clickhouse.tables import check
from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.logline import event
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.ship.alone import Alone
from hk_tick_collector.ship.claim import Claimed, claim, owner_of
from hk_tick_collector.ship.copies import Copies
from hk_tick_collector.ship.counts import ShipCounts
from hk_tick_collector.ship.holds import Holds
from hk_tick_collector.ship.keeper import Keeper
from hk_tick_collector.ship.live import MAX_WAIT_SEC, MIN_WAIT_SEC, Live
from hk_tick_collector.ship.live_states import LiveStates
from hk_tick_collector.ship.settings import ShipSettings
from hk_tick_collector.ship.state import State
from hk_tick_collector.ship.states import states_to_ship
from hk_tick_collector.ship.status import StatusFile

STATUS_SEC = 2.0
LOOK_TIMEOUT_SEC = 5.0  # the main thread asks: it has to say how it goes meanwhile

_log = logging.getLogger(__name__)


def run(settings: ShipSettings, stop: threading.Event, counts: ShipCounts) -> None:
    """Ship until ``stop``. StateLost when SHIP_DIR cannot be used."""
    days = Catalog(settings.data_root, settings.archive)
    state = State(settings.ship_dir)
    status = StatusFile(settings, state, days, counts)
    try:
        password, owner = settings.password(), owner_of(settings.data_root).name
        with (
            ClickHouse(settings.address, password) as engine,
            ClickHouse(settings.address, password, timeout_sec=LOOK_TIMEOUT_SEC) as looker,
            Alone(settings.data_root) as alone,
        ):
            _log.info(
                event("ship_started", data_root=settings.data_root, to=engine.address.shown, recorder=settings.recorder)
            )
            while (sink := _begun(engine, settings, alone, state, status, stop, counts)) is not None:
                claimed = Claimed(looker, settings.recorder, owner, sink, counts)
                holds = Holds()
                beside = [
                    LiveStates(days, states.copies, state, counts=counts, holds=holds)
                    for states in states_to_ship(days, engine, settings.recorder)
                ]
                live = Live(days, engine, state, settings.recorder, counts=counts, holds=holds, beside=beside)
                keeper = Keeper(days, Copies(engine, settings.recorder), state, counts=counts, holds=holds)
                _run_both(live.run, keeper.run, status, stop, claimed.is_ours)
            status.write(is_stopped=True)
    finally:
        state.close()


def _begun(
    engine: ClickHouse,
    settings: ShipSettings,
    alone: Alone,
    state: State,
    status: StatusFile,
    stop: threading.Event,
    counts: ShipCounts,
) -> str | None:
    """Wait until the sink can be used; then what is known is known of it. Its number; None when stopped before."""
    backoff = Backoff(MIN_WAIT_SEC, MAX_WAIT_SEC)
    while not stop.is_set():
        try:
            check(engine)
            sink = claim(engine, settings.recorder, owner_of(settings.data_root), SystemClock().now_ms())
            alone.hold(sink, settings.recorder)
        except (EngineAway, EngineRefused) as exc:
            counts.live.on(exc)
            status.write()
            stop.wait(backoff.next_sec())
            continue
        counts.live.over(backoff.attempts)
        if not state.begin(sink, settings.recorder):
            _log.warning(
                event("ship_from_start", reason="this sink is new, or what was known of it is lost: days are compared")
            )
        return sink
    return None


def _run_both(
    live: Callable[[threading.Event], None],
    keeper: Callable[[threading.Event], None],
    status: StatusFile,
    stop: threading.Event,
    is_ours: Callable[[], bool],
) -> None:
    """Until ``stop``, until the sink is another one's, or until one of them fails: then that error."""
    failed: list[BaseException] = []
    ended = threading.Event()

    def guarded(work: Callable[[threading.Event], None]) -> None:
        try:
            work(ended)
        except BaseException as exc:  # noqa: BLE001 - raised below, on the main thread
            failed.append(exc)
            stop.set()

    threads = [
        threading.Thread(target=guarded, args=(work,), name=name) for name, work in (("live", live), ("keeper", keeper))
    ]
    for thread in threads:
        thread.start()
    try:
        while not stop.wait(STATUS_SEC) and is_ours():
            status.write()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]
