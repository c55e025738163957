"""Facts of a day that has no file yet: they make none, and go into the one that the day's first row makes."""

from __future__ import annotations

from collections.abc import Sequence

from hk_tick_collector.core.facts import DayFact, Fact, Subscribed, SymbolNoted


class FactsBeforeFile:
    """Of the newest day told of: the last word of what is subscribed, and of what each symbol is."""

    def __init__(self) -> None:
        self._day = ""
        self._facts: dict[tuple[str, str], DayFact] = {}

    def keep(self, day: str, facts: Sequence[Fact | DayFact]) -> None:
        """Others than these two kinds only confirm what there is not, and are let go; so is an earlier day."""
        kept = [fact for fact in facts if isinstance(fact, (Subscribed, SymbolNoted))]
        if not kept or day < self._day:
            return
        if day > self._day:
            self._day = day
            self._facts.clear()
        for fact in kept:
            self._facts[type(fact).__name__, fact.symbol if isinstance(fact, SymbolNoted) else ""] = fact

    def of(self, day: str) -> list[DayFact]:
        """What is kept of a day."""
        return list(self._facts.values()) if day == self._day else []

    def forget(self) -> None:
        """They are in a file now."""
        self._facts.clear()
