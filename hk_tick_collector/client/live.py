"""``hk.live``: ticks, order books, broker queues or snapshots as they are recorded, each once, from files or a server.

A ``Live`` gives batches for ever::

    for batch in hk.live("700", cursor_file="700.cursor"):
        use(batch.rows)

``batch.cursor`` is where to go on: give it as ``since`` in the next process. With ``cursor_file`` it is kept for you,
after the batch was taken, that is, when the next one is asked for: a process that dies while it works on a batch gets
that batch again (at least once).

Promises: every row behind the cursor comes, in the order in which it was stored; rows that a server sends again after a
file was replaced are dropped (by symbol, sequence, time and occurrence; eight bytes a tick, ``Seen``). A
connection that was lost, or says nothing for 15 s, is made again with pauses of 0.5 to 30 s.

Of books (``kind="book"``) and broker queues (``kind="broker"``) a row is a push: the whole book or queue after it. The
first batch of a data root is a ``snapshot``: that of each symbol as it was where the line begins, none of which is a
push behind the cursor.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from hk_tick_collector.archive.snapshots import SnapshotDays
from hk_tick_collector.client.errors import BadQuestion, IncompleteData
from hk_tick_collector.client.live_kinds import (
    BOOK,
    BOOK_COLUMNS,
    BROKER,
    BROKER_COLUMNS,
    COLUMNS,
    SNAPSHOT,
    SNAPSHOT_COLUMNS,
    TICK,
    Seen,
    cut,
)
from hk_tick_collector.client.places import find_hooks_dir
from hk_tick_collector.client.question import Texts
from hk_tick_collector.client.told import as_ours, translated
from hk_tick_collector.core.errors import RecorderError, StoreBusy, StoreCorrupt, StoreError, StoreUnavailable
from hk_tick_collector.core.regular import read_named
from hk_tick_collector.core.text import counted
from hk_tick_collector.days.book_days import BookDays
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.joined_follow import JoinedBatch, JoinedFollower
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.market.symbols import SymbolGrammar, check_symbols
from hk_tick_collector.store import data_root
from hk_tick_collector.store.atomic import write_whole
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND, StateKind
from hk_tick_collector.store.book_follow import BookRows
from hk_tick_collector.store.broker_follow import QueueRows
from hk_tick_collector.store.data_root import by_market
from hk_tick_collector.store.follow import LOOK_SEC, Follower
from hk_tick_collector.store.layout import BOOKS, BROKERS, SNAPSHOTS, TICKS
from hk_tick_collector.store.position import (
    ROW,
    DayChanged,
    JoinedPosition,
    Position,
    PositionLost,
    Stand,
    parts_of,
)
from hk_tick_collector.store.signals import newest_signal, parted, read_signals, with_number
from hk_tick_collector.store.snapshot_follow import SnapshotRows

DEPTH, MAX_DEPTH = 10, 1000
NOW, DAY, ALL = "now", "day", "all"
NOT_FOLLOWED = "-"  # in a cursor: a data root of which no symbol was asked for
PATIENCE_SEC, RETRY_SEC = 60.0, 0.5
SIGNALS_LOOK_SEC = 0.2
_MAX_CURSOR_BYTES = 1 << 16
_SYMBOL = ROW.index("symbol")
_BACK = re.compile(r"-[1-9][0-9]{0,5}", re.ASCII)
_OF_KIND = {TICK: TICKS, BOOK: BOOKS, BROKER: BROKERS, SNAPSHOT: SNAPSHOTS}


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """Rows as tuples in the order of ``columns``, and the cursor behind them."""

    rows: list[tuple[Any, ...]]
    cursor: str
    columns: Sequence[str] = COLUMNS
    signals: Sequence[dict[str, Any]] = ()  # of hooks, if they were asked for; a batch of signals has no rows
    is_snapshot: bool = (
        False  # books or queues as they are known where the line begins; what you had of others is known no more
    )

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
            if batch.rows or batch.signals:
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


def follow_files(
    roots: Sequence[tuple[Path, Path]],
    symbols: Texts,
    *,
    since: str = NOW,
    cursor_file: str | Path | None = None,
    signals: Texts | None = None,
    hooks_dir: str | Path | None = None,
    kind: str = TICK,
    depth: int = DEPTH,
) -> Live:
    """Ticks of local files, or with ``kind="book"`` order books of ``depth`` levels a side at most, or ``"broker"``, or
    ``"snapshot"``.

    ``since``: a cursor, ``"now"``, ``"day"`` (the newest day from its start), or ``"-500"`` for the newest 500 rows.

    Of several data roots a symbol's market chooses those that are followed; a cursor has a part for each, as the server
    gives it. ``signals``: hooks whose signals come, too, or ``"all"``, from ``hooks_dir``, else the setting HOOKS_DIR.

    BadQuestion for symbols or cursors that are none. While it goes on: NoData-like errors of reading as of
    ``client.errors``; a day whose file was put away while it was not read to its end is a ``RecordingsError`` that
    names the day and the cursor to go on with.
    """
    check_kind(kind, depth)
    with translated():
        wanted = _symbols(symbols, [market_of(data_root.market_of(root)).symbols for root, _ in roots])
        heard = None if signals is None else Heard(find_hooks_dir(hooks_dir), signals)

    def batches(cursor: str, stop: threading.Event) -> Iterator[LiveBatch]:
        with translated(), contextlib.ExitStack() as held:
            groups = [[n] for n in range(len(roots))] if kind != TICK else by_market([root for root, _ in roots])
            feeds = [
                held.enter_context(_feed(kind, depth, [roots[n] for n in numbers], numbers, wanted[numbers[0]]))
                for numbers in groups
                if numbers[0] in wanted
            ]
            line = _Line(feeds, len(roots), heard, cursor, kind)
            yield from line.known()
            while not stop.is_set():
                is_quiet = True
                for batch in line.look():
                    is_quiet = False
                    yield batch
                if is_quiet:
                    stop.wait(LOOK_SEC)

    _places(since, len(roots), kind)
    return Live(batches, since, None if cursor_file is None else Path(cursor_file))


def check_kind(kind: str, depth: int) -> None:
    """BadQuestion when there is no such kind of record, or no such depth."""
    if kind not in _OF_KIND:
        raise BadQuestion(f"kind={kind!r} is not known", f"there are {', '.join(_OF_KIND)}")
    if not isinstance(depth, int) or not 1 <= depth <= MAX_DEPTH:
        raise BadQuestion(f"depth={depth!r}: 1 to {MAX_DEPTH} levels of each side")


Roots = Sequence[tuple[Path, Path]]


class _Feed:
    """One data root as it is followed, or several of one market as one. ``numbers``: their places in a cursor."""

    word, columns = TICK, COLUMNS

    def __init__(self, roots: Roots, numbers: Sequence[int], symbols: frozenset[str] | None) -> None:
        self.numbers = numbers
        self._symbols, self._seen = symbols, Seen(kind=self.word)
        self._days: Sequence[Catalog | BookDays | SnapshotDays]
        self._follower: Any  # Follower, JoinedFollower, BookRows ...: each takes positions of its own
        self._open(roots)
        self._failing_since_sec: float | None = None
        self._retry_at_sec = 0.0
        self.position: Stand = Position(kind=_OF_KIND[self.word])

    def _open(self, roots: Roots) -> None:
        catalogs = [Catalog(*root) for root in roots]
        self._days = catalogs
        self._follower, *others = [Follower(catalog.data_root, was_end=catalog.was_end) for catalog in catalogs]
        if others:
            self._follower = JoinedFollower([self._follower, *others], catalogs[0].market, numbers=self.numbers)

    def __enter__(self) -> _Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.close()

    def begin(self, since: Sequence[Position | str]) -> None:
        """Find the place, told for each data root. RecordingsError when a day behind it was put away."""
        words = [place for place in since if isinstance(place, str)]
        if words:
            self.position = self._follower.end(int(words[0][1:]) if _BACK.fullmatch(words[0]) else 0)
            if words[0] == DAY and self.position.newest_day:
                start = Position.at_start_of(self.position.newest_day, _OF_KIND[self.word])
                self.position = self._stand([start] * len(since))
        ends = parts_of(self.position) if words else since
        told = [end if isinstance(place, str) else place for place, end in zip(since, ends, strict=True)]
        self.position = self._stand([place for place in told if isinstance(place, Position)])

    def _stand(self, parts: Sequence[Position]) -> Stand:
        return parts[0] if len(self.numbers) == 1 else JoinedPosition(tuple(parts))

    def known(self) -> list[tuple[Any, ...]]:
        """What is known at the place where it begins; of ticks that is nothing."""
        return []

    def passed_over(self) -> list[str]:
        """Days behind the place of which nothing would come."""
        parts = zip(self._days, parts_of(self.position), strict=True)
        return sorted({day for days, part in parts for day in days.passed_over(part.newest_day)})

    def behind(self, day: str) -> Stand:
        """The place behind a day."""
        return self._stand([part.leaving(day) for part in parts_of(self.position)])

    def rows(self) -> list[tuple[Any, ...]] | None:
        """The next new rows of the symbols; None when nothing came. PositionLost, and StoreError after a while."""
        if time.monotonic() < self._retry_at_sec:
            return None
        try:
            batch = self._follower.read_behind(self.position)
        except DayChanged as exc:
            self.position = exc.onward
            self._seen.read_again(exc.day)  # what was given already is dropped
            return []
        except (StoreBusy, StoreUnavailable, StoreCorrupt):  # a damaged file is set aside by who writes to it
            now_sec = time.monotonic()
            self._failing_since_sec = self._failing_since_sec or now_sec
            if now_sec - self._failing_since_sec > PATIENCE_SEC:
                raise
            self._retry_at_sec = now_sec + RETRY_SEC
            return None
        self._failing_since_sec = None
        if batch is None:
            return None
        self.position = batch.position
        for told in batch.told if isinstance(batch, JoinedBatch) else ():
            self._note(told)
        rows = [row[1:] for row in batch.rows if self._symbols is None or row[_SYMBOL] in self._symbols]
        return self._seen.new(self._shown(rows))

    def _note(self, told: dict[str, Any]) -> None:
        if told["type"] == "reset":
            self._seen.read_again(told["day"])
        elif self._symbols is None or told["symbol"] in self._symbols:
            warn_of(told)

    def _shown(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return rows


def warn_of(told: dict[str, Any]) -> None:
    """Two data roots contradict each other, as a message of the live channel tells it."""
    text = (
        f"{told['day']} {told['symbol']}: the data roots {told['kept']} and {told['left_out']} of DATA_ROOTS "
        "contradict each other; from here on the first one alone is followed. hk-tickctl compare shows how they differ"
    )
    warnings.warn(text, IncompleteData, stacklevel=3)


class _StateFeed(_Feed):
    """Of pushes that are whole states."""

    states: StateKind
    rows_of: type[BookRows] | type[QueueRows]
    depth = DEPTH

    def _open(self, roots: Roots) -> None:
        days = BookDays(*roots[0], self.states)
        self._days = [days]
        self._follower = self.rows_of(roots[0][0], was_end=days.was_end, symbols=self._symbols)

    def known(self) -> list[tuple[Any, ...]]:
        """The book or queue of each symbol, where it is known. StoreError."""
        assert isinstance(self.position, Position)
        with contextlib.suppress(PositionLost):  # the reading tells it
            return self._shown([row[1:] for row in self._follower.known(self.position)])
        return []


class _BookFeed(_StateFeed):
    """Of order books."""

    word, columns, states, rows_of = BOOK, BOOK_COLUMNS, BOOK_KIND, BookRows

    def _shown(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [cut(row, self.depth) for row in rows]


class _QueueFeed(_StateFeed):
    """Of broker queues."""

    word, columns, states, rows_of = BROKER, BROKER_COLUMNS, BROKER_KIND, QueueRows


class _SnapshotFeed(_Feed):
    """Of snapshots."""

    word, columns = SNAPSHOT, SNAPSHOT_COLUMNS

    def _open(self, roots: Roots) -> None:
        days = SnapshotDays(*roots[0])
        self._days = [days]
        self._follower = SnapshotRows(roots[0][0], was_end=days.was_end, symbols=self._symbols)


_FEEDS = {TICK: _Feed, BOOK: _BookFeed, BROKER: _QueueFeed, SNAPSHOT: _SnapshotFeed}


def _feed(kind: str, depth: int, roots: Roots, numbers: Sequence[int], symbols: frozenset[str] | None) -> _Feed:
    feed = _FEEDS[kind](roots, numbers, symbols)
    if isinstance(feed, _BookFeed):
        feed.depth = depth
    return feed


class Heard:
    """Signals of hooks, as they are stored. ``number``: of the last one."""

    def __init__(self, hooks_dir: Path, names: Texts) -> None:
        self._directory = hooks_dir
        self._names = frozenset(names.split(",") if isinstance(names, str) else names)
        self.number = 0
        self._look_at_sec = 0.0

    def begin(self, number: int | None) -> None:
        """Behind this signal, by default behind the newest one."""
        self.number = newest_signal(self._directory) if number is None else number

    def next(self) -> list[dict[str, Any]] | None:
        """The next signals of the hooks; None when nothing came. What cannot be read now is read later."""
        if time.monotonic() < self._look_at_sec:
            return None
        self._look_at_sec = time.monotonic() + SIGNALS_LOOK_SEC
        try:
            signals = read_signals(self._directory, self.number)
        except StoreError:
            return None
        if not signals:
            return None
        self.number, self._look_at_sec = signals[-1].number, 0.0
        return [signal.as_json() for signal in signals if ALL in self._names or signal.name in self._names]


class _Line:
    """Several feeds, and signals, as one line with one cursor."""

    def __init__(self, feeds: Sequence[_Feed], parts: int, heard: Heard | None, since: str, kind: str) -> None:
        self._feeds, self._parts, self._heard = feeds, parts, heard
        places, number = _places(since, parts, kind)
        for feed in feeds:
            feed.begin([places[n] for n in feed.numbers])
        if heard is not None:
            heard.begin(number)
        for feed in feeds:
            for day in feed.passed_over():
                onward = self._cursor(feed, feed.behind(day))
                raise RecorderError(
                    f"{day} has no day file any more: read it with hk.load(..., {day!r}), then go on with "
                    f"since={onward!r}"
                )

    def known(self) -> Iterator[LiveBatch]:
        """What is known where it begins."""
        for feed in self._feeds:
            rows = feed.known()
            if rows:
                yield LiveBatch(rows, self._cursor(), feed.columns, is_snapshot=True)

    def _cursor(self, changed: _Feed | None = None, stand: Stand | None = None) -> str:
        parts = [NOT_FOLLOWED] * self._parts
        for feed in self._feeds:
            told = stand if feed is changed and stand is not None else feed.position
            for number, part in zip(feed.numbers, parts_of(told), strict=True):
                parts[number] = str(part)
        return ",".join(parts) if self._heard is None else with_number(",".join(parts), self._heard.number)

    def look(self) -> Iterator[LiveBatch]:
        """What is there now, at most one batch of each."""
        for feed in self._feeds:
            try:
                rows = feed.rows()
            except PositionLost as exc:
                onward = self._cursor(feed, exc.onward)
                raise as_ours(RecorderError(f"{exc}; go on with since={onward!r}")) from exc
            if rows is not None:
                yield LiveBatch(rows, self._cursor(), feed.columns)
        signals = None if self._heard is None else self._heard.next()
        if signals is not None:
            yield LiveBatch([], self._cursor(), signals=signals)


def _places(cursor: str, roots: int, kind: str) -> tuple[list[Position | str], int | None]:
    """Where to begin in each data root, NOW where the cursor has no place; and behind which signal."""
    try:
        text, number = parted(cursor)
        if text in (NOW, DAY) or _BACK.fullmatch(text):
            return [text] * roots, number
        parts = text.split(",")
        if len(parts) != roots:
            raise ValueError(f"{cursor!r:.200} is of {counted(len(parts), 'data root')}; followed: {roots}")
        of_kind = _OF_KIND[kind]
        return [NOW if part == NOT_FOLLOWED and roots > 1 else Position.parse(part, of_kind) for part in parts], number
    except ValueError as exc:
        raise BadQuestion(str(exc), "give a batch's cursor, now, day, or -500 for the newest 500 rows") from exc


def _symbols(symbols: Texts, grammars: Sequence[SymbolGrammar]) -> dict[int, frozenset[str] | None]:
    """Those of each data root that has any; None for all."""
    text = symbols if isinstance(symbols, str) else ",".join(symbols)
    if text == ALL:
        return dict.fromkeys(range(len(grammars)))
    wanted: dict[int, set[str]] = {}
    for word in re.split(r"[,\s]+", text.strip().strip(",")):
        mine = [n for n, grammar in enumerate(grammars) if grammar.symbol(word)] or [0]
        for n in mine:
            good, problems = check_symbols(word, grammars[n])
            if problems:
                raise BadQuestion(problems[0])
            wanted.setdefault(n, set()).update(good)
    return {n: frozenset(good) for n, good in wanted.items()}


def _kept(path: Path | None) -> str:
    if path is None:
        return ""
    with translated(), contextlib.suppress(FileNotFoundError):
        return read_named(path, _MAX_CURSOR_BYTES).decode("ascii", "replace").strip()
    return ""
