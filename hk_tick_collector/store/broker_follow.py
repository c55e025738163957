"""Following broker queues (``state_follow.py``)::

    with QueueFollower(root) as follower:
        position = follower.end()                        # or Position.parse(saved, BROKERS.name)
        known = follower.known(position)                 # the queue of each symbol there

``QueueRows`` gives the same as rows of COLUMNS, with the names of brokers, for the live channel and the Python client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hk_tick_collector.records.book import BrokerQueue, Place, RowKind, StoredRow
from hk_tick_collector.records.broker_codec import BrokerDecoder
from hk_tick_collector.store.broker_reader import QueueState, names_of
from hk_tick_collector.store.follow import DAYS_LOOK_SEC
from hk_tick_collector.store.followed import BROKERS
from hk_tick_collector.store.layout import broker_file
from hk_tick_collector.store.position import Place as DayPlace
from hk_tick_collector.store.position import Row
from hk_tick_collector.store.state_follow import Known, StateFollower, StateRows, StatesOfDay

# Of a row as live readers get it. ``bids``, ``asks``: (level, broker_id, broker) by place, first in line first, the
# name None where none was told; None at a break (kind B), from which the queue is not known. ``update_no``: the row's
# number in its day's file.
COLUMNS = ("market", "symbol", "trading_day", "recv_ts_us", "update_no", "kind", "merged", "bids", "asks")

MAX_NAMED_DAYS = 4  # of the last ones that were read; a position is in two at a time

_NamedPlaces = tuple[tuple[int, int, str | None], ...]


class _QueuesOfDay(StatesOfDay[QueueState]):
    changes_us = None

    def __init__(self, day: str) -> None:
        super().__init__(day)
        self._decoder = BrokerDecoder()
        self._numbers: dict[str, int] = {}  # of symbols, for the decoder

    def state(self, row: Row) -> QueueState:
        _, symbol, recv_ts_us, _, _, kind, merged, payload = row
        number = self._numbers.setdefault(symbol, len(self._numbers))
        queue = self._decoder.decode(StoredRow(number, recv_ts_us, None, None, kind, merged, payload))
        return QueueState(symbol, recv_ts_us, RowKind(kind), merged, queue)


class QueueFollower(StateFollower[QueueState]):
    """States of broker queues behind positions."""

    followed, of_day = BROKERS, _QueuesOfDay


class QueueRows(StateRows[QueueState]):
    """Rows of COLUMNS."""

    follower = QueueFollower

    def __init__(
        self,
        root: Path,
        *,
        days_look_sec: float = DAYS_LOOK_SEC,
        was_end: Callable[[DayPlace], bool] | None = None,
        symbols: frozenset[str] | None = None,
    ) -> None:
        super().__init__(root, days_look_sec=days_look_sec, was_end=was_end, symbols=symbols)
        self._names: dict[str, dict[int, str]] = {}  # of brokers, by day

    def _rows(self, known: Sequence[Known[QueueState]]) -> list[Row]:
        for day in sorted({newest.day for newest in known}):
            queues = [newest.state.queue for newest in known if newest.day == day]
            self._learn(day, [queue for queue in queues if queue is not None])
        return [self._row(*newest) for newest in known]

    def _learn(self, day: str, queues: Sequence[BrokerQueue]) -> None:
        """The names of those brokers: they are in the file before the queue is."""
        met = {broker_id for queue in queues for _, broker_id in (*queue.bids, *queue.asks)}
        names = self._names.pop(day, {})  # and put back as the newest: readers may stand in any number of days
        if not met <= names.keys():
            names = names_of(broker_file(self._root, day))
        self._names[day] = names
        while len(self._names) > MAX_NAMED_DAYS:
            del self._names[next(iter(self._names))]

    def _row(self, day: str, number: int, state: QueueState) -> Row:
        queue, names = state.queue, self._names.get(day, {})
        return (
            number, self._market, state.symbol, day, state.recv_ts_us, number, state.kind.value, state.merged,
            None if queue is None else _named(queue.bids, names), None if queue is None else _named(queue.asks, names),
        )  # fmt: skip


def _named(places: Sequence[Place], names: dict[int, str]) -> _NamedPlaces:
    return tuple([(level, broker_id, names.get(broker_id)) for level, broker_id in places])
