"""Does a source still know what it knew on earlier connections? Learned from its answers, for all symbols together.

A source that was restarted may have forgotten the day so far. Its short answer then looks like a whole day. What it
once showed us and shows no more tells it apart, and what it shows again clears it.

Connections are numbered from 1; 0 stands for what the day files held at the start.
"""

from __future__ import annotations


class SourceMemory:
    """``holds`` says whether a short answer may be taken for the whole day so far."""

    def __init__(self) -> None:
        self.connection = 0
        self._reaches = [0]  # by connection: the earliest one whose ticks it still showed
        self._day = ""  # the newest day of which a tick was seen
        self._day_connection = 0  # where its first one was seen
        self._watched_day = ""  # the newest day of which ticks had been seen when this connection was made
        self._forgot_day = ""
        self.skips_on = ""  # the newest day on which numbers were found that no tick has

    def connected(self) -> None:
        """A new connection: who knows which one answers now."""
        self.connection += 1
        self._reaches.append(self.connection)
        self._watched_day = self._day

    def saw(self, day: str) -> None:
        """A tick of ``day`` came."""
        if day > self._day:
            self._day, self._day_connection = day, self.connection

    def shows(self, connection: int) -> None:
        """It showed a tick that we had from that connection."""
        self._reaches[-1] = min(self._reaches[-1], self._reaches[connection])

    def forgot(self, day: str) -> None:
        """It showed all that it has, and not what we had of that day."""
        self._forgot_day = max(self._forgot_day, day)

    def holds(self, day: str, first_counter: int, nothing_since: int | None) -> bool:
        """May an answer that begins with ``first_counter`` be taken for all of the day so far?

        ``nothing_since``: the first connection on which it showed no tick of the symbol on that day. Whatever was
        traded while we were away afterwards must still be there, or the counter must be the first one there is.
        On a first start there is nothing to hold it against (docs/runbook/data-quality.md names the limit).
        """
        if day == self._forgot_day:
            return False
        watched = day == self._watched_day
        if watched and self._reaches[-1] > self._day_connection:
            return False
        since = self._day_connection if watched else self.connection
        return nothing_since is None or nothing_since >= since or first_counter == 1
