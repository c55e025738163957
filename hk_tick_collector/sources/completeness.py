"""What a source's ticks tell of their own completeness: one interface, a strategy for each kind of evidence.

``continuity.Continuity`` follows sequences that count (``EvidenceLevel.COUNTER``), ``identities.Identities`` those that
only name a tick (``ID``). Pushes, pulls, repair and poll work with either and ask it what is worth asking for. A
further strategy implements ``Completeness`` and is chosen in ``completeness_of``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.facts import StoredTrack
from hk_tick_collector.records.tick import RejectedTick, Tick
from hk_tick_collector.sources.continuity import Continuity, FactSink
from hk_tick_collector.sources.holes import Hole
from hk_tick_collector.sources.identities import Identities
from hk_tick_collector.sources.pulled import Answer, Question, Taken
from hk_tick_collector.sources.source import SourceSpec


class Completeness(Protocol):
    """Called from the thread that brings pushes and from the loop. For instance::

    completeness = completeness_of(spec, lambda facts: lane.put_facts(facts))
    completeness.seed(tracks, symbols)               # where the day files end
    completeness.connected()                         # nothing was pushed since the last connection
    completeness.tell_interruptions(ticks)           # before pushed ticks are handed over
    completeness.observe_push(ticks, monotonic_sec)  # and after it
    taken = completeness.take(Answer(question, ticks, unread, recv_ts_ms))  # of an answer, what the store must see
    """

    unkeyed: dict[str, str]
    """Symbols whose pushes and pulls were numbered differently, and the last such day: what was counted by then is
    stored without numbers."""

    distrusted_symbols: int
    """For the health line: how many symbols' numbers turned out not to be what they should."""

    def seed(
        self, known: Mapping[str, StoredTrack], symbols: Iterable[str] = (), unknown_days: Iterable[str] = ()
    ) -> None:
        """Begin where the day files end. ``symbols`` are all that were looked for in them; the files of
        ``unknown_days`` could not be looked at. A track that is not wanted (``StoredTrack``) is not followed."""

    def seed_new(self, known: Mapping[str, StoredTrack], unknown_days: Iterable[str] = ()) -> None:
        """The same for symbols that were not followed so far. To be called before they are subscribed."""

    def resync(self, known: Mapping[str, StoredTrack], unknown_days: Iterable[str] = ()) -> None:
        """Rows were lost on the way to the files: what they do not hold was never seen."""

    def connected(self) -> None:
        """A connection was made; nothing was pushed since the last one was lost."""

    def interrupted(self, symbols: Iterable[str]) -> None:
        """These were not subscribed for a while. To be called before they are again."""

    def tell_interruptions(self, ticks: Sequence[Tick]) -> None:
        """To be called before pushed ticks are handed over."""

    def tell_left_over(self, ticks: Sequence[Tick]) -> None:
        """To be called before rows are stored that an earlier process left in the spill."""

    def observe_push(self, ticks: Sequence[Tick], monotonic_sec: float) -> bool:
        """Note pushed ticks that were handed over. True: a hole has just shown."""

    def observe_unread(self, rejected: Iterable[RejectedTick]) -> bool:
        """Note pushed ticks that could not be read. True when one may be had by a pull."""

    def ask(self, symbol: str, asked_rows: int, asked_ms: int) -> Question:
        """What is about to be asked. To be made just before it is sent."""

    def take(self, answer: Answer) -> Taken:
        """Note an answer; returns what the store has to see of it: all but what is surely ours already."""

    def touch(self, symbol: str, monotonic_sec: float) -> None:
        """A pull brought something new: the symbol is not quiet."""

    def quiet_symbols(self, symbols: Iterable[str], since_monotonic: float) -> list[str]:
        """Those of ``symbols`` without a tick since then."""

    def most_active_first(self, symbols: Iterable[str]) -> list[str]:
        """Those with the most ticks so far first."""

    def pushed_rows(self) -> dict[str, int]:
        """How many ticks of each symbol were pushed since the start."""

    def wants_whole(self, symbol: str) -> bool:
        """Is there something that only an answer of all that the source shows can tell?"""

    def unconfirmed(self, symbols: Iterable[str]) -> list[str]:
        """Those whose pushes no pull has confirmed yet."""

    def distrusted(self, symbols: Iterable[str]) -> dict[str, int]:
        """Those of which a lost push would leave no trace, and how many ticks of each were pushed."""

    @property
    def has_holes(self) -> bool:
        """Has any symbol a hole that may be repaired?"""

    def holes(self) -> list[Hole]:
        """All of them."""

    def give_up(self, hole: Hole, at_ms: int) -> bool:
        """The source does not show this hole any more. True: its ticks are missing."""


def completeness_of(spec: SourceSpec, facts: FactSink) -> Completeness:
    """The strategy for a source's evidence; ``facts`` takes what it learns, from any thread, at once.

    Where there is a name for each tick and nothing better (``ID``), not even that (``NONE``), or a copy that a later
    reading is held against (``REPLAY``), ticks are told apart and nothing is concluded.
    """
    if spec.evidence is EvidenceLevel.COUNTER:
        return Continuity(facts, spec)
    return Identities(facts, spec)
