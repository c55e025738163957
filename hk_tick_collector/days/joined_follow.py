"""Several data roots of one market followed as one: each trade once, whoever stored it first.

A reader stands at a position in each data root (``JoinedPosition``), and by that alone it is decided what it is given:
a row of one root is new unless another one has the trade at or before the position there. Nothing is held back to wait
for the other recorder, nothing is remembered between two reads, and a reader that was cut off goes on from its
positions without loss or repeat.

::

    with JoinedFollower([Follower(a), Follower(b)], HK) as follower:
        batch = follower.read_behind(JoinedPosition((Position(), Position())))

What is one trade is the rule of ``days.twins``: one sequence, else what the store goes by (``store.copying``);
``days.held_against`` finds it in the other's file. Where two roots tell a symbol differently, the one listed first
alone is followed for that symbol and day (``JoinedBatch.told`` names both), since who is believed more may change with
each minute.

Order: within a read rows stand in the order in which they were stored, and those of a symbol in that of their
sequences. A tick that one root lacks comes when the other one has stored it, as a repaired one does. While a root that
was away is read up to the present, the others' newest rows come behind its own.

A root that cannot be read holds up nobody. What the others store meanwhile cannot be held against it, so readers are
told to drop by its key what they have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from heapq import merge
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreError, StoreUnavailable
from hk_tick_collector.days.held_against import Against, Disagreements, Side
from hk_tick_collector.market.market import Market
from hk_tick_collector.store.follow import LIMIT_ROWS, Batch, Follower
from hk_tick_collector.store.layout import TICKS
from hk_tick_collector.store.position import ROW, JoinedPosition, Place, Position, PositionLost, Row

if TYPE_CHECKING:
    from hk_tick_collector.store.snapshot_follow import SnapshotRows

RETRY_SEC = 0.5
_SYMBOL, _SEQ = ROW.index("symbol"), ROW.index("seq")
_STORED_MS = ROW.index("inserted_at_ms")


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
            Side(n, follower) for n, follower in zip(numbers or range(len(followers)), followers, strict=True)
        ]
        self._market = market
        self._monotonic = monotonic
        self._told: list[dict[str, Any]] = []
        self._disagreements = Disagreements([side.number for side in self._sides], self._told.append)
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
        told = tuple(self._told)
        self._told.clear()
        return JoinedBatch(
            day,
            self._in_order(fresh),
            JoinedPosition(tuple(parts)),
            any(self._is_full(batch, limit_rows) for batch in batches.values()),
            tuple(len(batches[n].rows) if n in batches else 0 for n in range(len(self._sides))),
            told,
            held,
        )

    def contradicting(self, day: str) -> set[str]:
        """The symbols of a day that were found to be told differently."""
        return self._disagreements.contradicting(day)

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

    def _fails(self, side: Side, error: StoreError) -> None:
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
        return self._disagreements.followed(n, batch.day, rows)

    def _not_known(self, rows: list[Row], pair: tuple[int, int], batch: Batch, place: Place) -> list[Row]:
        """Those of the first side's rows that the other one has not up to a place in its file."""
        return Against(self._sides, pair, batch, place, self._disagreements, self._market).new(rows)


def _roots_of(lists: Sequence[Sequence[Row]]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for rows in lists:
        for symbol in {row[_SYMBOL] for row in rows}:
            counted[symbol] = counted.get(symbol, 0) + 1
    return counted
