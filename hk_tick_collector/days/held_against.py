"""What one data root has of another one's rows: each held against the other's file, up to a place there.

A row is known there by its sequence (``days.twins``: the same number and the same trade), else by its content, as many
times as it stands there (``store.copying``). Two roots that tell a symbol differently are found by the same comparison,
of its newest LOOKED_AT rows: when a symbol is met for the first time, and whenever one root has passed a row that the
other one has. ``Disagreements`` keeps who is left out then.

A row in order costs a comparison with the highest sequence that the other one is known to have, in memory; one that may
be there costs an index look-up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from hk_tick_collector.core.errors import StoreCorrupt, StoreError
from hk_tick_collector.market.market import Market
from hk_tick_collector.records.tick import same_moment
from hk_tick_collector.store.connect import ROW_COLUMNS
from hk_tick_collector.store.copying import without_a_row
from hk_tick_collector.store.follow import Batch, Follower
from hk_tick_collector.store.neighbours import rows_in
from hk_tick_collector.store.position import ROW, Place, Position, Row
from hk_tick_collector.store.rows import content_of

if TYPE_CHECKING:
    import pyarrow as pa

    from hk_tick_collector.store.snapshot_follow import SnapshotRows

LOOKED_AT = 64
MAX_KNOWN_SYMBOLS = 100_000
_WHOLE = 1 << 62  # behind all rows of a file
_KNOWN_DAYS = 8  # that were left, of each data root
_SYMBOL, _TS_MS, _SEQ = (ROW.index(name) for name in ("symbol", "ts_ms", "seq"))
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


class Side:
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


class Disagreements:
    """Which data roots were held against each other, symbol by symbol, and who is left out since they told one
    differently: from there on the one listed first is followed alone, for that symbol and day.

    ``numbers``: what messages call each data root; ``tell`` takes the messages, of the live channel's form.
    """

    def __init__(self, numbers: Sequence[int], tell: Callable[[dict[str, Any]], None]) -> None:
        self._numbers, self._tell = numbers, tell
        self._met: set[tuple[str, str, int, int]] = set()  # day, symbol and two sides that were held against each other
        self._apart: dict[tuple[str, str], set[int]] = {}  # places of the sides that are left out

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
        told = {"symbol": symbol, "kept": self._numbers[kept], "left_out": self._numbers[left_out], "ticks": ticks}
        self._tell({"type": "contradiction", "day": day, **told})

    def is_apart(self, day: str, symbol: str, pair: tuple[int, int]) -> bool:
        """Is one of these two left out?"""
        return bool(self._apart.get((day, symbol), set()) & set(pair))

    def followed(self, n: int, day: str, rows: list[Row]) -> list[Row]:
        """Those of a data root's rows for whose symbols it is not left out."""
        return [row for row in rows if n not in self._apart.get((day, row[_SYMBOL]), ())] if self._apart else rows

    def contradicting(self, day: str) -> set[str]:
        """The symbols of a day that were found to be told differently."""
        return {symbol for told, symbol in self._apart if told == day}


class Against:
    """Rows of one data root held against another one's file, up to a place there."""

    def __init__(
        self,
        sides: Sequence[Side],
        pair: tuple[int, int],
        batch: Batch,
        place: Place,
        disagreements: Disagreements,
        market: Market,
    ) -> None:
        self._disagreements, self._market = disagreements, market
        self._pair, self._day = pair, batch.day
        self._place, self._bound = place, place.rowid
        self._mine, self._theirs = sides[pair[0]], sides[pair[1]]
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
        if (top_seq < 0 and not has_loose) or self._disagreements.is_apart(self._day, symbol, self._pair):
            return set()
        if self._disagreements.meets(self._day, symbol, self._pair):
            self._look(conn, symbol, max((row[_SEQ] or 0 for row in rows), default=0) or _WHOLE)
        known, unfound = self._known_by_sequence(conn, symbol, rows, top_seq)
        loose = unfound if has_loose else [row for row in unfound if row[_SEQ] is None]
        if loose:
            known |= self._known_by_content(conn, symbol, loose)
        # What is left out was not given, so it takes nothing from the one that is followed.
        return set() if self._disagreements.is_apart(self._day, symbol, self._pair) else known

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
                    self._disagreements.contradict(self._day, symbol, self._pair, 1)
        return known, unfound

    def _known_by_content(self, conn: sqlite3.Connection, symbol: str, rows: Sequence[Row]) -> set[int]:
        """Those that find a row of their own there, of equal content, that none before them has found."""
        my_conn = self._my_file()
        if my_conn is None:
            return set()
        known: set[int] = set()
        for second in sorted({row[_TS_MS] // 1000 for row in rows}):
            mine = _stored(my_conn, symbol, second, self._last_rowid, self._market)
            theirs = _stored(conn, symbol, second, self._bound, self._market)
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
        if self._disagreements.is_apart(self._day, symbol, self._pair):
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
            self._disagreements.contradict(self._day, symbol, self._pair, told.otherwise + told.renumbered)


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
