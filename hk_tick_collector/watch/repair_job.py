"""Asks OpenD for what a day file lacks, and stores it the way the recorder does.

What is stored and concluded is the feed's own doing: its mapping, its ``Completeness`` (begun where the day file ends,
the newest stored pushes as its witnesses) and the recorder's ``DayFileWriter``. Beside a running recorder SQLite's lock
keeps the two apart; each notices what the other committed and reads the coverage again.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout, InputError, RowRefused
from hk_tick_collector.core.facts import NOT_JOINED, UNKNOWN_SEQ, Fact, Interrupted, StoredTrack, Unproven
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.records.tick import PUSH_TYPE_PUSH, PUSH_TYPE_REPAIR, Origin, RejectedTick, Tick
from hk_tick_collector.sources.completeness import completeness_of
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.pull import TickPuller
from hk_tick_collector.sources.registry import spec_to_ask
from hk_tick_collector.sources.source import Link
from hk_tick_collector.sources.subscriptions import Asker
from hk_tick_collector.store import layout
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.tracks import stored_tracks
from hk_tick_collector.store.writer import DayFileWriter
from hk_tick_collector.watch.newest import newest_ticks
from hk_tick_collector.watch.repair import RepairPlan

READY_TIMEOUT_SEC = 10
SUBSCRIBE_TRIES = 60  # of at most 24 s: seven find a silent symbol among a hundred, forty ten of them
VAIN_TRIES = 8  # in a row that brought no answer at all
SILENT_PARTS = 2  # of the pulls, in a row: then nothing is answered any more
WITNESS_ROWS = 200  # newest stored ticks among which pushes are looked for


class RepairJob:
    """Asks and stores, and notes beside each symbol what came of it. One run of ``run``, on one asyncio loop.

    ``advance`` is told, after each batch, how many of the plan's symbols are done since the last time. What a symbol's
    repair lacks at the end stands in its ``error``; what it has, in ``RepairPlan.look_again``.
    """

    def __init__(
        self, plan: RepairPlan, data_root: Path, options: SqliteOptions, advance: Callable[[float], None]
    ) -> None:
        self._plan = plan
        self._data_root = data_root
        self._options = options
        self._advance = advance
        self._repairs = {repair.symbol: repair for repair in plan.repairs}
        self._clock = SystemClock()
        self._ticks: list[Tick] = []
        self._facts: list[Fact] = []
        self.rejected_ticks = 0  # of OpenD's, that cannot be stored
        spec = spec_to_ask(plan.market.code)
        if spec is None:
            raise InputError(f"no source can be asked for ticks of market {plan.market.code}")
        self._spec = spec
        self._continuity = completeness_of(spec, self._facts.extend)
        self._limits = spec.pull
        self.days = PlausibleDays(plan.market)
        self._puller = TickPuller(
            self._ticks.extend,
            self._reject,
            self._continuity,
            FeedProgress(),
            self._clock,
            self._limits,
            self.days,
        )
        symbols = list(self._repairs)
        self._witnesses = _witnesses(plan.db, symbols) if plan.db.exists() else {}
        unread: list[Path] = []
        self._seeds = _seeds(data_root, plan.trading_day, symbols, unread)
        # What the file held before cannot be told from what is stored now.
        self._is_blind = plan.trading_day in {layout.parse_day(path) for path in unread}
        self._continuity.seed(self._seeds)
        self._continuity.connected()

    async def run(self, link: Link) -> None:
        """On a link that pushes nothing: subscribe, then pull a few symbols at a time and store what is new.

        A symbol that OpenD refuses, of which nothing comes, or whose subscription is not answered costs only itself.
        FeedLost; FeedTimeout when OpenD does not say how it is; StoreError when the day file cannot be written; what
        was stored before stays.
        """
        await link.ready(READY_TIMEOUT_SEC)  # an answer speaks of OpenD's time where ours runs ahead
        await self._subscribe(link)
        symbols = [symbol for symbol, repair in self._repairs.items() if repair.error is None]
        self._advance(len(self._repairs) - len(symbols))
        writer = self._writer()
        try:
            await self._pull_all(link, symbols, writer)
        finally:
            writer.close()

    async def _subscribe(self, link: Link) -> None:
        """Ask for all, and again in smaller parts for those of a request that was not answered, until each that OpenD
        keeps silent over stands alone or nothing more comes. Those that are not subscribed get their ``error``."""
        asker = Asker(self._limits.subscribe_batch)
        asked, refused = list(self._repairs), dict[str, str]()
        vain_tries = 0
        for _ in range(SUBSCRIBE_TRIES):
            refused = {symbol: words for symbol, words in refused.items() if symbol not in asked}
            refused |= await asker.subscribe(link, asked)
            silent = [symbol for symbol in asked if symbol in asker.unanswered]
            vain_tries = vain_tries + 1 if len(silent) == len(asked) else 0
            asked = silent
            if vain_tries == VAIN_TRIES or not (asker.is_getting_on or asker.has_more):
                break
            await link.ready(READY_TIMEOUT_SEC)  # one that answers nothing at all is not asked again
        for symbol, words in refused.items():
            self._repairs[symbol].error = words if symbol in asked else f"OpenD refuses: {words}"

    def _writer(self) -> DayFileWriter:
        """As the recorder of this market has it."""
        spec = self._spec
        return DayFileWriter(
            self._data_root, self._options, origin=Origin(spec.market, spec.provider), evidence=spec.evidence
        )

    async def _pull_all(self, link: Link, symbols: list[str], writer: DayFileWriter) -> None:
        silent_parts = 0
        for at in range(0, len(symbols), self._limits.in_flight):
            part = symbols[at : at + self._limits.in_flight]
            answered = await asyncio.gather(*(self._pull(link, symbol) for symbol in part))
            self._store(writer)
            self._advance(len(part))
            silent_parts = 0 if any(answered) else silent_parts + 1
            if silent_parts == SILENT_PARTS:
                for symbol in symbols[at + len(part) :]:
                    self._repairs[symbol].error = f"not asked: {self._repairs[part[0]].error}"
                return

    async def _pull(self, link: Link, symbol: str) -> bool:
        """False when there was no answer at all."""
        if symbol in self._seeds and symbol in self._witnesses:
            self._continuity.observe_push(self._witnesses[symbol], self._clock.monotonic())
        try:
            await self._puller.pull(link, symbol, self._limits.newest_rows, PUSH_TYPE_REPAIR)
        except FeedError as exc:
            self._repairs[symbol].error = str(exc)
            return not isinstance(exc, (FeedLost, FeedTimeout))
        return True

    def _store(self, writer: DayFileWriter) -> None:
        """Ticks and facts of this day, a symbol a transaction: the recorder beside us never waits long for the lock."""
        day = self._plan.trading_day
        ticks: dict[str, list[Tick]] = {}
        strays: list[Tick] = []
        for tick in self._ticks:
            if tick.trading_day == day:
                ticks.setdefault(tick.symbol, []).append(tick)
            else:
                strays.append(tick)
        facts = [fact for fact in self._facts if fact.trading_day == day and self._may_conclude(fact.symbol)]
        facts = self._without_others_interruptions(facts)
        dates = {(tick.symbol, tick.trading_day) for tick in strays}
        of_strays = [fact for fact in self._facts if (fact.symbol, fact.trading_day) in dates]
        self._ticks.clear()
        self._facts.clear()
        for symbol, rows in ticks.items():
            of_symbol = [fact for fact in facts if fact.symbol == symbol]
            if self._is_blind and symbol not in self._seeds:
                of_symbol.append(Interrupted(symbol, day, UNKNOWN_SEQ))
            self._repairs[symbol].new_ticks += self._write(writer, rows, of_symbol)
        alone = [fact for fact in facts if fact.symbol not in ticks]
        if alone:
            writer.write((), alone)
        # Ticks of other dates go into those dates' files, as where the recorder is shown them.
        if strays:
            self._write(writer, strays, of_strays)

    def _write(self, writer: DayFileWriter, rows: list[Tick], facts: list[Fact]) -> int:
        """How many of the rows were not stored yet."""
        try:
            return writer.write(rows, facts).inserted_rows
        except RowRefused:
            result, refused = writer.isolate(rows, facts)
            self.rejected_ticks += len(refused)
            return result.inserted_rows

    def _without_others_interruptions(self, facts: list[Fact]) -> list[Fact]:
        """Whether what came behind the end that we began with goes on from there is known to the recorder that stored
        it. It has no interruption of ours to end: the day would stay unproven."""
        of_interruptions = [fact for fact in facts if _is_of_interruption(fact)]
        if not of_interruptions:
            return facts
        symbols = [fact.symbol for fact in of_interruptions if fact.symbol in self._seeds]
        ends = _seeds(self._data_root, self._plan.trading_day, symbols, [])
        recorded_on = {symbol for symbol, end in ends.items() if end.last_seq > self._seeds[symbol].last_seq}
        return [fact for fact in facts if fact.symbol not in recorded_on or not _is_of_interruption(fact)]

    def _may_conclude(self, symbol: str) -> bool:
        """Only if the track began where the file ends: else ticks that are stored would look absent."""
        return symbol in self._seeds or not self._repairs[symbol].before.stored_ticks

    def _reject(self, rejected: Sequence[RejectedTick]) -> None:
        self.rejected_ticks += len(rejected)


def _is_of_interruption(fact: Fact) -> bool:
    return isinstance(fact, Interrupted) or (isinstance(fact, Unproven) and fact.reason == NOT_JOINED)


def _seeds(data_root: Path, day: str, symbols: list[str], unread: list[Path]) -> dict[str, StoredTrack]:
    """Where the day file ends, by symbol. Symbols with a newer file are left out."""
    newest_first = [layout.parse_day(path) for path in layout.recent_day_files(data_root, sys.maxsize)]
    files = newest_first.index(day) + 1 if day in newest_first else 0
    tracks = stored_tracks(data_root, symbols, files, unread=unread)
    return {symbol: track for symbol, track in tracks.items() if track.trading_day == day}


def _witnesses(db: Path, symbols: Sequence[str]) -> dict[str, list[Tick]]:
    """The newest stored pushes of each symbol, oldest first: when OpenD shows the same ticks in the same way, its
    counters may be trusted, as the recorder does."""
    newest = newest_ticks(db, symbols, WITNESS_ROWS)
    pushed = {symbol: [tick for tick in ticks if tick.push_type == PUSH_TYPE_PUSH] for symbol, ticks in newest.items()}
    return {symbol: ticks for symbol, ticks in pushed.items() if ticks}
