"""A day's order books and their copy in ClickHouse: whole days, once nobody writes to their file any more. What comes
before, as it is stored, is ``live_books``'s.

A row there has the levels, for who asks ClickHouse, and the row of the file, from which the file can be made anew. Both
count in the content hash by which each side proves what it holds (``days.book_content``). What the file notes beside
its pushes (watches, sessions, pulls) goes with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from hk_tick_collector.clickhouse.book_content import book_contents_in
from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.tables import (
    BOOK_DAYS_TABLE,
    BOOK_NOTE,
    BOOK_NOTES,
    BOOK_NOTES_TABLE,
    BOOKS_TABLE,
    DAY,
    RECORDER,
    stage_of,
)
from hk_tick_collector.core.errors import StoreBusy, StoreUnavailable
from hk_tick_collector.days.book_content import BookContent
from hk_tick_collector.days.book_days import BookDay, BookDays
from hk_tick_collector.days.books import STORED_SCHEMA, read_stored
from hk_tick_collector.days.content import SymbolContent
from hk_tick_collector.days.schema import TEXT
from hk_tick_collector.ship.copies import Symbols, differing, say_verified
from hk_tick_collector.ship.marks import books_mark
from hk_tick_collector.ship.partition import Partition
from hk_tick_collector.ship.state import Verified
from hk_tick_collector.store.book_file import reading
from hk_tick_collector.store.companions import Mark, is_closed
from hk_tick_collector.store.follow import place_at
from hk_tick_collector.store.followed import BOOKS
from hk_tick_collector.store.layout import book_file
from hk_tick_collector.store.position import Place

STAGE_ROWS = 100_000


def is_at_rest(data_root: Path, day: str) -> bool:
    """Has nobody its file open?"""
    path = book_file(data_root, day)
    return not path.exists() or is_closed(path)


@dataclass(frozen=True, slots=True)
class BookCopies:
    """Copies of one recorder's days of books. Its methods raise EngineAway and EngineRefused of the one side, and
    StoreError of the other."""

    engine: ClickHouse
    recorder: str
    market: str

    def check(self, day: BookDay, now_ms: int, *, heal: bool = True) -> tuple[str, Verified | None]:
        """Compare a day with its copy, and unless they are equal bring it anew, if ``heal``. What differed, in words;
        what was noted there, None when they are not equal now."""
        name = day.trading_day
        there = self.there(name)
        with day.opened() as path:
            before = Mark.of(path)
            here = _told(_content(path)) if there or not heal else {}
            different = differing(here, there) if there or not heal else "nothing of it is there"
            if different and not heal:
                return different, None
            if different:
                here = self._bring(name, path)
            self._send_notes(name, path)
            if Mark.of(path) != before:
                raise StoreBusy(f"{path} was written to while it was read")
        return different, self._note_verified(name, here, now_ms)

    def there(self, day: str, table: str = BOOKS_TABLE) -> Symbols:
        """What is there."""
        return _told(book_contents_in(self.engine, table, day, self.recorder))

    def _bring(self, day: str, path: Path) -> Symbols:
        partition = Partition(self.engine, day, self.recorder)
        partition.drop(stage_of(BOOKS_TABLE))
        content = BookContent()
        for batches in _together(read_stored(path)):
            for batch in batches:
                content.add(batch)
            self.engine.insert(stage_of(BOOKS_TABLE), self.stream(batches, day))
        here = _told(content.symbols)
        different = differing(here, self.there(day, stage_of(BOOKS_TABLE))) if here else ""
        if different:
            raise StoreUnavailable(f"the order books of {day} did not arrive as they were sent: {different}")
        partition.swap(BOOKS_TABLE, is_empty=not here)
        return here

    def stream(self, batches: Sequence[pa.RecordBatch], day: str) -> bytes:
        """The body of one insert."""
        own = {"market": self.market, DAY: day, RECORDER: self.recorder}
        schema = pa.schema([*STORED_SCHEMA, *(pa.field(name, TEXT) for name in own)])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            for batch in batches:
                codes = pa.array(np.zeros(batch.num_rows, np.int32))
                more = (pa.DictionaryArray.from_arrays(codes, pa.array([text])) for text in own.values())
                writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, *more], schema=schema))
        return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]

    def _send_notes(self, day: str, path: Path) -> None:
        rows = list(_notes(path))
        names, texts = zip(*rows, strict=True) if rows else ((), ())
        columns = {"name": names, BOOK_NOTE: texts, DAY: [day] * len(rows), RECORDER: [self.recorder] * len(rows)}
        batch = pa.RecordBatch.from_pydict({name: pa.array(values, pa.string()) for name, values in columns.items()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        partition = Partition(self.engine, day, self.recorder)
        partition.drop(stage_of(BOOK_NOTES_TABLE))
        if rows:
            self.engine.insert(stage_of(BOOK_NOTES_TABLE), sink.getvalue().to_pybytes())
        partition.swap(BOOK_NOTES_TABLE, is_empty=not rows)

    def _note_verified(self, day: str, here: Symbols, now_ms: int) -> Verified:
        rows = sum(count for count, _ in here.values())
        verified = Verified(day, now_ms, rows, len(here), _whole_hash(here))
        say_verified(self.engine, BOOK_DAYS_TABLE, self.recorder, self.market, verified)
        return verified


class BooksToShip:
    """The days of books of a data root that are to be copied, and the copying of one."""

    def __init__(self, data_root: Path, archive_root: Path, copies: BookCopies) -> None:
        self.copies = copies
        self._data_root, self._archive_root = data_root, archive_root
        self._books = BookDays(data_root, archive_root)

    def days(self) -> list[str]:
        """Oldest first; none of them is still written to."""
        return [day for day in self._books.days() if is_at_rest(self._data_root, day)]

    def mark(self, day: str) -> str:
        """What its files look like."""
        return books_mark(self._data_root, self._archive_root, day)

    def end(self, day: str) -> Place | None:
        """Behind the newest row of its file; None without a file."""
        path = book_file(self._data_root, day)
        return place_at(path, day, kind=BOOKS) if path.exists() else None

    def check(self, day: str, now_ms: int, *, heal: bool = True) -> tuple[str, Verified | None]:
        """As ``BookCopies.check``."""
        return self.copies.check(self._books.day(day), now_ms, heal=heal)


def _content(path: Path) -> dict[str, SymbolContent]:
    content = BookContent()
    for batch in read_stored(path):
        content.add(batch)
    return content.symbols


def _told(symbols: Mapping[str, SymbolContent]) -> Symbols:
    return {symbol: (one.rows, one.content_hash) for symbol, one in symbols.items()}


def _whole_hash(here: Symbols) -> str:
    """Of all symbols, as ``SymbolContent.add`` adds them."""
    total = SymbolContent()
    for rows, text in here.values():
        total.add(SymbolContent(rows=rows, sum_1=int(text[:16], 16), sum_2=int(text[16:], 16)))
    return total.content_hash


def _notes(path: Path) -> Iterator[tuple[str, str]]:
    """The rows of the tables beside the pushes, in order, as JSON."""
    with reading(path) as conn:
        for name in BOOK_NOTES:
            for row in conn.execute(f"SELECT * FROM {name} ORDER BY rowid"):  # noqa: S608 - names of ours
                yield name, json.dumps(row, ensure_ascii=False)


def _together(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Several batches at a time, of about STAGE_ROWS."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(one.num_rows for one in held) >= STAGE_ROWS:
            yield held
            held = []
    if held:
        yield held
