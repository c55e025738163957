"""The days that a store has, for what people type as days: also on a machine that has no recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.archive.stores import ArchiveStore
from hk_tick_collector.cli.common import App
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.text import days_there
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.market.market import Market


class _CopiedCatalog(Catalog):
    """Names of days alone."""

    def __init__(self, place: str, days: Sequence[str]) -> None:
        super().__init__(Path(place), Path(place))
        self._place, self._days = place, list(days)

    def live_days(self) -> list[str]:
        """None is there."""
        return []

    def archived_days(self) -> list[str]:
        """Those with a copy."""
        return self._days

    def day(self, trading_day: str) -> Day:
        """NoData when there is no copy of it."""
        if trading_day not in self._days:
            raise NoData(f"{trading_day} is not in {self._place}: {days_there(self._days)}")
        return Day(trading_day, None, self.archive_root)


@dataclass(frozen=True)
class CopiedDays:
    """As ``watch.when`` wants it."""

    data_root: Path
    market: Market
    catalog: Catalog
    now_ms: int

    @classmethod
    def of(cls, app: App, store: ArchiveStore, days: Sequence[str]) -> CopiedDays:
        """``days``: those that the store has."""
        return cls(Path(store.place), app.market, _CopiedCatalog(store.place, days), app.now_ms)
