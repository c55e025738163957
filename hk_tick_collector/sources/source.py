"""What a source must give. Reconnecting, polling, repair and all judgement are ours and written once.

A source is a description (``SourceSpec``, plain data) and connections (``Link``), each of which serves until it is lost
and never reconnects by itself. What it receives it hands to a ``Sink``. Rules that every source obeys:

1. Ticks leave the thread that received them at once, already in UTC.
2. Nothing is dropped: what cannot be mapped goes to ``Sink.reject``, whole.
3. A tick never changes its identity between push and pull.
4. ``Link.lost`` is done when the far side is mute, too: no message within what the source itself promises.
5. An empty answer to a pull means "no ticks"; "not now" is a ``FeedError``.

A whole source, which a test runs through the real queue and store::

    class TapeLink:
        def __init__(self, tape, sink):
            self._tape, self._sink = tape, sink
            self._subscribed = set()
            self.lost = asyncio.get_running_loop().create_future()

        async def open(self, timeout_sec):
            if not self._tape:
                raise FeedLost("the tape is empty")

        async def ready(self, timeout_sec):
            return Ready(serving=True)

        async def subscribe(self, symbols, timeout_sec):
            self._subscribed.update(symbols)
            self._sink.push([[tick for tick in self._tape if tick.symbol == symbol] for symbol in symbols])

        async def unsubscribe(self, symbols, timeout_sec):
            self._subscribed.difference_update(symbols)

        async def subscribed(self, timeout_sec):
            return Subscribed(frozenset(self._subscribed))

        async def pull(self, symbol, rows, push_type, timeout_sec):
            ticks = [tick._replace(push_type=push_type) for tick in self._tape if tick.symbol == symbol]
            return Pulled(ticks[-rows:])

        async def describe(self, symbols):
            return [Described(symbol, unit="shares") for symbol in symbols]

        async def trading_days(self, first, last, timeout_sec):
            return None

        def close(self):
            if not self.lost.done():
                self.lost.set_result("closed")


    class Tape:
        spec = SourceSpec("tape", "HK", Identity.SEQUENCE, EvidenceLevel.ID, PullLimits(newest_rows=1000))
        place = {"tape": "the first one"}

        def __init__(self, ticks):
            self._ticks = ticks

        def open(self, sink):
            return TapeLink(self._ticks, sink)

        def alive(self):
            return True

        def advice(self, error):
            return "retrying; put a tape in"
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.facts import DayFact, Fact
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.records.kind import TICKS, RecordKind
from hk_tick_collector.records.tick import RejectedTick, Tick

if TYPE_CHECKING:
    import asyncio  # settings name the sources, and a command that reads settings needs no loop


class Identity(StrEnum):
    """What makes two ticks of a symbol's day two."""

    SEQUENCE = "sequence"  # ``seq`` is unique
    TIME = "time"  # ``seq`` is a time that rises with every tick
    CONTENT = "content"  # there is nothing: equal ticks are told apart by ``occurrence`` alone


@dataclass(frozen=True, slots=True)
class PullLimits:
    """How much may be asked for at once."""

    newest_rows: int  # a pull shows so many of a symbol's newest ticks; 0: a source cannot be asked
    surely_all_rows: int = 0  # an answer of fewer rows than this is all there is; 0: an answer never says so
    in_flight: int = 8  # pulls at the same time
    subscribe_batch: int = 100  # symbols a request


class BookOffer(StrEnum):
    """What a source's order books are, as far as its own documents say."""

    PUSHED = "pushed"  # whole states; whether changes between two were merged, it does not say
    CONFLATED = "conflated"  # whole states, and of several changes in between only the last one


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One source on one market: what is true whether or not anybody is connected."""

    provider: str  # column ``provider``, first word of log lines ("futu"); a setting SOURCE
    market: str  # column ``market`` ("HK"); a setting MARKET
    identity: Identity
    evidence: EvidenceLevel
    pull: PullLimits
    trade_types: Mapping[int, str] = field(default_factory=dict)  # by the source's number, as ``tick_type`` has it
    title: str = ""  # what people call it, as in "OpenD is down"; empty: the provider
    keeps_history: bool = False  # what was missed while nobody was connected is read later: being away is no loss
    kind: RecordKind[Any] = TICKS  # what it brings; of another kind there are no day files of ticks
    books: BookOffer | None = None  # None: no order books can be recorded of it

    def __post_init__(self) -> None:
        """People call it by its provider's name where it has no other."""
        object.__setattr__(self, "title", self.title or self.provider)

    @property
    def name(self) -> str:
        """For messages: ``futu HK``."""
        return f"{self.provider} {self.market}"


class Ready(NamedTuple):
    """What the far side says of itself."""

    serving: bool  # logged in, and able to answer; True, too, when it would not say
    market_state: str = ""  # in its own words
    market_closed: bool = False  # and by that there is no continuous trading now
    clock_ms: int = 0  # its clock, UTC epoch ms; 0: it has none
    details: Mapping[str, Any] = {}  # for the log line that says why it is not serving; ``action``: what helps
    login_advice: str = ""  # what a person does then
    login_ends_ms: int = 0  # UTC epoch ms: from when on a person has to log in again; 0: never, or it is not known
    refusal: str = ""  # it answered that it would not say, in these words: what it answers to other requests counts


class Subscribed(NamedTuple):
    """What the far side says it sends."""

    symbols: frozenset[str]
    quota_left: int | None = None  # so many symbols more; None: no limit is known
    is_told: bool = True  # False: it does not say, and this is what it agreed to


