"""Following snapshots: the rows that ``follow.py`` gives of them with their bodies unpacked, for the live channel and
the Python client. A row stands by itself, so nothing has to be read back before one can begin.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hk_tick_collector.market.registry import market_of
from hk_tick_collector.store import data_root
from hk_tick_collector.store.follow import DAYS_LOOK_SEC, LIMIT_ROWS, Batch, Follower
from hk_tick_collector.store.followed import SNAPSHOTS
from hk_tick_collector.store.layout import snapshot_file
from hk_tick_collector.store.position import Place, Position, Row
from hk_tick_collector.store.snapshot_reader import unpacked

# Of a row as live readers get it. ``body``: the JSON object as it came, as text. ``snapshot_no``: the row's number in
# its day's file.
COLUMNS = (
    "market", "symbol", "trading_day", "snapshot_no", "package", "category", "ts_sec", "recv_ts_ms", "origin", "spot",
    "zero_gamma", "body",
)  # fmt: skip
BODY = 1 + COLUMNS.index("body")  # in a row, behind its rowid
SERIES = tuple(1 + COLUMNS.index(name) for name in ("symbol", "package", "category"))
MAX_BATCH_BYTES = 4 * 1024 * 1024  # of bodies, so that large snapshots come in smaller batches
MAX_BATCH_ROWS = 100  # that are read, packed as they are, before their bodies are looked at


def stored_row(row: Row, path: Path) -> Row:
    """A row that ``Follower`` gives, as ``snapshot_reader.stored_rows`` has it: its number behind what it says, its
    second in UTC ms, its body as it came. StoreCorrupt for a body that cannot be unpacked."""
    number, symbol, package, category, ts_sec, recv_ts_ms, origin, spot, zero_gamma, digest, body = row
    text = unpacked(body, path).encode()
    return symbol, package, category, ts_sec * 1000, recv_ts_ms, origin, spot, zero_gamma, number, digest, text


class SnapshotRows:
    """``Follower`` with rows of COLUMNS behind the rowid; at a time MAX_BATCH_ROWS, and bodies of no more than
    ``max_bytes`` and one body."""

    def __init__(
        self,
        root: Path,
        *,
        days_look_sec: float = DAYS_LOOK_SEC,
        was_end: Callable[[Place], bool] | None = None,
        symbols: frozenset[str] | None = None,
        max_bytes: int = MAX_BATCH_BYTES,
    ) -> None:
        """``was_end``: as of ``Follower``. ``symbols``: of these alone; a batch may then have no row."""
        self._root, self._symbols, self.max_bytes = root, symbols, max_bytes
        self._follower = Follower(root, kind=SNAPSHOTS, days_look_sec=days_look_sec, was_end=was_end)
        self._market = market_of(data_root.market_of(root)).code
        self.close, self.end, self.look_into = self._follower.close, self._follower.end, self._follower.look_into

    def read_behind(self, position: Position, limit_rows: int = LIMIT_ROWS) -> Batch | None:
        """As ``Follower.read_behind``; StoreCorrupt, too, for a body that cannot be unpacked."""
        piece = self.piece(position, limit_rows, self._symbols)
        return None if piece is None else piece[0]

    def piece(self, position: Position, limit_rows: int, symbols: frozenset[str] | None) -> tuple[Batch, bool] | None:
        """The same of these symbols, and whether there may be more behind it."""
        limit_rows = min(limit_rows, MAX_BATCH_ROWS)
        batch = self._follower.read_behind(position, limit_rows)
        if batch is None:
            return None
        path = snapshot_file(self._root, batch.day)
        rows: list[Row] = []
        body_bytes = 0
        for number, row in enumerate(batch.rows, 1):
            if symbols is None or row[1] in symbols:
                rows.append(self._row(row, batch.day, path))
                body_bytes += len(rows[-1][BODY])
            if body_bytes >= self.max_bytes and number < len(batch.rows):
                return self.piece(position, number, symbols)
        return Batch(batch.day, rows, batch.position), len(batch.rows) >= limit_rows

    def _row(self, row: Row, day: str, path: Path) -> Row:
        number, symbol, package, category, ts_sec, recv_ts_ms, origin, spot, zero_gamma, _, body = row
        return (
            number, self._market, symbol, day, number, package, category, ts_sec, recv_ts_ms, origin, spot, zero_gamma,
            unpacked(body, path),
        )  # fmt: skip
