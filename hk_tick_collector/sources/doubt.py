"""A far side that does not always say how it is: may it have been out of service meanwhile?"""

from __future__ import annotations

from hk_tick_collector.core.clock import Clock

UNTOLD_AGAIN_SEC = 300.0  # as refused symbols are asked for


class Doubt:
    """Of one far side, over connections.

    Who says it again may have been out of service in between: all is subscribed and backfilled again. Where it was one
    answer alone, that is done every ``UNTOLD_AGAIN_SEC`` at most: a far side that refuses now and then would have no
    backfill come to its end.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._untold_in_a_row = 0  # answers in which the far side would not say how it is
        self._is_open = False  # was there one since all was subscribed?
        self._due_sec = 0.0  # monotonic: from then on a single one counts again

    def begin(self) -> None:
        """A connection begins: all is subscribed on it."""
        self._untold_in_a_row, self._is_open = 0, False

    def note_untold(self) -> None:
        """It would not say how it is."""
        self._untold_in_a_row, self._is_open = self._untold_in_a_row + 1, True

    def note_told(self) -> bool:
        """It says how it is: True when all is to be asked for again."""
        now_sec = self._clock.monotonic()
        counts = self._is_open and (self._untold_in_a_row > 1 or now_sec >= self._due_sec)
        if counts:
            self._is_open, self._due_sec = False, now_sec + UNTOLD_AGAIN_SEC
        self._untold_in_a_row = 0
        return counts
