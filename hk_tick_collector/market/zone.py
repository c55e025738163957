"""A market's clock: from UTC epoch milliseconds to its dates and times of day, and back.

Every conversion of the project goes through a ``Zone``. One without daylight saving is plain arithmetic and needs no
zone data; the others ask ``zoneinfo`` once for a quarter of an hour, which no change of clocks divides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from hk_tick_collector.market.dates import DAY_MS, day_text, epoch_day

_QUARTER_MS = 900_000


@lru_cache(maxsize=4096)
def _offset_ms(name: str, quarter: int) -> int:
    moment = datetime.fromtimestamp(quarter * _QUARTER_MS / 1000, tz=UTC).astimezone(ZoneInfo(name))
    return (moment.utcoffset() or timedelta()) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Zone:
    """
    >>> new_york = Zone("America/New_York")
    >>> before, after = (new_york.at_ms(day, 20 * 3_600_000) for day in ("20261031", "20261101"))
    >>> (after - before) / 3_600_000  # the night in which the clocks go back
    25.0
    >>> new_york.date(after), new_york.clock(after)
    ('20261101', '20:00:00')

    ``fixed_offset_ms`` is the local time's lead over UTC in a zone whose clocks are never changed.
    """

    name: str
    fixed_offset_ms: int | None = None

    @property
    def tzinfo(self) -> tzinfo:
        """For ``datetime``. Where clocks are changed it needs the machine's zone data, or the package tzdata."""
        if self.fixed_offset_ms is None:
            return ZoneInfo(self.name)
        return timezone(timedelta(milliseconds=self.fixed_offset_ms), self.name)

    def offset_ms(self, ts_ms: int) -> int:
        """What the local clock is ahead of UTC at ``ts_ms``."""
        return _offset_ms(self.name, ts_ms // _QUARTER_MS) if self.fixed_offset_ms is None else self.fixed_offset_ms

    def date(self, ts_ms: int) -> str:
        """Local date ``YYYYMMDD``. ValueError or OverflowError beyond the years 1-9999."""
        return day_text((ts_ms + self.offset_ms(ts_ms)) // DAY_MS)

    def ms_of_day(self, ts_ms: int) -> int:
        """What the local clock shows, in milliseconds from 0:00: 0 to 86,399,999."""
        return (ts_ms + self.offset_ms(ts_ms)) % DAY_MS

    def at_ms(self, day: str, clock_ms: int) -> int:
        """When the local clock shows ``clock_ms`` (milliseconds from 0:00 of ``day``; negative: of the days before) in
        UTC epoch milliseconds. Of an hour that comes twice, the first. ValueError when ``day`` is not ``YYYYMMDD``."""
        local_ms = epoch_day(day) * DAY_MS + clock_ms
        if self.fixed_offset_ms is not None:
            return local_ms - self.fixed_offset_ms
        return local_ms - self.offset_ms(local_ms - self.offset_ms(local_ms))

    def midnight_ms(self, day: str) -> int:
        """0:00 of ``YYYYMMDD`` in UTC epoch milliseconds."""
        return self.at_ms(day, 0)

    def clock(self, ts_ms: int) -> str:
        """``09:30:00``"""
        minutes, ms = divmod(self.ms_of_day(ts_ms), 60_000)
        return f"{minutes // 60:02d}:{minutes % 60:02d}:{ms // 1000:02d}"

    def clock_if(self, ts_ms: int | None) -> str | None:
        """``09:30:00``; None stays None, for tables that show it as a dash."""
        return None if ts_ms is None else self.clock(ts_ms)

    def date_and_clock_if(self, ts_ms: int | None) -> str | None:
        """``2026-11-20 09:30:00``; None stays None."""
        return None if ts_ms is None else self.date_and_clock(ts_ms)

    def minute(self, ts_ms: int) -> str:
        """``09:30``"""
        return self.clock(ts_ms)[:5]

    def clock_with_ms(self, ts_ms: int) -> str:
        """``09:30:00.001``"""
        return f"{self.clock(ts_ms)}.{ts_ms % 1000:03d}"

    def date_and_clock(self, ts_ms: int) -> str:
        """``2026-11-20 09:30:00``"""
        day = self.date(ts_ms)
        return f"{day[:4]}-{day[4:6]}-{day[6:]} {self.clock(ts_ms)}"
