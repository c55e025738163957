"""Writes how the shipper is (``clickhouse.shipping``) every two seconds, for ``hk-tickctl status``, alerts and anybody
else."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from hk_tick_collector.clickhouse.shipping import STATUS_FILE, ShipStatus
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.ship.marks import files_mark
from hk_tick_collector.store.follow import Follower, place_at
from hk_tick_collector.store.followed import TICKS
from hk_tick_collector.store.layout import day_file, replace_file
from hk_tick_collector.store.position import MAX_PLACES, Place

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Catalog
    from hk_tick_collector.ship.counts import ShipCounts
    from hk_tick_collector.ship.settings import ShipSettings
    from hk_tick_collector.ship.state import State


class StatusFile:
    """Writes it. All calls come from one thread."""

    def __init__(self, settings: ShipSettings, state: State, days: Catalog, counts: ShipCounts) -> None:
        self._path = settings.ship_dir / STATUS_FILE
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
            SystemClock().now_ms(), os.getpid(), is_stopped, str(self._days.data_root),
            self._sink, self._recorder, counts.ticks, behind, oldest_ms, counts.last_put_ms,
            lag.quantile(0.99) if lag.count else None,
            counts.live.reason, counts.keeper.reason, counts.live.is_refused or counts.keeper.is_refused,
            verified[-1].day if verified else "", len(verified), counts.unequal,
        )  # fmt: skip

    def _mark(self, day: str) -> str:
        return files_mark(self._days.data_root, self._days.archive_root, day)

    def _behind(self) -> tuple[int, int]:
        """How many rows of the newest days were not sent, and when the oldest of them was stored (0: none)."""
        places, rows, oldest_ms = self._state.places(), 0, 0
        for day in self._days.live_days()[-MAX_PLACES:]:
            mark = self._state.mark(day)
            if mark is not None and (day not in places or mark == self._mark(day)):
                continue  # verified, and nobody wrote to it since
            with contextlib.suppress(StoreError, FileNotFoundError):
                place = places.get(day, Place(day))
                first, _ = self._follower.read_in(place, 1)
                if first:
                    rows += place_at(day_file(self._days.data_root, day), day).rowid - place.rowid
                    oldest_ms = oldest_ms or TICKS.stored(first[0])
        return rows, oldest_ms
