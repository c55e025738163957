"""Does a source still know what it knew on earlier connections? Learned from its answers, for all symbols together.

A source that was restarted may have forgotten the day so far. Its short answer then looks like a whole day. What it
once showed us and shows no more tells it apart, and what it shows again clears it.

Connections are numbered from 1; ``IN_FILES`` stands for what the day files held at the start, ``BEFORE_BREAK`` for
what they held before the earliest interruption that no answer has bridged. Such a one may be all that is left of a
source that was restarted and forgot: an earlier process noticed, and this one must not forget it in turn.
"""

from __future__ import annotations

IN_FILES, BEFORE_BREAK = 0, -1


class SourceMemory:
    """``holds`` says whether a short answer may be taken for the whole day so far."""

    def __init__(self) -> None:
        self.connection = IN_FILES
        # By connection: the earliest one whose ticks it still showed on it.
        self._reaches = {BEFORE_BREAK: BEFORE_BREAK, IN_FILES: IN_FILES}
        self._day = ""  # the newest day of which a tick was seen
        self._day_connection = 0  # where its first one was seen
        self._watched_day = ""  # the newest day of which ticks had been seen when this connection was made
        self._forgot_day = ""
        self.unknown_days: frozenset[str] = frozenset()  # of which nobody has read yet what their files hold
        self.skips_on = ""  # the newest day on which numbers were found that no tick has

    def connected(self) -> None:
        """A new connection: who knows which one answers now."""
        self.connection += 1
        self._reaches[self.connection] = self.connection
        self._watched_day = self._day

    def saw(self, day: str) -> None:
        """A tick of ``day`` came."""
        if day > self._day:
            self._day, self._day_connection = day, self.connection

    def held(self, day: str, *, unbridged: bool) -> None:
        """At the start the files held ticks of ``day``; ``unbridged``: and an interruption between them."""
        if day >= self._day:
            self._day, self._day_connection = day, BEFORE_BREAK if unbridged else IN_FILES
            if self.connection:  # they could not be read before
                self._watched_day = day

    def shows(self, connection: int) -> None:
        """It showed a tick that we had from that connection."""
        reach = self._reaches[self.connection]
        self._reaches[self.connection] = min(reach, self._reaches[connection])

    def forgot(self, day: str) -> None:
        """It showed all that it has, and not what we had of that day."""
        self._forgot_day = max(self._forgot_day, day)

    def holds(self, day: str, first_counter: int, nothing_since: int | None) -> bool:
        """May an answer that begins with ``first_counter`` be taken for all of the day so far?

        ``nothing_since``: the first connection on which it showed no tick of the symbol on that day. Whatever was
        traded while we were away afterwards must still be there, or the counter must be the first one there is.
        On a first start there is nothing to hold it against (docs/runbook/data-quality.md names the limit).
        """
        if day == self._forgot_day or day in self.unknown_days:
            return False
        watched = day == self._watched_day
        if watched and self._reaches[self.connection] > self._day_connection:
            return False
        since = self._day_connection if watched else self.connection
        return nothing_since is None or nothing_since >= since or first_counter == 1
