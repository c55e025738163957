"""What the bot says of a data root of snapshots, of its newest day that has begun."""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.alert.words import clock
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.core.text import counted
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.quality.snapshots import SnapshotReport, absent_ranges, report_of
from hk_tick_collector.store.layout import snapshot_days, snapshot_file
from hk_tick_collector.store.snapshot_reader import newest, series_there

SHOWN = 10


class SnapshotAnswers:
    """Each method gives the text. RecorderError when there is none."""

    def __init__(self, data_root: Path, calendar: TradingCalendar, now_ms: int) -> None:
        self._calendar, self._now_ms = calendar, now_ms
        today = calendar.market.trading_day(now_ms)
        days = [day for day in snapshot_days(data_root) if day <= today]
        if not days:
            raise RecorderError("nothing is recorded yet")
        self._day = days[-1]
        self._path = snapshot_file(data_root, self._day)

    def day(self) -> str:
        """How complete it is."""
        return f"{self._day}: {self._report().sentence}"

    def gaps(self) -> str:
        """What is absent, while the day runs every hole."""
        stretches = list(absent_ranges(self._report()))
        market = self._calendar.market
        lines = [
            f"{series} {clock(first * 1000, market)} to {clock(last * 1000, market)}: "
            f"{counted(last - first + 1, 'second')}"
            for series, first, last in stretches[:SHOWN]
        ]
        return "\n".join([f"{self._day}: {counted(len(stretches), 'stretch', 'stretches')} without a snapshot", *lines])

    def top(self) -> str:
        """The series with the most snapshots."""
        rows = sorted(self._report().series, key=lambda series: -series.rows)
        return "\n".join(
            f"{series.symbol}/{series.package}/{series.category} {counted(series.rows, 'snapshot')}"
            for series in rows[:SHOWN]
        )

    def symbol(self, symbol: str) -> str:
        """The newest snapshot of each of its series."""
        lines = []
        for series in series_there(self._path):
            snapshot = newest(self._path, series) if series.symbol == symbol else None
            if snapshot is not None:
                told = (("spot", snapshot.spot), ("zero gamma", snapshot.zero_gamma))
                levels = ", ".join(f"{name} {value:g}" for name, value in told if value is not None)
                at = clock(snapshot.ts_sec * 1000, self._calendar.market)
                lines.append(f"{at} {series.package}/{series.category} {levels}".rstrip())
        return "\n".join([symbol, *lines[:SHOWN]]) if lines else f"{symbol} has no snapshot on {self._day}"

    def _report(self) -> SnapshotReport:
        kind = self._calendar.day_kind(self._day)
        return report_of(self._path, self._day, self._calendar.market, kind, self._now_ms)
