"""What goes wrong outside of the recorder: a hook that fell silent, a day that nobody put away.

Both need no service manager. Looked at twice a minute and every five minutes; what was found holds until the next look.
It also knows whether a day that is over still has to be archived, for which the day's digest waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hk_tick_collector.alert.rules import Finding
from hk_tick_collector.core.complaint import Code, Level
from hk_tick_collector.core.text import counted
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.store.signals import newest_of

HOOKS_EVERY_MS = 30_000
DAYS_EVERY_MS = 5 * 60_000
ARCHIVE_EVERY_MS = 30_000  # a look opens each manifest
ARCHIVE_LATE_MS = 6 * 3_600_000  # after the last tick can come; the end-of-day job is done within minutes


class Outside:
    """One data root and one directory of hooks. ``hooks``: how long each may be silent in continuous trading, in
    seconds."""

    def __init__(
        self, catalog: Catalog, calendar: TradingCalendar, hooks: Mapping[str, float], hooks_dir: Path | None
    ) -> None:
        self._catalog, self._calendar = catalog, calendar
        self._hooks, self._hooks_dir = dict(hooks), hooks_dir
        self._findings: dict[str, list[Finding]] = {}
        self._looked_ms: dict[str, int] = {}
        self._awaits_archive = False

    def findings(self, now_ms: int) -> list[Finding]:
        """What is wrong. StoreError when the signals cannot be read."""
        if self._hooks and self._hooks_dir is not None and self._is_due("hooks", now_ms, HOOKS_EVERY_MS):
            self._findings["hooks"] = self._silent_hooks(self._hooks_dir, now_ms)
        if self._is_due("days", now_ms, DAYS_EVERY_MS):
            self._findings["days"] = self._left_days(now_ms)
        return [finding for findings in self._findings.values() for finding in findings]

    def awaits_archive(self, day: str, now_ms: int) -> bool:
        """Are days archived here, and ``day`` not yet?"""
        if self._is_due("archive", now_ms, ARCHIVE_EVERY_MS):
            archived = self._catalog.archived_days()
            self._awaits_archive = bool(archived) and day not in archived
        return self._awaits_archive

    def _is_due(self, look: str, now_ms: int, every_ms: int) -> bool:
        last_ms = self._looked_ms.get(look)
        if last_ms is not None and 0 <= now_ms - last_ms < every_ms:  # a clock that was set back looks at once
            return False
        self._looked_ms[look] = now_ms
        return True

    def _silent_hooks(self, hooks_dir: Path, now_ms: int) -> list[Finding]:
        market = self._catalog.market
        day = market.trading_day(now_ms)
        windows = market.continuous_windows(day, self._calendar.day_kind(day))
        start_ms = next((start for start, end in windows if start <= now_ms < end), None)
        if start_ms is None:
            return []
        findings = []
        for name, silent_sec in sorted(self._hooks.items()):
            last_ms = newest_of(hooks_dir, name)
            silent_ms = now_ms - max(start_ms, last_ms or 0)
            if silent_ms >= silent_sec * 1000:
                last = "none came yet"
                if last_ms is not None:
                    last = f"the last one at {market.zone.date_and_clock(last_ms)} {market.time_word}"
                minutes = counted(silent_ms // 60_000, "minute")
                sentence = f"no signal of {name} for {minutes} of trading ({last})"
                findings.append(Finding(Code.HOOK_SILENT, Level.WARN, name, sentence))
        return findings

    def _left_days(self, now_ms: int) -> list[Finding]:
        """The newest day that is over for long enough, where days are put away at all."""
        archived = self._catalog.archived_days()
        if not archived:
            return []
        day = self._catalog.market.trading_day(now_ms)
        over = (self._calendar.is_trading_day(day), self._calendar.no_more_ticks_ms(day) + ARCHIVE_LATE_MS <= now_ms)
        if not all(over):
            day = self._calendar.previous_trading_day(day)
        if day in archived or day not in self._catalog.live_days():
            return []
        if self._calendar.no_more_ticks_ms(day) + ARCHIVE_LATE_MS > now_ms:
            return []
        sentence = f"{day} is over for hours and is not archived; days before it are"
        return [Finding(Code.DAY_NOT_ARCHIVED, Level.WARN, day, sentence)]