class UnreadRow(NamedTuple):
    """A row of an answer that could not be mapped, by its place in it."""

    position: int
    seq: int  # 0: it has none


class Described(NamedTuple):
    """What a symbol is today, as the far side says. None: it does not say."""

    symbol: str
    name: str | None = None
    lot_size: int | None = None  # units in a board lot
    unit: str | None = None  # what volume counts: shares, contracts
    multiplier: float | None = None  # turnover = price x volume x multiplier
    currency: str | None = None  # ISO 4217
    tick_size: float | None = None  # the smallest step of the price


class Pulled(NamedTuple):
    """The newest ticks of a symbol, oldest first."""

    ticks: Sequence[Tick]
    unread: Sequence[UnreadRow] = ()
    rejected: Sequence[RejectedTick] = ()  # the same rows as ``unread``


class Sink(Protocol):
    """Takes what a link receives, on any thread; may hold it up for a moment, never raises."""

    def push(self, messages: Sequence[Sequence[Tick]], *, replayed: bool = False) -> None:
        """The messages of one burst in the order they came: each is one view of one symbol's ticks.

        ``replayed``: out of what the far side keeps of the past. It says nothing of whether the feed speaks now.
        """

    def reject(self, rejected: Sequence[RejectedTick]) -> None:
        """What could not be mapped: to be told before the ticks that were."""

    def learn(self, facts: Sequence[Fact | DayFact]) -> None:
        """What was found out about completeness, and trades that were corrected or cancelled (``Amended``); it follows
        the ticks that were handed over before it."""

    def waiting_rows(self) -> int:
        """Rows that were handed over and are not stored yet. A source that can read on later waits for them, and so
        leaves queue and spill alone."""

    def changed(self, interrupted: bool = False) -> None:
        """The far side said something of itself: ``Link.ready`` is asked now and not at the next check.

        ``interrupted``: it said that it could not serve for a while. That may be over before it is asked, and all is
        subscribed and backfilled again also then.
        """


class Link(Protocol):
    """One connection, used from one asyncio loop. Every request has a timeout in seconds, raises ``FeedTimeout``,
    ``FeedLost``, or ``FeedError`` with the far side's words."""

    lost: asyncio.Future[str]
    """Done, with the reason, when the connection is gone."""

    async def open(self, timeout_sec: float) -> None:
        """Connect."""

    async def ready(self, timeout_sec: float) -> Ready:
        """Connected does not mean able to serve. Asked every few seconds."""

    async def subscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """Have the ticks of these sent. ``FeedError``: none of them is, though one alone may be refused."""

    async def unsubscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """No more ticks of these."""

    async def subscribed(self, timeout_sec: float) -> Subscribed:
        """As the far side has it."""

    async def pull(self, symbol: str, rows: int, push_type: str, timeout_sec: float) -> Pulled:
        """The newest ``rows`` of a subscribed symbol, at most ``PullLimits.newest_rows``. What cannot be mapped is in
        the answer, and not handed to the sink."""

    async def describe(self, symbols: Sequence[str]) -> Sequence[Described]:
        """What these are, as far as it is known; asked once a trading day, and those that are left out again some
        minutes later. It may take its time: it waits for nothing, and nothing waits for it."""

    async def trading_days(self, first: str, last: str, timeout_sec: float) -> Mapping[str, str] | None:
        """The market's days from ``first`` to ``last`` (all ``YYYYMMDD``): ``WHOLE``, ``MORNING`` or ``AFTERNOON``.
        None: the far side has no calendar."""

    def close(self) -> None:
        """End it, and all requests that wait (``FeedLost``). Safe to call twice."""


class Source(Protocol):
    """One feed: where ticks come from."""

    spec: SourceSpec
    place: Mapping[str, Any]
    """Where it is, for log lines: host and port, or a directory."""

    def open(self, sink: Sink) -> Link:
        """A new connection, not made yet: ``Link.open`` does that. At most one is in use at a time."""

    def alive(self) -> bool:
        """Can anything still come? False when what all connections run on has died; the next ``open`` begins anew."""

    def advice(self, error: FeedError) -> str:
        """What the operator should look at when a connection cannot be made."""


class Choice(NamedTuple):
    """What SOURCE and MARKET ask for, held against what there is."""

    spec: SourceSpec | None
    problem: str  # a sentence for the operator; empty when ``spec`` is there


_SHOWN_CHARS = 40  # of a word that is none


def choose(provider: str, market: str, offered: Collection[SourceSpec]) -> Choice:
    """The spec that both words name, or which of the two is wrong and what there is instead."""
    provider, market = (printable(cut(word, _SHOWN_CHARS)) for word in (provider, market))
    of_provider = [spec for spec in offered if spec.provider == provider]
    for spec in of_provider:
        if spec.market == market:
            return Choice(spec, "")
    if not of_provider:
        return Choice(None, f"SOURCE={provider} is unknown: there is {listed(spec.provider for spec in offered)}")
    markets = listed(spec.market for spec in of_provider)
    if market in {spec.market for spec in offered}:
        return Choice(None, f"SOURCE={provider} does not offer MARKET={market}: it offers {markets}")
    return Choice(None, f"MARKET={market} is unknown: SOURCE={provider} offers {markets}")


def listed(words: Iterable[str]) -> str:
    """For messages: ``futu, sierra or tape``."""
    *names, last = sorted(set(words))
    return f"{', '.join(names)} or {last}" if names else last
