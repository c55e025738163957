"""Which symbol a far side ends connections over, where it does so instead of refusing it.

Without this, one such symbol would end every connection right after it was subscribed, and all others with it, for
ever. After LOSSES connections in a row that ended within CALM_SEC of a request for symbols, those that were asked for
are parted in halves, one half a connection: a half that lives is recorded, of a half that ends its connection again a
half is asked for. One that is left alone is asked for behind the others, on a connection that has shown to be calm
without it; when that ends too, it is refused for REST_MIN_SEC, and longer each time.

Limits: a line that is cut every few seconds costs, from its fourth cut on, a part of the symbols CALM_SEC of each
connection; it is told apart by the last step and convicts none. Of several such symbols each takes a search of its own.
Lives over connections, on the loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock

CALM_SEC = 15.0
LOSSES = 4
REST_MIN_SEC, REST_MAX_SEC = 300.0, 3600.0

CUT_OFF = "connections end when it is asked for"
SEARCHED = "asked for a little later: connections ended when it was asked for with others"


class Culprits:
    """A connection's ``Subscriptions`` asks what may be asked for, and tells of what it asked::

    wanted = ["US.AAPL", "US.BAD"]
    culprits.may_be_asked(wanted, wanted)  # (["US.AAPL", "US.BAD"], {})
    culprits.note_asked(["US.AAPL", "US.BAD"])
    culprits.note_lost()                          # by whoever sees connections end
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun_at = clock.monotonic()  # this connection
        self._asked: list[str] = []  # on this connection, and not known to be harmless
        self._asked_at = 0.0
        self._losses = 0  # in a row
        self._aside: list[str] = []  # of the search: nobody knows yet
        self._suspects: list[str] = []  # ... one of them, or the line
        self._tried: list[str] = []  # ... of these, on this connection
        self._rests: dict[str, tuple[float, Backoff]] = {}  # until when, of those that were found before

    def note_connected(self) -> None:
        """Another connection: nothing was asked for on it."""
        self._begun_at = self._clock.monotonic()
        self._asked, self._tried = [], []

    def may_be_asked(self, missing: Sequence[str], wanted: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Which of the ``missing`` now, and why not of the others."""
        self._rests = {symbol: rest for symbol, rest in self._rests.items() if symbol in wanted}
        self._suspects = [symbol for symbol in self._suspects if symbol in wanted]
        if self._aside and not self._suspects:
            self._end_search()
        if self.look():
            self._tried = self._suspects[: (len(self._suspects) + 1) // 2]
        held = dict.fromkeys(self._aside, SEARCHED) | dict.fromkeys(self._rests, CUT_OFF)
        for symbol in self._tried:
            held.pop(symbol, None)
        return [symbol for symbol in missing if symbol not in held], {
            symbol: held[symbol] for symbol in missing if symbol in held
        }

    def note_asked(self, symbols: Sequence[str]) -> None:
        """These are being asked for now."""
        self._asked += symbols
        self._asked_at = self._clock.monotonic()

    def look(self) -> bool:
        """Has it become clear that some may be asked for? Called again and again."""
        if self._asked and self._is_calm_since(self._asked_at):
            self._asked, self._losses = [], 0
            self._acquit(self._tried)
        if not self._suspects:
            over = [symbol for symbol, (until, _) in self._rests.items() if self._clock.monotonic() >= until]
            self._aside = self._suspects = over[:1]
        if not self._suspects or self._tried:
            return False
        return len(self._suspects) > 1 or self._is_calm_since(max(self._begun_at, self._asked_at))

    def note_lost(self) -> None:
        """The connection ended, and not by our own wish."""
        if not self._asked or self._is_calm_since(self._asked_at):
            self._losses = 0
        elif not self._suspects:
            self._losses += 1
            if self._losses >= LOSSES:
                self._aside, self._suspects = list(self._asked), list(self._asked)
        elif not self._tried:  # without the last one, too: it is the line
            self._end_search()
        elif len(self._suspects) > 1:
            self._suspects = self._tried
        else:
            self._convict(self._tried[0])
        self._asked, self._tried = [], []

    def _acquit(self, symbols: Sequence[str]) -> None:
        if not symbols:
            return
        for symbol in symbols:
            self._rests.pop(symbol, None)
        self._aside = [symbol for symbol in self._aside if symbol not in symbols]
        self._suspects = [symbol for symbol in self._suspects if symbol not in symbols]
        self._tried = []
        if not self._suspects:
            self._end_search()

    def _convict(self, symbol: str) -> None:
        _, rest = self._rests.get(symbol, (0.0, Backoff(REST_MIN_SEC, REST_MAX_SEC)))
        self._rests[symbol] = self._clock.monotonic() + rest.next_sec(), rest
        self._end_search()

    def _end_search(self) -> None:
        self._losses = 0
        self._aside, self._suspects, self._tried = [], [], []

    def _is_calm_since(self, at: float) -> bool:
        return self._clock.monotonic() - at >= CALM_SEC
