"""How complete the days and symbols of an answer are, small enough to stand in every answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from hk_tick_collector.days.catalog import Day
from hk_tick_collector.store.coverage import MISSING, PROVEN, UNPROVEN
from hk_tick_collector.store.reader import Notes, verdict_of

LISTED = 100  # symbol-days that are not proven; the rest is counted


@dataclass
class Completeness:
    """Verdicts on symbol-days."""

    states: Counter[str] = field(default_factory=Counter)
    missing_ticks: int = 0
    not_proven: list[dict[str, Any]] = field(default_factory=list)

    def add(self, day: str, symbol: str, state: str, missing_ticks: int, reason: str | None) -> None:
        """One symbol's day."""
        self.states[state] += 1
        self.missing_ticks += missing_ticks
        if state != PROVEN and len(self.not_proven) < LISTED:
            line = {"day": day, "symbol": symbol, "state": state, "missing_ticks": missing_ticks, "reason": reason}
            self.not_proven.append(line)

    @property
    def state(self) -> str:
        """The worst of all; ``unproven`` when there is nothing."""
        if self.states[MISSING]:
            return MISSING
        return PROVEN if self.states[PROVEN] and not self.states[UNPROVEN] else UNPROVEN

    def as_json(self) -> dict[str, Any]:
        """As it stands in an answer."""
        return {
            "state": self.state,
            "proven": self.states[PROVEN],
            "missing": self.states[MISSING],
            "unproven": self.states[UNPROVEN],
            "missing_ticks": self.missing_ticks,
            "not_proven": self.not_proven,
        }


def judge(found: Completeness, day: str, notes: Notes, symbols: Iterable[str]) -> None:
    """Add the verdicts on these symbols of a day, from its notes."""
    rows, open_gaps = {row.symbol: row for row in notes.coverage}, notes.open_gaps()
    for symbol in symbols:
        try:
            verdict = verdict_of(rows.get(symbol), open_gaps.get(symbol, []))
        except (ValueError, TypeError):
            found.add(day, symbol, UNPROVEN, 0, "its coverage cannot be read")
            continue
        found.add(day, symbol, verdict.state, verdict.missing_ticks, verdict.reason)


def judge_day(found: Completeness, day: Day, symbols: Collection[str] | None) -> dict[str, int]:
    """Add the verdicts on a day's symbols (None: on all it has); the ticks of each symbol that has some."""
    notes = day.notes()
    wanted = {*(row.symbol for row in notes.coverage), *notes.open_gaps()} if symbols is None else symbols
    judge(found, day.trading_day, notes, sorted(wanted))
    return {row.symbol: row.stored_ticks for row in notes.coverage if row.stored_ticks} or day.rows_by_symbol()
