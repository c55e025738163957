"""What a market does at which time of its day: the words for it, and the form in which a market writes its hours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
    OVERNIGHT = "overnight"
    PRE_MARKET = "pre_market"
    REGULAR = "regular"
    POST_MARKET = "post_market"
    PAUSE = "pause"  # between two trading days that follow each other, or a night and its day


CONTINUOUS = frozenset({Phase.MORNING, Phase.AFTERNOON, Phase.REGULAR})
# Phases that are one session of a day under another name; those in which nothing trades are in none.
OPENING_AUCTION, CLOSING_AUCTION = "opening_auction", "closing_auction"
SESSION_OF = {
    Phase.PRE_OPEN_AUCTION: OPENING_AUCTION,
    Phase.PRE_OPEN_WAIT: OPENING_AUCTION,
    Phase.CLOSING_AUCTION: CLOSING_AUCTION,
    Phase.POST_CLOSE: CLOSING_AUCTION,
    **{
        phase: str(phase)
        for phase in (
            Phase.MORNING, Phase.AFTERNOON, Phase.OVERNIGHT, Phase.PRE_MARKET, Phase.REGULAR, Phase.POST_MARKET
        )
    },
}  # fmt: skip


class DayKind(StrEnum):
    """How long the market trades on a day."""

    WHOLE = "whole"
    HALF = "half"
    CLOSED = "closed"


Rows = tuple[tuple[int, Phase], ...]


def hm(hours: int, minutes: int = 0) -> int:
    """A time of day in milliseconds; negative hours are of the day before."""
    return (hours * 60 + minutes) * 60_000


@dataclass(frozen=True, slots=True)
class Hours:
    """The phases of a trading day from ``first_day`` (``YYYYMMDD``) on, until other hours begin.

    Each row is (milliseconds from local midnight of the trading day, the phase that begins then), in order; what comes
    before the first row is CLOSED. The last phase lasts until the next trading day begins.
    """

    first_day: str
    whole: Rows
    half: Rows
    opening_match_ms: int = 0  # from local midnight: the opening auction prints nothing before
    closing_match_after_ms: int = 0  # from the end of continuous trading: nor does the closing auction

    def rows(self, kind: DayKind) -> Rows:
        """The phases of a day of this kind; none on a closed day."""
        if kind is DayKind.CLOSED:
            return ()
        return self.half if kind is DayKind.HALF else self.whole
