"""The hours of the Hong Kong securities market, and its clock as plain functions.

Sources: HKEX, Securities Market trading hours (pre-opening session 09:00 with random matching 09:20-09:22, continuous
trading 09:30-12:00 and 13:00-16:00, closing auction from 16:00 with a random close until 16:10; half days end at
12:00 with the auction until 12:10). The auction's prints reach OpenD after its market state says CLOSED, so the
market counts as alive for five minutes more (post close).

The functions are for what is of Hong Kong by nature, its simulator above all; who works for any market asks the
``Market``. Promises: no wall clock and no process time zone. Hong Kong has been at UTC+8 without daylight saving since
October 1979, so arithmetic on milliseconds is exact from 1980 on.
"""

from __future__ import annotations

from hk_tick_collector.market.dates import DAY_MS, epoch_day
from hk_tick_collector.market.hours import Hours, Phase, Rows, hm
from hk_tick_collector.market.zone import Zone

ZONE = Zone("Asia/Hong_Kong", fixed_offset_ms=hm(8))
HK_TZ = ZONE.tzinfo
HK_OFFSET_MS = hm(8)

PRE_OPEN_START_MS = hm(9)
OPENING_MATCH_MS = hm(9, 20)
PRE_OPEN_END_MS = hm(9, 22)
MORNING_START_MS = hm(9, 30)
MORNING_END_MS = hm(12)
AFTERNOON_START_MS = hm(13)
AFTERNOON_END_MS = hm(16)

# The closing auction, counted from the end of continuous trading, whole day and half day alike.
CAS_RANDOM_CLOSE_AFTER_MS = hm(0, 8)
CAS_END_AFTER_MS = hm(0, 10)
RECORDING_END_AFTER_MS = hm(0, 15)

_OPENING: Rows = (
    (PRE_OPEN_START_MS, Phase.PRE_OPEN_AUCTION),
    (PRE_OPEN_END_MS, Phase.PRE_OPEN_WAIT),
    (MORNING_START_MS, Phase.MORNING),
)


def _closing(close_ms: int) -> Rows:
    return (
        (close_ms, Phase.CLOSING_AUCTION),
        (close_ms + CAS_END_AFTER_MS, Phase.POST_CLOSE),
        (close_ms + RECORDING_END_AFTER_MS, Phase.CLOSED),
    )


HOURS = (
    Hours(
        "00010101",
        whole=(
            *_OPENING,
            (MORNING_END_MS, Phase.LUNCH),
            (AFTERNOON_START_MS, Phase.AFTERNOON),
            *_closing(AFTERNOON_END_MS),
        ),
        half=(*_OPENING, *_closing(MORNING_END_MS)),
        opening_match_ms=OPENING_MATCH_MS,
        closing_match_after_ms=CAS_RANDOM_CLOSE_AFTER_MS,
    ),
)


def hk_date(ts_ms: int) -> str:
    """UTC epoch milliseconds -> Hong Kong date ``YYYYMMDD``. ValueError or OverflowError beyond the years 1-9999."""
    return ZONE.date(ts_ms)


def day_start_ms(day: str) -> int:
    """Hong Kong midnight of ``YYYYMMDD`` in UTC epoch milliseconds. ValueError when it is not a date in that form."""
    return epoch_day(day) * DAY_MS - HK_OFFSET_MS
