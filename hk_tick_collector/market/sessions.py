"""The hours of the Hong Kong securities market, in one place: every other part asks here.

Sources: HKEX, Securities Market trading hours (pre-opening session 09:00 with random matching 09:20-09:22, continuous
trading 09:30-12:00 and 13:00-16:00, closing auction from 16:00 with a random close until 16:10; half days end at
12:00 with the auction until 12:10). The auction's prints reach OpenD after its market state says CLOSED, so the
market counts as alive for five minutes more (post close).

Promises: pure functions of their arguments, no wall clock and no process time zone. Hong Kong has been at UTC+8
without daylight saving since October 1979, so arithmetic on milliseconds is exact from 1980 on. Every interval holds
its first millisecond and not its last.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

HK_TZ = ZoneInfo("Asia/Hong_Kong")
HK_OFFSET_MS = 8 * 3_600_000
DAY_MS = 86_400_000
_OPEND_NOT_TRADING = frozenset({"Auction", "WaitingOpen", "Rest", "Closed", "HkCas"})
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


class Phase(StrEnum):
    """What the market does at an instant. The value is the word in log lines."""

    CLOSED = "closed"
    PRE_OPEN_AUCTION = "pre_open_auction"
    PRE_OPEN_WAIT = "pre_open_wait"
    MORNING = "morning"
    LUNCH = "lunch"
    AFTERNOON = "afternoon"
    CLOSING_AUCTION = "closing_auction"
    POST_CLOSE = "post_close"


class DayKind(StrEnum):
    """How long the market trades on a day."""

    WHOLE = "whole"
    HALF = "half"
    CLOSED = "closed"


def _hm(hour: int, minute: int) -> int:
    """Milliseconds from Hong Kong midnight to a time of day."""
    return (hour * 60 + minute) * 60_000


PRE_OPEN_START_MS = _hm(9, 0)
OPENING_MATCH_MS = _hm(9, 20)
PRE_OPEN_END_MS = _hm(9, 22)
MORNING_START_MS = _hm(9, 30)
MORNING_END_MS = _hm(12, 0)
AFTERNOON_START_MS = _hm(13, 0)
AFTERNOON_END_MS = _hm(16, 0)

# The closing auction, counted from the end of continuous trading, whole day and half day alike.
CAS_RANDOM_CLOSE_AFTER_MS = _hm(0, 8)
CAS_END_AFTER_MS = _hm(0, 10)
RECORDING_END_AFTER_MS = _hm(0, 15)

_OPENING: list[tuple[int, Phase]] = [
    (0, Phase.CLOSED),
    (PRE_OPEN_START_MS, Phase.PRE_OPEN_AUCTION),
    (PRE_OPEN_END_MS, Phase.PRE_OPEN_WAIT),
    (MORNING_START_MS, Phase.MORNING),
]


def _closing(close_ms: int) -> list[tuple[int, Phase]]:
    return [
        (close_ms, Phase.CLOSING_AUCTION),
        (close_ms + CAS_END_AFTER_MS, Phase.POST_CLOSE),
        (close_ms + RECORDING_END_AFTER_MS, Phase.CLOSED),
    ]


_PHASES: dict[DayKind, list[tuple[int, Phase]]] = {
    DayKind.WHOLE: [
        *_OPENING,
        (MORNING_END_MS, Phase.LUNCH),
        (AFTERNOON_START_MS, Phase.AFTERNOON),
        *_closing(AFTERNOON_END_MS),
    ],
    DayKind.HALF: [*_OPENING, *_closing(MORNING_END_MS)],
    DayKind.CLOSED: [(0, Phase.CLOSED)],
}
_STARTS: dict[DayKind, list[int]] = {kind: [start for start, _ in rows] for kind, rows in _PHASES.items()}


@lru_cache(maxsize=64)
def _day_text(day_number: int) -> str:
    return date.fromordinal(_EPOCH_ORDINAL + day_number).strftime("%Y%m%d")


def hk_date(ts_ms: int) -> str:
    """UTC epoch milliseconds -> Hong Kong date ``YYYYMMDD``. ValueError or OverflowError beyond the years 1-9999."""
    return _day_text((ts_ms + HK_OFFSET_MS) // DAY_MS)


def hk_ms_of_day(ts_ms: int) -> int:
    """UTC epoch milliseconds -> milliseconds since Hong Kong midnight, 0 to 86,399,999."""
    return (ts_ms + HK_OFFSET_MS) % DAY_MS


@lru_cache(maxsize=64)
def day_start_ms(day: str) -> int:
    """Hong Kong midnight of ``YYYYMMDD`` in UTC epoch milliseconds. ValueError when it is not a date in that form."""
    return (parse_day(day).toordinal() - _EPOCH_ORDINAL) * DAY_MS - HK_OFFSET_MS


def parse_day(day: str) -> date:
    """``YYYYMMDD`` -> date. ValueError names what was given."""
    if len(day) != 8 or not (day.isascii() and day.isdigit()):
        raise ValueError(f"{day!r} is not a date in the form YYYYMMDD")
    try:
        return date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError:
        raise ValueError(f"{day!r} is not a date in the form YYYYMMDD") from None


def add_days(day: str, days: int) -> str:
    """The Hong Kong date that many calendar days later (earlier when negative)."""
    return (parse_day(day) + timedelta(days=days)).strftime("%Y%m%d")


def phase_at(ts_ms: int, day_kind: DayKind) -> Phase:
    """The market's phase at ``ts_ms`` on a day of the given kind (of the Hong Kong date that holds ``ts_ms``)."""
    index = bisect_right(_STARTS[day_kind], hk_ms_of_day(ts_ms)) - 1
    return _PHASES[day_kind][index][1]


