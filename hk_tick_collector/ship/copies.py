"""A recorded day and its copy in ClickHouse: are they equal, and making them so.

Equal means: each symbol has as many rows there as in the day file or the archive, and the same content hash, worked out
by each side from its own rows. A copy that is another one is never mended in place: the whole day is put together in a
table of its own, checked there, and takes the place of the old one in one step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.content import contents_in
from hk_tick_collector.clickhouse.copy import rows_there_of
from hk_tick_collector.clickhouse.tables import DAY, DAYS_TABLE, NOTES, RECORDER, STATES, TICKS_TABLE, quoted, stage_of
from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreUnavailable
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.content import ALGORITHM, DayContent, SymbolContent, content_of
from hk_tick_collector.ship.partition import Partition, clear_stages
from hk_tick_collector.ship.rows import notes_stream, ticks_stream
from hk_tick_collector.ship.state import Verified
from hk_tick_collector.store.follow import place_at
from hk_tick_collector.store.position import Place

STAGE_ROWS = 100_000
_NAMED = 5  # symbols in a sentence
NOTHING_THERE = "nothing of it is there"  # what differs of a day that was never brought
Symbols = dict[str, tuple[int, str]]  # rows and content hash of each


class Recorded(NamedTuple):
    """What a day holds here, and behind which row of its file that was looked at."""

    symbols: Symbols
    content_hash: str
    rows: int
    place: Place | None  # None: an archive, or both


class NotesThere(NamedTuple):
    """Notes of a day as they are there: a digest of all of them, and the rows of each table."""

    digest: str
    rows: dict[str, int]


@dataclass(frozen=True, slots=True)
class Copies:
    """Copies of one recorder's days in one ClickHouse. Its methods raise EngineAway and EngineRefused of the one side,
    and StoreError of the other."""

    engine: ClickHouse
    recorder: str

    def there(self, day: str, table: str = TICKS_TABLE) -> Symbols:
        """What is there."""
        contents = contents_in(self.engine, table, day, self.recorder)
        return {symbol: (content.rows, content.content_hash) for symbol, content in contents.items()}

    def bring(self, day: Day) -> Recorded:
        """Make the copy anew, whole: staged, checked, and swapped in. StoreUnavailable when what arrived is not what
        was sent, which another try may mend."""
        place = place_of(day)
        partition = Partition(self.engine, day.trading_day, self.recorder)
        stage = stage_of(TICKS_TABLE)
        partition.drop(stage)
        content = DayContent()
        for batches in _together(_counted(day, place, content)):
            self.engine.insert(stage, ticks_stream(batches, self.recorder, 0))
        recorded = _recorded(content.symbols, place)
        _check_claim(day, recorded)
        different = differing(recorded.symbols, self.there(day.trading_day, stage)) if recorded.rows else ""
        if different:
            raise StoreUnavailable(f"{day.trading_day} did not arrive as it was sent: {different}")
        partition.take_the_place(TICKS_TABLE, is_empty=not recorded.rows)
        return recorded

    def send_notes(self, day: Day, known: str | None) -> NotesThere:
        """Send the day's notes unless those with the digest ``known`` are there; what is there now."""
        told: dict[str, Sequence[Any]] = {"coverage": day.coverage(), "gaps": day.gaps(), "symbols": day.symbol_rows(),
                "amendments": day.amendments()}  # fmt: skip
        bodies = {table: notes_stream(table, told[table], day.trading_day, self.recorder) for table in NOTES}
        digest = blake2b(b"".join(bodies.values()), digest_size=16).hexdigest()
        there = NotesThere(digest, {table: len(told[table]) for table in NOTES})
        if digest == known:
            return there
        partition = Partition(self.engine, day.trading_day, self.recorder)
        for table, body in bodies.items():
            partition.drop(stage_of(table))
            if told[table]:
                self.engine.insert(stage_of(table), body)
            partition.swap(table, is_empty=not told[table])
        return there

    def clear_stages(self) -> None:
        """Drop what a process that died, or an answer that got lost, has left in the stages."""
        clear_stages(self.engine, self.recorder)

    def note_rows(self) -> dict[tuple[str, str], int]:
        """How many rows of notes are there, of ticks, books and queues, by table and day: known from their parts."""
        return {
            (table, day): rows
            for table in (*NOTES, *(states.notes for states in STATES))
            for day, rows in rows_there_of(self.engine, self.recorder, table).items()
        }

    def note_verified(self, day: Day, recorded: Recorded, now_ms: int) -> Verified:
        """Say so there; what the shipper says of it here."""
        verified = Verified(day.trading_day, now_ms, recorded.rows, len(recorded.symbols), recorded.content_hash)
        say_verified(self.engine, DAYS_TABLE, self.recorder, day.market.code, verified)
        return verified


