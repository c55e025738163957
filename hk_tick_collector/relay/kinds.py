"""The kinds of record that are relayed: what follows their files, how much of them goes at once, and what of them
stands where in Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from hk_tick_collector.relay.settings import RelaySettings
from hk_tick_collector.store import snapshot_follow
from hk_tick_collector.store.layout import SNAPSHOTS, TICKS
from hk_tick_collector.store.position import ROW, Row


class Keys(NamedTuple):
    """Names in Redis, as the settings have them. ``last`` and ``channel``: "" for none."""

    stream: str
    current: str
    last: str
    channel: str
    max_frames: int
    keep_days: int


@dataclass(frozen=True)
class Relayed:
    """One kind. A row is what its follower gives: a number, then ``columns``.

    ``word``: the field of an entry that holds its rows. ``frame_rows``: most rows of a frame; ``max_frames``: most
    frames that are in memory at once. ``names``: what may stand in braces in a key of one row, by its column.
    ``order``: two columns of whole numbers by which the newest row of a key is told. ``as_text``: columns that JSON
    readers must not take for numbers.
    """

    kind: str
    word: str
    columns: tuple[str, ...]
    frame_rows: int
    max_frames: int
    keys: Callable[[RelaySettings], Keys]
    names: tuple[str, ...]
    order: tuple[str, str]
    when_ms: Callable[[Row], int]
    setting: str  # that names its stream
    as_text: frozenset[str] = frozenset()
    beside: Callable[[dict[str, object]], dict[str, object]] = lambda message: message

    def place(self, name: str) -> int:
        """Of a column, in a row."""
        return 1 + self.columns.index(name)

    def order_of(self, row: Row) -> tuple[int, int]:
        """Of two rows of a key the newer one has the greater."""
        first, second = (int(row[self.place(name)] or 0) for name in self.order)
        return first, second

    def key_of(self, pattern: str, row: Row) -> str:
        """A key or a channel of this row."""
        for name in self.names:
            pattern = pattern.replace(f"{{{name}}}", str(row[self.place(name)]))
        return pattern

    def wire(self, row: Row) -> list[Any]:
        """A row's values without its number."""
        return [
            str(value) if name in self.as_text and value is not None else value
            for name, value in zip(self.columns, row[1:], strict=True)
        ]

    def message(self, row: Row) -> dict[str, object]:
        """A row as it is published."""
        return self.beside(dict(zip(self.columns, self.wire(row), strict=True)))

    def newest_ms(self, rows: Sequence[Row]) -> int:
        """By event time, UTC epoch ms."""
        return max(map(self.when_ms, rows))


def _tick_keys(settings: RelaySettings) -> Keys:
    return Keys(
        settings.redis_stream, settings.redis_current, settings.redis_last, settings.redis_channel,
        settings.redis_max_frames, settings.redis_keep_days,
    )  # fmt: skip


def _snapshot_keys(settings: RelaySettings) -> Keys:
    return Keys(
        settings.redis_snapshots, settings.redis_snapshots_current, settings.redis_snapshots_last,
        settings.redis_snapshots_channel, settings.redis_snapshot_frames, settings.redis_keep_days,
    )  # fmt: skip


def _as_other_feeds(message: dict[str, Any]) -> dict[str, object]:
    """With ``size`` and ``timestamp``, as other feeds name them."""
    moment = datetime.fromtimestamp(message["ts_ms"] / 1000, tz=UTC)
    return {**message, "size": message["volume"], "timestamp": moment.isoformat(timespec="milliseconds")}


_TS_MS = ROW.index("ts_ms")
_TS_SEC = 1 + snapshot_follow.COLUMNS.index("ts_sec")

TICK_RELAY = Relayed(
    TICKS, "ticks", ROW[1:], 100, 50, _tick_keys, ("symbol",), ("ts_ms", "seq"), lambda row: int(row[_TS_MS]),
    "REDIS_STREAM", frozenset({"seq"}), _as_other_feeds,
)  # fmt: skip
# A body has some 100 kB (8 MB at most), and the follower gives 4 MB of them at a time, of all data roots together, and
# one body more of each.
SNAPSHOT_RELAY = Relayed(
    SNAPSHOTS, "snapshots", snapshot_follow.COLUMNS, 100, 4, _snapshot_keys, ("symbol", "package", "category"),
    ("ts_sec", "snapshot_no"), lambda row: int(row[_TS_SEC]) * 1000,
    "REDIS_SNAPSHOTS",
)  # fmt: skip