def phase_start_ms(ts_ms: int, day_kind: DayKind) -> int:
    """UTC epoch milliseconds at which the phase that holds ``ts_ms`` began (midnight for the first one of the day)."""
    starts = _STARTS[day_kind]
    of_day = hk_ms_of_day(ts_ms)
    return ts_ms - of_day + starts[bisect_right(starts, of_day) - 1]


def is_continuous(phase: Phase) -> bool:
    """True in continuous trading, when a liquid market is expected to print."""
    return phase is Phase.MORNING or phase is Phase.AFTERNOON


def says_closed(market_hk: str) -> bool:
    """Does OpenD's market state (a name of ``Qot_Common.QotMarketState``) say that nothing trades at this moment? An
    exceptional closing or a late opening is in no calendar. A state that is unknown says nothing."""
    return market_hk in _OPEND_NOT_TRADING


def continuous_windows(day: str, kind: DayKind) -> list[tuple[int, int]]:
    """Continuous trading of the day as (start_ms, end_ms) in UTC epoch milliseconds; empty on a closed day."""
    midnight_ms = day_start_ms(day)
    morning = (midnight_ms + MORNING_START_MS, midnight_ms + MORNING_END_MS)
    if kind is DayKind.WHOLE:
        return [morning, (midnight_ms + AFTERNOON_START_MS, midnight_ms + AFTERNOON_END_MS)]
    return [morning] if kind is DayKind.HALF else []


def close_ms(day: str, kind: DayKind) -> int:
    """End of continuous trading (16:00, half day 12:00) in UTC epoch milliseconds. ValueError on a closed day."""
    windows = continuous_windows(day, kind)
    if not windows:
        raise ValueError(f"the market is closed on {day}")
    return windows[-1][1]


def no_more_ticks_ms(day: str, kind: DayKind) -> int:
    """From when on no tick of the day can come: the end of recording (UTC epoch ms). A day that the calendar calls
    closed ends at midnight: where ticks came nevertheless, nobody knows until when."""
    return day_start_ms(day) + DAY_MS if kind is DayKind.CLOSED else recording_window(day, kind)[1]


def recording_window(day: str, kind: DayKind) -> tuple[int, int]:
    """When ticks of the day may come: 09:00 to 16:15 (half day 12:15), UTC epoch milliseconds.

    On a closed day both ends are midnight, an empty window.
    """
    if kind is DayKind.CLOSED:
        midnight_ms = day_start_ms(day)
        return midnight_ms, midnight_ms
    return day_start_ms(day) + PRE_OPEN_START_MS, close_ms(day, kind) + RECORDING_END_AFTER_MS
