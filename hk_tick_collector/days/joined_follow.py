"""Several data roots of one market followed as one: each trade once, whoever stored it first.

A reader stands at a position in each data root (``JoinedPosition``), and by that alone it is decided what it is given:
a row of one root is new unless another one has the trade at or before the position there. Nothing is held back to wait
for the other recorder, nothing is remembered between two reads, and a reader that was cut off goes on from its
positions without loss or repeat.

::

    with JoinedFollower([Follower(a), Follower(b)], HK) as follower:
        batch = follower.read_behind(JoinedPosition((Position(), Position())))

What is one trade is the rule of ``days.twins``: one sequence, else what the store goes by (``store.copying``). Two
roots that tell a symbol differently are found by the same comparison, of its newest LOOKED_AT rows: when a symbol is
met for the first time, and whenever one root has passed a row that the other one has. Then the one listed first alone
is followed for that symbol and day (``Batch.told`` names both), since who is believed more may change with each minute.

Order: within a read rows stand in the order in which they were stored, and those of a symbol in that of their
sequences. A tick that one root lacks comes when the other one has stored it, as a repaired one does. While a root that
was away is read up to the present, the others' newest rows come behind its own.

A root that cannot be read holds up nobody. What the others store meanwhile cannot be held against it, so readers are
told to drop by its key what they have.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from heapq import merge
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreError, StoreUnavailable
from hk_tick_collector.market.market import Market
from hk_tick_collector.records.tick import same_moment
from hk_tick_collector.store.connect import ROW_COLUMNS
from hk_tick_collector.store.copying import without_a_row
from hk_tick_collector.store.follow import LIMIT_ROWS, Batch, Follower
from hk_tick_collector.store.layout import TICKS
from hk_tick_collector.store.neighbours import rows_in
from hk_tick_collector.store.position import ROW, JoinedPosition, Place, Position, PositionLost, Row
from hk_tick_collector.store.rows import content_of

if TYPE_CHECKING:
    import pyarrow as pa

    from hk_tick_collector.store.snapshot_follow import SnapshotRows

LOOKED_AT = 64
RETRY_SEC = 0.5
MAX_KNOWN_SYMBOLS = 100_000
_WHOLE = 1 << 62  # behind all rows of a file
_KNOWN_DAYS = 8  # that were left, of each data root
_SYMBOL, _TS_MS, _SEQ = (ROW.index(name) for name in ("symbol", "ts_ms", "seq"))
_STORED_MS = ROW.index("inserted_at_ms")
_CONTENT = ("price", "volume", "turnover", "direction", "tick_type")
_content = tuple(ROW.index(name) for name in _CONTENT)
_BY_SEQ = f"SELECT rowid, ts_ms, {', '.join(_CONTENT)} FROM ticks WHERE symbol = ? AND seq = ?"  # noqa: S608 - our names
_TOP = "SELECT seq FROM ticks WHERE symbol = ? AND seq IS NOT NULL ORDER BY seq DESC LIMIT 1"
_LOOSE = "SELECT 1 FROM ticks WHERE symbol = ? AND seq IS NULL LIMIT 1"
_DISTRUST = "SELECT distrust FROM coverage WHERE symbol = ?"
_LOOKED = ("ts_ms", "seq", *_CONTENT)
_NEWEST = (
    f"SELECT {', '.join(_LOOKED)} FROM ticks WHERE symbol = ? AND seq IS NOT NULL AND seq <= ? AND rowid <= ? "  # noqa: S608
    f"ORDER BY seq DESC LIMIT {LOOKED_AT}"
)


class JoinedBatch(NamedTuple):
    """Rows of one day, none of them given before, and the position behind them.

    ``rows`` may be none where all were. ``is_full``: there are more. ``read_rows``: how many each data root had.
    ``told``: messages for readers, of the live channel's form. ``held``: the numbers of data roots that cannot be read.
    """

    day: str  # YYYYMMDD
    rows: list[Row]
    position: JoinedPosition
    is_full: bool = False
    read_rows: tuple[int, ...] = ()
    told: tuple[dict[str, Any], ...] = ()
    held: tuple[int, ...] = ()


class _Side:
    """A data root as it is followed."""

    def __init__(self, number: int, follower: Follower | SnapshotRows) -> None:
        self.number, self.follower = number, follower
        self.error: StoreError | None = None
        self.retry_at_sec = float("-inf")
        self.was_told = False  # that it cannot be read
        self._tops_of: Place | None = None
        self._tops: dict[str, tuple[int, bool]] = {}
        self._whole: dict[str, bool] = {}

    def was_given(self, part: Position, day: str) -> Place:
        """Up to where in a day's file a reader that stands there was given its rows. Raises as ``look_into``.

        Of a day that was left: all, unless the file is damaged. Then it was left in the middle, and what is behind the
        damage may be in the other files.
        """
        if day > part.left:
            return next((place for place in part.places if place.day == day), Place(day))
        if day not in self._whole:
            if len(self._whole) >= _KNOWN_DAYS:
                self._whole.clear()
            self._whole[day] = self._is_whole(day)
        return Place(day, _WHOLE if self._whole[day] else 0)

    def _is_whole(self, day: str) -> bool:
        try:
            with self.follower.look_into(day) as conn:
                return conn is None or conn.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
        except StoreCorrupt:
            return False

    def tops(self, place: Place) -> dict[str, tuple[int, bool]]:
        """By symbol: no sequence up to that place is higher, and whether any row is without one. Of that place alone:
        the same number may be another row in the next file of the day."""
        if self._tops_of != place:
            self._tops_of, self._tops = place, {}
        return self._tops


class JoinedFollower:
    """As ``Follower``, of several data roots. ``numbers``: what messages call each of them, by default 0, 1 ..."""

    kind: ClassVar[str] = TICKS

    def __init__(
        self,
        followers: Sequence[Follower | SnapshotRows],
        market: Market,
        *,
        numbers: Sequence[int] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sides = [
            _Side(n, follower) for n, follower in zip(numbers or range(len(followers)), followers, strict=True)
        ]
        self._market = market
        self._monotonic = monotonic
        self._met: set[tuple[str, str, int, int]] = set()  # day, symbol and two sides that were held against each other
        self._apart: dict[tuple[str, str], set[int]] = {}  # places of the sides that are left out
        self._told: list[dict[str, Any]] = []
        self._held: tuple[int, ...] = ()

    def __enter__(self) -> JoinedFollower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for side in self._sides:
            side.follower.close()

    def end(self, back_rows: int = 0) -> JoinedPosition:
        """Behind the newest rows of each data root, less its last ``back_rows``. One that cannot be read is begun with
        the newest day of the others; StoreError when none can."""
        ends: dict[int, Position] = {}
        error: StoreError | None = None
        for n, side in enumerate(self._sides):
            try:
                ends[n] = side.follower.end(back_rows)
            except StoreError as exc:
                error = exc
        if error is not None and not ends:
            raise error
        newest = max((part.newest_day for part in ends.values()), default="")
        other = Position.at_start_of(newest, self.kind) if newest else Position(kind=self.kind)
        return JoinedPosition(tuple(ends.get(n, other) for n in range(len(self._sides))))

    def read_behind(self, position: JoinedPosition, limit_rows: int = LIMIT_ROWS) -> JoinedBatch | None:
        """The next rows, at most ``limit_rows`` of each data root and of one day; None when there are none now.

        Raises as ``Follower.read_behind``, PositionLost for one data root with the others as they were, and the errors
        of reading when no data root can be read.
        """
        batches = self._read(position, limit_rows)
        held = tuple(side.number for side in self._sides if side.error is not None)
        if not batches:
            if held == self._held:
                return None
            self._held = held
            return JoinedBatch("", [], position, held=held)
        self._held = held
        day = min(batch.day for batch in batches.values())
        batches = self._up_to_one_moment(
            position, {n: batch for n, batch in batches.items() if batch.day == day}, limit_rows
        )
        parts, fresh = list(position.of), dict[int, list[Row]]()
        for n, batch in batches.items():
            fresh[n] = self._new(n, batch, parts)
            parts[n] = batch.position
        told, self._told = self._told, []
        return JoinedBatch(
            day,
            self._in_order(fresh),
            JoinedPosition(tuple(parts)),
            any(self._is_full(batch, limit_rows) for batch in batches.values()),
            tuple(len(batches[n].rows) if n in batches else 0 for n in range(len(self._sides))),
            tuple(told),
            held,
        )

    def contradicting(self, day: str) -> set[str]:
        """The symbols of a day that were found to be told differently."""
        return {symbol for told, symbol in self._apart if told == day}

    # Reading

    def _read(self, position: JoinedPosition, limit_rows: int) -> dict[int, Batch]:
        batches: dict[int, Batch] = {}
        for n, side in enumerate(self._sides):
            if side.error is not None and self._monotonic() < side.retry_at_sec:
                continue
            try:
                batch = side.follower.read_behind(position.of[n], limit_rows)
            except PositionLost as exc:
                raise type(exc)(str(exc), exc.day, position.moved(n, exc.onward_here)) from exc
            except (StoreBusy, StoreUnavailable, StoreCorrupt) as exc:
                self._fails(side, exc)
                continue
            side.error, side.was_told = None, False
            if batch is not None:
                batches[n] = batch
        errors = [side.error for side in self._sides if side.error is not None]
        if len(errors) == len(self._sides):
            raise errors[0]
        return batches

    def _fails(self, side: _Side, error: StoreError) -> None:
        side.error, side.retry_at_sec = error, self._monotonic() + RETRY_SEC

    def _up_to_one_moment(
        self, position: JoinedPosition, batches: dict[int, Batch], limit_rows: int
    ) -> dict[int, Batch]:
        """What was stored up to the moment that each of them was read to: else one that is far behind would come after
        what another one has stored later. A clock that was set back gives late rows early times, so the moment is that
        of a batch's latest row: one batch at least is kept whole, and reading goes on."""
        ends = [max(map(self._stored_ms, batch.rows)) for batch in batches.values() if self._is_full(batch, limit_rows)]
        if not ends or len(batches) == 1:
            return batches
        cut: dict[int, Batch] = {}
        for n, batch in batches.items():
            keep = next((at for at, row in enumerate(batch.rows) if self._stored_ms(row) > min(ends)), len(batch.rows))
            if keep == len(batch.rows):
                cut[n] = batch
            elif keep:
                shorter = self._sides[n].follower.read_behind(position.of[n], keep)
                if shorter is not None and shorter.day == batch.day:
                    cut[n] = shorter
        return cut

    def _is_full(self, batch: Batch, limit_rows: int) -> bool:
        """May there be more behind it?"""
        return len(batch.rows) >= limit_rows

    def _stored_ms(self, row: Row) -> int:
        return int(row[_STORED_MS] or 0)

    def _in_order(self, fresh: dict[int, list[Row]]) -> list[Row]:
        """The new rows of all data roots as one list: by when they were stored, a symbol's by sequence."""
        lists = [rows for rows in fresh.values() if rows]
        if len(lists) < 2:
            return lists[0] if lists else []
        merged = list(merge(*lists, key=self._stored_ms))
        several = [name for name, roots in _roots_of(lists).items() if roots > 1]
        for symbol in several:
            places = [at for at, row in enumerate(merged) if row[_SYMBOL] == symbol]
            sides = [[row for row in rows if row[_SYMBOL] == symbol] for rows in lists]
            if all(row[_SEQ] is not None for side in sides for row in side):
                for at, row in zip(places, merge(*sides, key=lambda row: row[_SEQ]), strict=True):
                    merged[at] = row
        return merged

    # Which rows are new

    def _new(self, n: int, batch: Batch, parts: Sequence[Position]) -> list[Row]:
        """Those rows of a data root that none of the others has up to where it was read."""
        rows = batch.rows
        for other in range(len(self._sides)):
            if other == n or not rows:
                continue
            try:
                place = self._sides[other].was_given(parts[other], batch.day)
                rows = self._not_known(rows, (n, other), batch, place) if place.rowid else rows
            except (StoreBusy, StoreUnavailable, StoreCorrupt) as exc:
                side = self._sides[other]
                self._fails(side, exc)
                if not side.was_told:
                    side.was_told = True
                    self._told.append(
                        {"type": "reset", "reason": "root_unreadable", "day": batch.day, "root": side.number}
                    )
        return [row for row in rows if n not in self._apart.get((batch.day, row[_SYMBOL]), ())] if self._apart else rows

    def _not_known(self, rows: list[Row], pair: tuple[int, int], batch: Batch, place: Place) -> list[Row]:
        """Those of the first side's rows that the other one has not up to a place in its file."""
        return _Against(self, pair, batch, place).new(rows)

    def side(self, n: int) -> _Side:
        """For ``_Against``."""
        return self._sides[n]

    @property
    def market(self) -> Market:
        """Whose days these are."""
        return self._market

    def meets(self, day: str, symbol: str, pair: tuple[int, int]) -> bool:
        """Is it the first time that these two are held against each other?"""
        key = (day, symbol, min(pair), max(pair))
        if key in self._met:
            return False
        if len(self._met) >= MAX_KNOWN_SYMBOLS:
            self._met.clear()
        self._met.add(key)
        return True

    def contradict(self, day: str, symbol: str, pair: tuple[int, int], ticks: int) -> None:
        """These two tell a symbol differently: from here on the one listed first is followed alone."""
        kept, left_out = sorted(pair)
        apart = self._apart.setdefault((day, symbol), set())
        if left_out in apart or kept in apart:
            return
        for old in [key for key in self._apart if key[0] < day and len(self._apart) > MAX_KNOWN_SYMBOLS]:
            del self._apart[old]
        apart.add(left_out)
        numbers = self._sides[kept].number, self._sides[left_out].number
        told = {"symbol": symbol, "kept": numbers[0], "left_out": numbers[1], "ticks": ticks}
        self._told.append({"type": "contradiction", "day": day, **told})

    def is_apart(self, day: str, symbol: str, pair: tuple[int, int]) -> bool:
        """Is one of these two left out?"""
        return bool(self._apart.get((day, symbol), set()) & set(pair))


