"""Work that failed, each set aside for a while of its own, so that what always fails keeps nothing from its turn."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hk_tick_collector.clickhouse.connection import EngineAway, EngineRefused
from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock


@dataclass(slots=True)
class Failure:
    """What failed, the last time."""

    name: str
    error: Exception
    backoff: Backoff
    again_at_sec: float  # monotonic

    @property
    def times(self) -> int:
        """In a row."""
        return self.backoff.attempts


class Aside:
    """By name; the delay grows from ``min_sec`` to ``max_sec``. All calls come from one thread."""

    def __init__(self, clock: Clock, min_sec: float, max_sec: float) -> None:
        self._clock, self._min_sec, self._max_sec = clock, min_sec, max_sec
        self._failures: dict[str, Failure] = {}

    def is_due(self, name: str) -> bool:
        """May it be tried now?"""
        failure = self._failures.get(name)
        return failure is None or self._clock.monotonic() >= failure.again_at_sec

    def put(self, name: str, error: Exception) -> Failure:
        """It has failed, once more or for the first time."""
        known = self._failures.get(name)
        backoff = Backoff(self._min_sec, self._max_sec) if known is None else known.backoff
        failure = Failure(name, error, backoff, self._clock.monotonic() + backoff.next_sec())
        self._failures[name] = failure
        return failure

    def drop(self, name: str) -> None:
        """It went well, or is another one now."""
        self._failures.pop(name, None)

    def keep(self, names: Collection[str]) -> None:
        """Forget all others."""
        self._failures = {name: failure for name, failure in self._failures.items() if name in names}

    def of_engine(self) -> Failure | None:
        """What ClickHouse did not take, of several the one that failed most often."""
        failures = [
            failure for failure in self._failures.values() if isinstance(failure.error, (EngineAway, EngineRefused))
        ]
        return max(failures, key=lambda failure: failure.times, default=None)
