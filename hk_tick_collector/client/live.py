"""``hk.live``: ticks as they are recorded, each once, from local files or from a server.

A ``Live`` gives batches for ever::

    for batch in hk.live("700", cursor_file="700.cursor"):
        use(batch.rows)

``batch.cursor`` is where to go on: give it as ``since`` in the next process. With ``cursor_file`` it is kept for you,
after the batch was taken, that is, when the next one is asked for: a process that dies while it works on a batch gets
that batch again (at least once).

Promises: every row behind the cursor comes, in the order in which it was stored; rows that a server sends again after a
file was replaced are dropped (by symbol, sequence, time and occurrence; eight bytes a tick, ``Seen``). A
connection that was lost, or says nothing for 15 s, is made again with pauses of 0.5 to 30 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from hk_tick_collector.client.errors import BadQuestion
from hk_tick_collector.client.question import Texts
from hk_tick_collector.client.told import as_ours, translated
from hk_tick_collector.core.errors import RecorderError, StoreBusy, StoreCorrupt, StoreUnavailable
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.market.symbols import check_symbols
from hk_tick_collector.store import data_root
from hk_tick_collector.store.atomic import write_whole
from hk_tick_collector.store.follow import LOOK_SEC, Follower
from hk_tick_collector.store.position import ROW, DayChanged, Position, PositionLost

COLUMNS = ROW[1:]
NOW, DAY, ALL = "now", "day", "all"
PATIENCE_SEC = 60.0
MAX_SEEN_ROWS = 20_000_000  # of a day, eight bytes each
# What tells one row from another, with a sequence and without: as the unique indexes of store/schema.sql.
_KEY = tuple(
    COLUMNS.index(name)
    for name in ("trading_day", "symbol", "seq", "ts_ms", "price", "volume", "turnover", "occurrence")
)


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """Rows as tuples in the order of ``columns``, and the cursor behind them."""

    rows: list[tuple[Any, ...]]
    cursor: str
    columns: Sequence[str] = COLUMNS

    def dicts(self) -> list[dict[str, Any]]:
        """The rows with the names of their columns."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


Source = Callable[[str, threading.Event], Iterator[LiveBatch]]  # all batches behind a cursor, for ever or until stopped


class Live:
    """An iterator of ``LiveBatch``, and an asynchronous one in ``async with``. ``close`` ends it from any thread."""

    def __init__(self, source: Source, since: str, cursor_file: Path | None) -> None:
        self._stop = threading.Event()
        self._file = cursor_file
        self.cursor = _kept(cursor_file) or since
        self._batches = self._kept_after(source(self.cursor, self._stop))

    def _kept_after(self, batches: Iterator[LiveBatch]) -> Iterator[LiveBatch]:
        for batch in batches:
            if batch.rows:
                yield batch
            self.cursor = batch.cursor
            if self._file is not None:
                with translated():
                    write_whole(self._file, batch.cursor + "\n")

    def __iter__(self) -> Iterator[LiveBatch]:
        return self._batches

    def __next__(self) -> LiveBatch:
        return next(self._batches)

    def close(self) -> None:
        """End: the iteration stops at its next look."""
        self._stop.set()

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Live:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[LiveBatch]:
        while True:
            work = asyncio.ensure_future(asyncio.to_thread(next, self._batches, None))
            try:
                batch = await asyncio.shield(work)
            except asyncio.CancelledError:
                self.close()  # the thread ends at its next look
                raise
            if batch is None:
                return
            yield batch


