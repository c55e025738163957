"""``SHIP_DIR/ship.status.json``: how the shipper is, for ``hk-tickctl status``, alerts and anybody else; two seconds
old at most while it runs."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.store.follow import Follower, place_at
from hk_tick_collector.store.followed import TICKS
from hk_tick_collector.store.layout import day_file, replace_file
from hk_tick_collector.store.position import MAX_PLACES, Place

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Catalog
    from hk_tick_collector.ship.counts import ShipCounts
    from hk_tick_collector.ship.settings import ShipSettings
    from hk_tick_collector.ship.state import State

FILE = "ship.status.json"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ShipStatus:
    """Moments are UTC epoch milliseconds, 0 when it has not happened."""

    written_ms: int
    pid: int
    is_stopped: bool  # in order, as it was asked to
    sink: str
    recorder: str
    ticks: int  # sent since its start
    rows_behind: int  # stored and not sent, of the newest days
    oldest_waiting_ms: int  # when the oldest of them was stored
    last_put_ms: int
    lag_p99_ms: float | None  # from storing to arriving, of what was sent since the start
    waits_for: str  # why nothing is taken; empty: it is
    is_refused: bool
    verified_day: str  # the newest one; empty: none
    verified_days: int
    unequal: str  # the day whose copy cannot be made equal, and why


class StatusFile:
    """Writes it. All calls come from one thread."""

    def __init__(self, settings: ShipSettings, state: State, days: Catalog, counts: ShipCounts) -> None:
        self._path = settings.ship_dir / FILE
        self._sink, self._recorder = settings.address.shown, settings.recorder
        self._state, self._days, self._counts = state, days, counts
        self._follower = Follower(days.data_root)

    def write(self, *, is_stopped: bool = False) -> None:
        """As it is now. A disk that refuses is nobody's end."""
        with contextlib.suppress(OSError):
            replace_file(self._path, json.dumps(asdict(self.now(is_stopped))).encode())

    def now(self, is_stopped: bool = False) -> ShipStatus:
        """How it is."""
        counts, verified = self._counts, self._state.verified_days()
        behind, oldest_ms = self._behind()
        lag = counts.lag_ms.snapshot()
        return ShipStatus(
            SystemClock().now_ms(), os.getpid(), is_stopped, self._sink, self._recorder, counts.ticks, behind,
            oldest_ms, counts.last_put_ms, lag.quantile(0.99) if lag.count else None,
            counts.waits_for or counts.keeper_waits_for, counts.is_refused,
            verified[-1].day if verified else "", len(verified), counts.unequal,
        )  # fmt: skip

    def _behind(self) -> tuple[int, int]:
        """How many rows of the newest days were not sent, and when the oldest of them was stored (0: none)."""
        places, rows, oldest_ms = self._state.places(), 0, 0
        for day in self._days.live_days()[-MAX_PLACES:]:
            if self._state.mark(day) is not None:
                continue
            with contextlib.suppress(StoreError, FileNotFoundError):
                place = places.get(day, Place(day))
                first, _ = self._follower.read_in(place, 1)
                if first:
                    rows += place_at(day_file(self._days.data_root, day), day).rowid - place.rowid
                    oldest_ms = oldest_ms or TICKS.stored(first[0])
        return rows, oldest_ms


def read_status(directory: Path) -> ShipStatus | None:
    """What the shipper said last; None without a shipper, or when this user may not look."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        with (directory / FILE).open("rb") as file:
            told = json.loads(file.read(_MAX_BYTES))
        return ShipStatus(**{field.name: told[field.name] for field in fields(ShipStatus)})
    return None