def say_verified(engine: ClickHouse, table: str, recorder: str, market: str, verified: Verified) -> None:
    """Say there that a day's copy is equal. What is said last counts, whatever the clock said before."""
    where = f"{RECORDER} = {quoted(recorder)} AND {DAY} = {quoted(verified.day)}"
    ((old_ms,),) = engine.rows(
        f"SELECT max(toUnixTimestamp64Milli(verified_at)) FROM {engine.database}.{table} WHERE {where}"
    )
    texts = ", ".join(map(quoted, (recorder, verified.day, market)))
    engine.run(
        f"INSERT INTO {engine.database}.{table} SETTINGS async_insert = 0 VALUES ({texts}, "
        f"{verified.rows:d}, {verified.symbols:d}, {quoted(verified.content_hash)}, "
        f"fromUnixTimestamp64Milli(toInt64({max(verified.verified_ms, old_ms + 1):d}), 'UTC'))"
    )


def place_of(day: Day) -> Place | None:
    """Behind the newest row of its file, when the file alone is the day. StoreBusy when the file has gone since."""
    if day.db is None or day.is_archived_only or day.is_joined:
        return None
    try:
        return place_at(day.db, day.trading_day)
    except FileNotFoundError:
        raise StoreBusy(f"{day.db} went away while it was looked at: archived or set aside just now") from None


def recorded(day: Day, place: Place | None) -> Recorded:
    """What the day holds here: its file up to ``place``, or its archive as the manifest claims it."""
    claim = day.manifest if day.is_archived_only else None
    if claim is not None and claim.hash_algorithm == ALGORITHM:
        symbols = {symbol: (content.rows, content.content_hash) for symbol, content in claim.symbols.items()}
        return Recorded(symbols, claim.content_hash, claim.rows, None)
    last_rowid = None if place is None else place.rowid
    return _recorded(content_of(day.batches(last_rowid=last_rowid)).symbols, place)


def differing(here: Symbols, there: Symbols) -> str:
    """In words, which symbols differ; empty when none does."""
    wrong = sorted(symbol for symbol in {*here, *there} if here.get(symbol) != there.get(symbol))
    if not wrong:
        return ""
    if not there:
        return NOTHING_THERE
    named = (f"{symbol} {here.get(symbol, (0,))[0]} here, {there.get(symbol, (0,))[0]} there" for symbol in wrong)
    more = f", and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return f"{len(wrong)} of {len({*here, *there})} symbols differ (ticks: {', '.join(islice(named, _NAMED))}{more})"


def _recorded(symbols: Mapping[str, SymbolContent], place: Place | None) -> Recorded:
    total = SymbolContent()
    for content in symbols.values():
        total.add(content)
    told = {symbol: (content.rows, content.content_hash) for symbol, content in symbols.items()}
    return Recorded(told, total.content_hash, total.rows, place)


def _check_claim(day: Day, recorded: Recorded) -> None:
    claim = day.manifest if day.is_archived_only else None
    if claim is not None and claim.hash_algorithm == ALGORITHM and claim.content_hash != recorded.content_hash:
        raise StoreCorrupt(
            f"{day.archived_file} does not hold what its manifest claims; see hk-tickctl verify {day.trading_day}"
        )


def _counted(day: Day, place: Place | None, content: DayContent) -> Iterator[pa.RecordBatch]:
    last_rowid = None if place is None else place.rowid
    for batch in day.batches(last_rowid=last_rowid):
        content.add(batch)
        yield batch


def _together(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Several batches at a time, of about STAGE_ROWS."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= STAGE_ROWS:
            yield held
            held, rows = [], 0
    if held:
        yield held
