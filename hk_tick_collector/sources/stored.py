"""What a source may ask of the days that are recorded: the store itself is no business of a source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Stored(NamedTuple):
    """A row of the day file, as far as it tells ticks apart."""

    ts_ms: int
    seq: int | None
    price: float | None
    volume: int | None
    direction: str | None


class StoredDays(Protocol):
    """What the data root holds of a symbol's days: the store is no business of a source. Called on the source's thread;
    StoreError when a file cannot be read now."""

    def days(self, symbol: str) -> list[str]:
        """The newest few days that have ticks of the symbol, oldest first."""

    def rows(self, symbol: str, day: str) -> Iterator[Stored]:
        """The symbol's rows of a day in order of time; none when there is no file."""

    def replay(self, symbol: str, day: str) -> tuple[str, bool] | None:
        """The digest of the copy that the rows were found equal to, and whether that was confirmed by a later reading;
        None when they were not, or have changed since."""

    def shown_until_ms(self, symbol: str, day: str) -> int | None:
        """Until when the source had nothing of the symbol's day that is not stored; None: it was not asked."""