class _Against:
    """Rows of one data root held against another one's file, up to a place there."""

    def __init__(self, joined: JoinedFollower, pair: tuple[int, int], batch: Batch, place: Place) -> None:
        self._joined, self._pair, self._day = joined, pair, batch.day
        self._place, self._bound = place, place.rowid
        self._mine, self._theirs = joined.side(pair[0]), joined.side(pair[1])
        self._last_rowid = batch.rows[-1][0]
        self._held = ExitStack()  # connections, for as long as rows are held against each other
        self._my_conn: sqlite3.Connection | None = None

    def new(self, rows: list[Row]) -> list[Row]:
        """Those that it has not. StoreError when it cannot be looked into."""
        tops = self._theirs.tops(self._place)
        by_symbol: dict[str, list[Row]] = {}
        for row in rows:
            by_symbol.setdefault(row[_SYMBOL], []).append(row)
        unsure = {symbol for symbol, mine in by_symbol.items() if not _are_above(mine, tops.get(symbol))}
        if not unsure:
            return rows
        known: set[int] = set()
        with self._held as held:
            conn = held.enter_context(self._theirs.follower.look_into(self._day))
            if conn is None:
                return rows
            for symbol in sorted(unsure):
                if symbol not in tops:
                    top = conn.execute(_TOP, (symbol,)).fetchone()
                    tops[symbol] = (top[0] if top else -1, conn.execute(_LOOSE, (symbol,)).fetchone() is not None)
                known |= self._known(conn, symbol, by_symbol[symbol], tops[symbol])
        return [row for row in rows if row[0] not in known] if known else rows

    def _known(self, conn: sqlite3.Connection, symbol: str, rows: Sequence[Row], top: tuple[int, bool]) -> set[int]:
        """The rowids of those that it has."""
        top_seq, has_loose = top
        if (top_seq < 0 and not has_loose) or self._joined.is_apart(self._day, symbol, self._pair):
            return set()
        if self._joined.meets(self._day, symbol, self._pair):
            self._look(conn, symbol, max((row[_SEQ] or 0 for row in rows), default=0) or _WHOLE)
        known, unfound = self._known_by_sequence(conn, symbol, rows, top_seq)
        loose = unfound if has_loose else [row for row in unfound if row[_SEQ] is None]
        if loose:
            known |= self._known_by_content(conn, symbol, loose)
        # What is left out was not given, so it takes nothing from the one that is followed.
        return set() if self._joined.is_apart(self._day, symbol, self._pair) else known

    def _known_by_sequence(
        self, conn: sqlite3.Connection, symbol: str, rows: Sequence[Row], top_seq: int
    ) -> tuple[set[int], list[Row]]:
        """The rowids of those whose sequence it has, and the rows whose sequence it has nowhere."""
        known: set[int] = set()
        unfound: list[Row] = []
        for row in rows:
            seq = row[_SEQ]
            is_passed = seq is not None and seq <= top_seq
            stored_row = conn.execute(_BY_SEQ, (symbol, seq)).fetchone() if is_passed else None
            if stored_row is None:
                unfound.append(row)
                if is_passed:
                    self._look(conn, symbol, seq)
            elif stored_row[0] <= self._bound:
                known.add(row[0])
                if not _is_same_trade(row, stored_row):
                    self._joined.contradict(self._day, symbol, self._pair, 1)
        return known, unfound

    def _known_by_content(self, conn: sqlite3.Connection, symbol: str, rows: Sequence[Row]) -> set[int]:
        """Those that find a row of their own there, of equal content, that none before them has found."""
        my_conn = self._my_file()
        if my_conn is None:
            return set()
        known: set[int] = set()
        for second in sorted({row[_TS_MS] // 1000 for row in rows}):
            mine = _stored(my_conn, symbol, second, self._last_rowid, self._joined.market)
            theirs = _stored(conn, symbol, second, self._bound, self._joined.market)
            for row in rows:
                if row[_TS_MS] // 1000 == second and not _is_lacking(row, mine, theirs):
                    known.add(row[0])
        return known

    def _my_file(self) -> sqlite3.Connection | None:
        if self._my_conn is None:
            self._my_conn = self._held.enter_context(self._mine.follower.look_into(self._day))
        return self._my_conn

    def _look(self, conn: sqlite3.Connection, symbol: str, seq: int) -> None:
        """Hold the newest rows of both up to a sequence against each other."""
        if self._joined.is_apart(self._day, symbol, self._pair):
            return
        my_conn = self._my_file()
        if my_conn is None:
            return
        mine = my_conn.execute(_NEWEST, (symbol, seq, self._last_rowid)).fetchall()
        theirs = conn.execute(_NEWEST, (symbol, seq, self._bound)).fetchall()
        if not mine or not theirs:
            return
        since = max(mine[-1][1] if len(mine) == LOOKED_AT else 0, theirs[-1][1] if len(theirs) == LOOKED_AT else 0)
        mine, theirs = ([row for row in side if row[1] >= since] for side in (mine, theirs))
        if mine == theirs:
            return
        counts = all(_counts(side_conn, symbol) for side_conn in (my_conn, conn))
        from hk_tick_collector.days import twins  # noqa: PLC0415 - Arrow takes its time, and is rarely needed

        told = twins.compare(_table(symbol, mine), _table(symbol, theirs), counts=counts)
        if told.contradicts:
            self._joined.contradict(self._day, symbol, self._pair, told.otherwise + told.renumbered)


def _are_above(rows: Sequence[Row], top: tuple[int, bool] | None) -> bool:
    return top is not None and not top[1] and all(row[_SEQ] is not None and row[_SEQ] > top[0] for row in rows)


def _is_same_trade(row: Row, stored_row: Sequence[Any]) -> bool:
    """As ``twins`` has it."""
    return same_moment(row[_TS_MS], stored_row[1]) and tuple(row[at] for at in _content) == tuple(stored_row[2:])


def _stored(conn: sqlite3.Connection, symbol: str, second: int, bound: int, market: Market) -> list[Row]:
    """The rows of a second as ``store.copying`` has them, each with its rowid behind it, up to one rowid."""
    stored = []
    for rowid, *values in rows_in(conn, symbol, second, second, market):
        if rowid <= bound:
            told = dict(zip(("ts_ms", "seq", "occurrence", *_CONTENT), values, strict=True), symbol=symbol)
            stored.append((*(told.get(name) for name in ROW_COLUMNS), rowid))
    return stored


_COPIED_SEQ = ROW_COLUMNS.index("seq")


def _is_lacking(row: Row, mine: Sequence[Row], theirs: Sequence[Row]) -> bool:
    """Is there one trade more of this content with this row than without it?"""
    own = next((held for held in mine if held[-1] == row[0]), None)
    if own is None:
        return True
    alike = content_of(own)
    before = [held for held in mine if held[-1] < row[0] and content_of(held) == alike]
    others = [row for row in theirs if content_of(row) == alike]
    return _lacking(([*before, own]), others) > _lacking(before, others)


def _lacking(rows: Sequence[Row], others: Sequence[Row]) -> int:
    shared = {row[_COPIED_SEQ] for row in rows} & {row[_COPIED_SEQ] for row in others} - {None}
    left, others_left = ([row for row in side if row[_COPIED_SEQ] not in shared] for side in (rows, others))
    return len(without_a_row(left, others_left))


def _counts(conn: sqlite3.Connection, symbol: str) -> bool:
    row = conn.execute(_DISTRUST, (symbol,)).fetchone()
    return row is not None and row[0] is None


def _table(symbol: str, rows: Sequence[Row]) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415

    from hk_tick_collector.days import twins  # noqa: PLC0415

    told: dict[str, list[Any]] = {name: [row[at] for row in rows] for at, name in enumerate(_LOOKED)}
    told.update(symbol=[symbol] * len(rows), occurrence=[0] * len(rows), recv_ts_ms=[0] * len(rows))
    kinds = {
        "price": pa.float64(),
        "turnover": pa.float64(),
        "direction": pa.string(),
        "tick_type": pa.string(),
        "symbol": pa.string(),
    }
    return pa.table({name: pa.array(told[name], kinds.get(name, pa.int64())) for name in twins.COLUMNS})


def _roots_of(lists: Sequence[Sequence[Row]]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for rows in lists:
        for symbol in {row[_SYMBOL] for row in rows}:
            counted[symbol] = counted.get(symbol, 0) + 1
    return counted
