"""Snapshots of several data roots followed as one: each snapshot once, whoever stored it first.

By the rules of ``joined_follow``, and simpler than ticks: a snapshot is the same where series, second and what it says
are, and two that differ are two, as in one file. Each data root is read to its share of what a reader may hold at once.

::

    with joined_snapshots([a, b]) as follower:
        batch = follower.read_behind(JoinedPosition((Position(kind=SNAPSHOTS),) * 2))
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from heapq import merge
from pathlib import Path
from typing import ClassVar

from hk_tick_collector.days.joined_follow import JoinedFollower
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.store import data_root
from hk_tick_collector.store.follow import Batch
from hk_tick_collector.store.layout import SNAPSHOTS
from hk_tick_collector.store.position import Place, Row
from hk_tick_collector.store.snapshot_follow import BODY, COLUMNS, MAX_BATCH_BYTES, MAX_BATCH_ROWS, SERIES, SnapshotRows

_TS_SEC, _RECV_MS = (1 + COLUMNS.index(name) for name in ("ts_sec", "recv_ts_ms"))
_DIGEST = "SELECT digest FROM snapshots WHERE rowid = ?"
_SAME = (
    "SELECT 1 FROM snapshots AS n JOIN series AS s USING (series_id) "
    "WHERE s.symbol = ? AND s.package = ? AND s.category = ? AND n.ts_sec = ? AND n.digest = ? AND n.rowid <= ?"
)


class JoinedSnapshots(JoinedFollower):
    """``JoinedFollower`` of ``SnapshotRows``. Of a second that two data roots tell differently both snapshots come."""

    kind: ClassVar[str] = SNAPSHOTS

    def _is_full(self, batch: Batch, limit_rows: int) -> bool:
        max_bytes = min(side.follower.max_bytes for side in self._sides if isinstance(side.follower, SnapshotRows))
        is_full = super()._is_full(batch, min(limit_rows, MAX_BATCH_ROWS))
        return is_full or sum(len(row[BODY]) for row in batch.rows) >= max_bytes

    def _stored_ms(self, row: Row) -> int:
        return int(row[_RECV_MS])

    def _in_order(self, fresh: dict[int, list[Row]]) -> list[Row]:
        return list(merge(*fresh.values(), key=self._stored_ms))

    def _not_known(self, rows: list[Row], pair: tuple[int, int], batch: Batch, place: Place) -> list[Row]:
        with ExitStack() as held:
            mine, theirs = (held.enter_context(self._sides[n].follower.look_into(batch.day)) for n in pair)
            if mine is None or theirs is None:
                return rows
            return [row for row in rows if not _is_there(row, mine, theirs, place.rowid)]


def joined_snapshots(
    roots: Sequence[Path], was_end: Sequence[Callable[[Place], bool] | None] | None = None
) -> JoinedSnapshots:
    """Of these data roots, which are of one market. ``was_end``: of each, as of ``Follower``."""
    max_bytes = MAX_BATCH_BYTES // len(roots)
    asked = was_end or [None] * len(roots)
    followers = [
        SnapshotRows(root, was_end=ended, max_bytes=max_bytes) for root, ended in zip(roots, asked, strict=True)
    ]
    return JoinedSnapshots(followers, market_of(data_root.market_of(roots[0])))


def _is_there(row: Row, mine: sqlite3.Connection, theirs: sqlite3.Connection, until_no: int) -> bool:
    digest = mine.execute(_DIGEST, (row[0],)).fetchone()
    series = (row[at] for at in SERIES)
    return (
        digest is not None and theirs.execute(_SAME, (*series, row[_TS_SEC], *digest, until_no)).fetchone() is not None
    )
