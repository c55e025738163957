"""A day's order books, its broker queues or its snapshots, and their copy in ClickHouse: whole days, once nobody writes
to their file any more. What comes before, as it is stored, is ``live_states``'s.

A row there has the levels, for who asks ClickHouse, and the row of the file, from which the file can be made anew. Both
count in the content hash by which each side proves what it holds (``days.state_content``). What the file notes beside
its pushes (watches, sessions, pulls) goes with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.state_content import state_contents_in
from hk_tick_collector.clickhouse.tables import DAY, RECORDER, ROW_JSON, STATES, StateTables, stage_of
from hk_tick_collector.core.errors import StoreBusy, StoreUnavailable
from hk_tick_collector.days.book_days import BookDay, BookDays
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.content import SymbolContent
from hk_tick_collector.days.schema import TEXT
from hk_tick_collector.days.snapshot_days import SnapshotDays, SnapshotPlace
from hk_tick_collector.days.state_content import StateContent, state_content_of
from hk_tick_collector.days.stored_states import Stored, stored_of
from hk_tick_collector.ship.copies import NOTHING_THERE, Symbols, differing, say_verified
from hk_tick_collector.ship.marks import mark_of
from hk_tick_collector.ship.partition import Partition
from hk_tick_collector.ship.state import Verified
from hk_tick_collector.store.companions import Mark, is_closed
from hk_tick_collector.store.follow import place_at
from hk_tick_collector.store.followed import BOOKS, BROKERS, SNAPSHOTS, Followed
from hk_tick_collector.store.position import Place
from hk_tick_collector.store.side_file import SideKind
from hk_tick_collector.store.snapshot_file import SNAPSHOT_KIND

STAGE_ROWS, STAGE_BYTES = 100_000, 128 * 1024 * 1024


FOLLOWED: dict[str, Followed] = {
    followed.name: followed for followed in (BOOKS, BROKERS, SNAPSHOTS)
}  # by the word of their kind


def is_at_rest(kind: SideKind, data_root: Path, day: str) -> bool:
    """Has nobody its file open?"""
    path = kind.file_of(data_root, day)
    return not path.exists() or is_closed(path)


def _look_of(path: Path) -> tuple[Mark | None, Mark | None]:
    """What a file looks like, and its WAL: rows come there first."""
    return Mark.of(path), Mark.of(path.with_name(f"{path.name}-wal"))


def _nothing() -> None: ...


class Checked(NamedTuple):
    """A day that was compared: what differed, in words; what was noted there, None when they are not equal now; and how
    many rows of notes were sent, by table."""

    different: str
    verified: Verified | None
    notes: dict[str, int]


@dataclass(frozen=True, slots=True)
class StateCopies:
    """Copies of one recorder's days of books, or of queues. Its methods raise EngineAway and EngineRefused of the one
    side, and StoreError of the other."""

    engine: ClickHouse
    recorder: str
    market: str
    states: StateTables

    @property
    def stored(self) -> Stored:
        """What is kept of a file."""
        return stored_of(self.states.kind)

    def check(
        self, day: BookDay | SnapshotPlace, now_ms: int, *, heal: bool = True, begin: Callable[[], None] = _nothing
    ) -> Checked:
        """Compare a day with its copy, and unless they are equal bring it anew, if ``heal``; ``begin`` is called before
        that. StoreBusy when somebody wrote to its file meanwhile."""
        name = day.trading_day
        there = self.there(name)
        with day.opened() as path:
            before = _look_of(path)
            here = self._here(path) if there or not heal else {}
            different = differing(here, there) if there or not heal else NOTHING_THERE
            if different and not heal:
                return Checked(different, None, {})
            if different:
                begin()
                here = self._bring(name, path)
            notes = self._send_notes(name, path)
            if _look_of(path) != before:
                raise StoreBusy(f"{path} was written to while it was read")
        return Checked(different, self._note_verified(name, here, now_ms), {self.states.notes: notes})

    def there(self, day: str, table: str | None = None) -> Symbols:
        """What is there; in a ``table`` that is made like that of the rows."""
        return _told(state_contents_in(self.engine, self.states, table or self.states.rows, day, self.recorder))

    def _here(self, path: Path) -> Symbols:
        return _told(state_content_of(self.stored.read(path), self.stored))

    def _bring(self, day: str, path: Path) -> Symbols:
        partition = Partition(self.engine, day, self.recorder)
        table, stage = self.states.rows, stage_of(self.states.rows)
        partition.drop(stage)
        content = StateContent(self.stored)
        for batches in _together(self.stored.read(path)):
            for batch in batches:
                content.add(batch)
            self.engine.insert(stage, self.stream(batches, day))
        here = _told(content.symbols)
        different = differing(here, self.there(day, stage)) if here else ""
        if different:
            raise StoreUnavailable(
                f"the {self.states.kind.file.noun} of {day} did not arrive as they were sent: {different}"
            )
        partition.take_the_place(table, is_empty=not here)
        return here

    def stream(self, batches: Sequence[pa.RecordBatch], day: str) -> bytes:
        """The body of one insert."""
        own = {"market": self.market, DAY: day, RECORDER: self.recorder}
        schema = pa.schema([*self.stored.schema, *(pa.field(name, TEXT) for name in own)])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            for batch in batches:
                codes = pa.array(np.zeros(batch.num_rows, np.int32))
                more = (pa.DictionaryArray.from_arrays(codes, pa.array([text])) for text in own.values())
                writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, *more], schema=schema))
        return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]

    def _send_notes(self, day: str, path: Path) -> int:
        rows = list(notes_of(path, self.states))
        names, texts = zip(*rows, strict=True) if rows else ((), ())
        columns = {"name": names, ROW_JSON: texts, DAY: [day] * len(rows), RECORDER: [self.recorder] * len(rows)}
        batch = pa.RecordBatch.from_pydict({name: pa.array(values, pa.string()) for name, values in columns.items()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        partition = Partition(self.engine, day, self.recorder)
        partition.drop(stage_of(self.states.notes))
        if rows:
            self.engine.insert(stage_of(self.states.notes), sink.getvalue().to_pybytes())
        partition.swap(self.states.notes, is_empty=not rows)
        return len(rows)

    def _note_verified(self, day: str, here: Symbols, now_ms: int) -> Verified:
        rows = sum(count for count, _ in here.values())
        verified = Verified(day, now_ms, rows, len(here), _whole_hash(here))
        say_verified(self.engine, self.states.days, self.recorder, self.market, verified)
        return verified


class StatesToShip:
    """The days of books, or of queues, of a data root that are to be copied, and the copying of one."""

    def __init__(self, data_root: Path, archive_root: Path, copies: StateCopies) -> None:
        self.copies = copies
        self._data_root, self._archive_root = data_root, archive_root
        self.kind = copies.states.kind
        self._days = days_of(self.kind, data_root, archive_root)

    @property
    def word(self) -> str:
        """For log lines and messages."""
        return self.kind.word

    def name_of(self, day: str) -> str:
        """What its day is called among days of ticks."""
        return name_of(self.kind, day)

    def days(self) -> list[str]:
        """Oldest first; none of them is still written to."""
        return [day for day in self._days.days() if is_at_rest(self.kind, self._data_root, day)]

    def mark(self, day: str) -> str:
        """What its files look like."""
        return mark_of(self.kind, self._data_root, self._archive_root, day)

    def end(self, day: str) -> Place | None:
        """Behind the newest row of its file; None without a file."""
        path = self.kind.file_of(self._data_root, day)
        return place_at(path, day, kind=FOLLOWED[self.word]) if path.exists() else None

    def check(self, day: str, now_ms: int, *, heal: bool = True, begin: Callable[[], None] = _nothing) -> Checked:
        """As ``StateCopies.check``."""
        return self.copies.check(self._days.day(day), now_ms, heal=heal, begin=begin)


def days_of(kind: SideKind, data_root: Path, archive_root: Path) -> BookDays | SnapshotDays:
    """The days of a kind."""
    if kind is SNAPSHOT_KIND:
        return SnapshotDays(data_root, archive_root)
    return BookDays(data_root, archive_root, kind)


def states_to_ship(days: Catalog, engine: ClickHouse, recorder: str) -> list[StatesToShip]:
    """Those of order books, of broker queues and of snapshots."""
    copies = [StateCopies(engine, recorder, days.market.code, tables) for tables in STATES]
    return [StatesToShip(days.data_root, days.archive_root, copy) for copy in copies]


def name_of(kind: SideKind, day: str) -> str:
    """What a day of books or queues is called among days of ticks."""
    return f"{kind.word} of {day}"


def _told(symbols: Mapping[str, SymbolContent]) -> Symbols:
    return {symbol: (content.rows, content.content_hash) for symbol, content in symbols.items()}


def _whole_hash(here: Symbols) -> str:
    """Of all symbols, as ``SymbolContent.add`` adds them."""
    total = SymbolContent()
    for rows, text in here.values():
        total.add(SymbolContent(rows=rows, sum_1=int(text[:16], 16), sum_2=int(text[16:], 16)))
    return total.content_hash


def notes_of(path: Path, states: StateTables) -> Iterator[tuple[str, str]]:
    """The rows of the tables beside those that count, in order, as JSON; bytes in hex."""
    with states.kind.file.reading(path) as conn:
        for name in states.noted:
            for row in conn.execute(f"SELECT * FROM {name} ORDER BY rowid"):  # noqa: S608 - names of ours
                yield name, json.dumps(row, ensure_ascii=False, default=bytes.hex)


def _together(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Several batches at a time, of about STAGE_ROWS, or STAGE_BYTES."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        rows, size_bytes = (
            sum(held_batch.num_rows for held_batch in held),
            sum(held_batch.nbytes for held_batch in held),
        )
        if rows >= STAGE_ROWS or size_bytes >= STAGE_BYTES:
            yield held
            held = []
    if held:
        yield held