class Seen:
    """What rows were given, so that none is given twice when a file is read again.

    Rows come again only behind ``read_again``; until then a row is eight bytes that nobody looks at. A day with more
    than MAX_SEEN_ROWS forgets its oldest: those would come twice.
    """

    def __init__(self, max_rows: int = MAX_SEEN_ROWS) -> None:
        self._max_rows = max_rows
        self._marks: dict[str, array[int]] = {}  # in the order given
        self._again: dict[str, set[int]] = {}  # days that come again, and what was given of them

    def read_again(self, day: str) -> None:
        """From here on rows of this day may be such as were given."""
        self._again[day] = set(self._marks.get(day, ()))

    def new(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Those of ``rows`` that were not given yet; they are now."""
        fresh = []
        for row in rows:
            key = tuple(row[column] for column in _KEY)
            day, mark = str(key[0]), hash(key)
            again = self._again.get(day)
            if again is not None:
                if mark in again:
                    continue
                again.add(mark)
            self._note(day, mark)
            fresh.append(row)
        return fresh

    def _note(self, day: str, mark: int) -> None:
        marks = self._marks.get(day)
        if marks is None:
            marks = self._marks[day] = array("q")
            for left in sorted(self._marks)[:-2]:  # two days are followed at most
                del self._marks[left]
                self._again.pop(left, None)
        marks.append(mark)
        if len(marks) > self._max_rows:
            del marks[: self._max_rows // 10 + 1]


def follow_files(
    roots: Sequence[tuple[Path, Path]],
    symbols: Texts,
    *,
    since: str = NOW,
    cursor_file: str | Path | None = None,
) -> Live:
    """Ticks of local files. ``since``: a cursor, ``"now"`` or ``"day"`` (the newest day from its start).

    BadQuestion for symbols or cursors that are none. While it goes on: NoData-like errors of reading as of
    ``client.errors``; a day whose file was put away while it was not read to its end is a ``RecordingsError`` that
    names the day and the cursor to go on with.
    """
    if len(roots) != 1:
        raise BadQuestion("live follows one data root", "name it: hk.local(DIRECTORY).live(...)")
    root, archive = roots[0]
    with translated():
        wanted = _symbols(symbols, root)

    def batches(cursor: str, stop: threading.Event) -> Iterator[LiveBatch]:
        days = Catalog(root, archive)
        with translated(), Follower(root, was_end=days.was_end) as follower:
            position = _start(follower, cursor)
            for day in days.passed_over(position.newest_day):
                raise RecorderError(
                    f"{day} has no day file any more: read it with hk.load(..., {day!r}), then go on with "
                    f"since={str(position.leaving(day))!r}"
                )
            yield from _followed(follower, position, wanted, stop)

    if since not in (NOW, DAY):
        _parsed(since)
    return Live(batches, since, None if cursor_file is None else Path(cursor_file))


def _followed(
    follower: Follower, position: Position, wanted: frozenset[str] | None, stop: threading.Event
) -> Iterator[LiveBatch]:
    seen, failures = Seen(), 0
    symbol = ROW.index("symbol")
    while not stop.is_set():
        try:
            batch = follower.read_behind(position)
        except DayChanged as exc:
            position = exc.onward
            seen.read_again(exc.day)  # what was given already is dropped
            continue
        except PositionLost as exc:
            raise as_ours(RecorderError(f"{exc}; go on with since={str(exc.onward)!r}")) from exc
        except (StoreBusy, StoreUnavailable, StoreCorrupt):  # a damaged file is set aside by who writes to it
            failures += 1
            if failures * 0.5 > PATIENCE_SEC:
                raise
            stop.wait(0.5)
            continue
        failures = 0
        if batch is None:
            stop.wait(LOOK_SEC)
            continue
        position = batch.position
        rows = [row[1:] for row in batch.rows if wanted is None or row[symbol] in wanted]
        yield LiveBatch(seen.new(rows), str(position))


def _start(follower: Follower, cursor: str) -> Position:
    if cursor not in (NOW, DAY):
        return _parsed(cursor)
    end = follower.end()
    return Position.at_start_of(end.newest_day) if cursor == DAY and end.places else end


def _parsed(cursor: str) -> Position:
    try:
        return Position.parse(cursor)
    except ValueError as exc:
        raise BadQuestion(str(exc), "give a batch's cursor, now or day") from exc


def _symbols(symbols: Texts, root: Path) -> frozenset[str] | None:
    text = symbols if isinstance(symbols, str) else ",".join(symbols)
    if text == ALL:
        return None
    good, problems = check_symbols(text, market_of(data_root.market_of(root)).symbols)
    if problems:
        raise BadQuestion(problems[0])
    return frozenset(good)


def _kept(path: Path | None) -> str:
    if path is None:
        return ""
    with translated(), contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="ascii").strip()
    return ""
