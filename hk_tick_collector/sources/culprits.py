"""Which symbol a far side ends connections over, where it does so instead of refusing it.

Without this, one such symbol would end every connection right after it was subscribed, and all others with it, for
ever. It is looked for after LOSSES connections in a row that ended as long after a request for symbols as each other,
to ALIKE_SEC, and within CALM_SEC of it: a far side that ends them over a symbol does so when it reads its name, and a
line that is cut for other reasons is not so regular. Without that likeness it is looked for after MANY_LOSSES.

Then a half of those that were asked for is asked for, and when it lives, the rest on the same connection; of the part
that its connection ends with, a half on the next one. One that is left alone is asked for on a connection that has
shown to be calm without any of them; when that ends too, and another one after it, it is refused for REST_MIN_SEC, and
longer each time.

Limits: a search costs a part of the symbols about ten connections, CALM_SEC each at most. A line that is cut again and
again, and begins one, is told apart by the last step, which convicts none; the next search takes twice as many losses
then, up to MAX_LOSSES. Of several such symbols each takes a search of its own. Lives over connections, on the loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock

CALM_SEC = 15.0
ALIKE_SEC = 1.0
LOSSES, MANY_LOSSES, MAX_LOSSES = 4, 12, 64
STRIKES = 2  # a cut of the line may fall behind one request
REST_MIN_SEC, REST_MAX_SEC = 300.0, 3600.0

CUT_OFF = "connections end when it is asked for"
SEARCHED = "asked for a little later: connections ended when it was asked for with others"


class Culprits:
    """A connection's ``Subscriptions`` asks what may be asked for, and tells of what it asked::

    wanted = ["US.AAPL", "US.BAD"]
    culprits.may_be_asked(wanted, wanted)  # (["US.AAPL", "US.BAD"], {})
    culprits.note_asked(["US.AAPL", "US.BAD"])
    culprits.note_ended(is_lost=True)             # by whoever sees connections end
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_connected = False
        self._asked: list[str] = []  # on this connection, and not known to be harmless
        self._asked_at = 0.0
        self._losses_sec: list[float] = []  # in a row, each so long after its request; the newest MAX_LOSSES
        self._enough_losses = LOSSES  # for a search
        self._aside: list[str] = []  # of the search: nobody knows yet
        self._suspects: list[str] = []  # ... one of them, or the line
        self._strikes = 0  # of one that is left alone
        self._tried: list[str] = []  # ... of these, on this connection
        self._has_acquitted = False  # some of them, on this connection
        self._has_freed = False  # some that were aside may be asked for now
        self._rests: dict[str, tuple[float, Backoff]] = {}  # until when, of those that were found before

    def note_connected(self) -> None:
        """Another connection: nothing was asked for on it."""
        self._is_connected = True
        self._asked, self._asked_at = [], self._clock.monotonic()
        self._tried, self._has_acquitted, self._has_freed = [], False, False

    def may_be_asked(self, missing: Sequence[str], wanted: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Which of the ``missing`` now, and why not of the others."""
        self._rests = {symbol: rest for symbol, rest in self._rests.items() if symbol in wanted}
        self._suspects = [symbol for symbol in self._suspects if symbol in wanted]
        if self._aside and not self._suspects:
            self._end_search()
        if self.look() and not self._has_freed:
            middle = (len(self._suspects) + 1) // 2
            self._tried = self._suspects[:] if self._has_acquitted else self._suspects[:middle]
        self._has_freed = False
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
        if self._asked and self._is_calm():
            self._asked, self._losses_sec, self._enough_losses = [], [], LOSSES
            self._acquit(self._tried)
        if not self._suspects:
            over = [symbol for symbol, (until, _) in self._rests.items() if self._clock.monotonic() >= until]
            self._aside, self._suspects = over[:1], over[:1]
        if self._has_freed or not self._suspects or self._tried:
            return self._has_freed
        return len(self._suspects) > 1 or self._is_calm()

    def note_ended(self, *, is_lost: bool) -> None:
        """The connection is over; ``is_lost``: not by our own wish. One that was never made says nothing."""
        if self._is_connected and is_lost:
            self._judge_loss()
        self._is_connected = False

    def _judge_loss(self) -> None:
        if self._suspects and not self._tried:  # without them, too: it is the line
            self._enough_losses = min(2 * self._enough_losses, MAX_LOSSES)
            self._end_search()
        elif not self._asked or self._is_calm():
            self._losses_sec = []
        elif not self._suspects:
            self._losses_sec = [*self._losses_sec, self._asked_sec()][-MAX_LOSSES:]
            if self._is_time_to_search():
                self._suspects = list(dict.fromkeys(self._asked))
                self._aside = self._suspects[:]
        elif len(self._suspects) > 1:
            self._suspects = self._tried
        else:
            self._strike(self._suspects[0])

    def _is_time_to_search(self) -> bool:
        newest = self._losses_sec[-self._enough_losses :]
        are_alike = len(newest) >= self._enough_losses and max(newest) - min(newest) <= ALIKE_SEC
        return are_alike or len(self._losses_sec) >= max(self._enough_losses, MANY_LOSSES)

    def _acquit(self, symbols: Sequence[str]) -> None:
        if not symbols:
            return
        for symbol in symbols:
            self._rests.pop(symbol, None)
        self._aside = [symbol for symbol in self._aside if symbol not in symbols]
        self._suspects = [symbol for symbol in self._suspects if symbol not in symbols]
        self._tried, self._has_acquitted, self._strikes = [], True, 0
        if not self._suspects:
            self._has_freed = bool(self._aside)
            self._end_search()

    def _strike(self, symbol: str) -> None:
        self._strikes += 1
        if self._strikes == STRIKES or symbol in self._rests:
            self._convict(symbol)

    def _convict(self, symbol: str) -> None:
        _, rest = self._rests.get(symbol, (0.0, Backoff(REST_MIN_SEC, REST_MAX_SEC)))
        self._rests[symbol] = self._clock.monotonic() + rest.next_sec(), rest
        self._end_search()

    def _end_search(self) -> None:
        self._losses_sec, self._strikes = [], 0
        self._aside, self._suspects, self._tried = [], [], []

    def _asked_sec(self) -> float:
        """Since symbols were asked for, or since this connection was made."""
        return self._clock.monotonic() - self._asked_at

    def _is_calm(self) -> bool:
        return self._asked_sec() >= CALM_SEC
