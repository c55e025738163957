"""Ticks in Redis: a stream a day whose ids are positions, the last tick of each symbol, channels by choice.

Keys (all can be named otherwise, ``settings.py``)::

    hk:ticks:<day>      stream; id <YYYYMMDD>-<rowid of the frame's last tick>; fields ticks (JSON: arrays), position,
                        and after: the id before this one, or <day>-0. Of several data roots the number counts the rows
                        read of that day in all of them, and told, where it is, has what readers must know (JSON)
    hk:ticks:<day>:<n>  the day again from its start, once its file was replaced (n from 2)
    hk:ticks:current    hash: day -> its stream in use; columns -> the names of a tick's values
    hk:last:<symbol>    hash: the newest tick of a symbol
    hk:snapshots:<day>  the same of snapshots, in a field snapshots; and so hk:snapshots:current, and in hk:snapshot:...
                        the newest one of a series
    hk:signals          stream of the signals that hooks received; id <number>-0

The id is the position. Redis refuses an id that is not greater than the newest one, so a frame whose storing ended in
doubt is stored once. The stream's newest entry is where to go on, and its ``position`` proves whether the day files
still fit; there is no other state. A stream that vanished (FLUSHALL, a restart without its contents) is seen by the
next write, which never makes a stream that had begun (NOMKSTREAM), and the day comes again from its start.

All writes of a call are one transaction: all or none. Needs Redis 6.2. One relay for a stream: a second one finds its
ids taken and says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis's own, which is no OSError
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004
)
from redis.retry import Retry

from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.days.joined_follow import JoinedBatch
from hk_tick_collector.relay.kinds import TICK_RELAY, Relayed
from hk_tick_collector.relay.settings import RelaySettings
from hk_tick_collector.relay.sink import Frame, SinkAway, SinkMoved
from hk_tick_collector.store.position import (
    MAX_PLACES,
    JoinedPosition,
    Place,
    Position,
    Row,
    Stand,
    parse_stand,
    parts_of,
)
from hk_tick_collector.store.signals import Signal

TIMEOUT_SEC = 10.0
COLUMNS = TICK_RELAY.columns
_COLUMNS_FIELD = "columns"
_SMALLER = "equal or smaller"
_IN_PIPELINE = "of pipeline caused error: "  # redis-py puts the command in front, whose values are no help


def address_of(url: str) -> str:
    """A Redis address without user and password, for texts."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def connect(settings: RelaySettings) -> redis.Redis:
    """A client that has not connected yet. It tries nothing twice: a write whose answer was lost may have been done."""
    return redis.Redis.from_url(
        settings.redis_url,
        decode_responses=True,
        socket_timeout=TIMEOUT_SEC,
        socket_connect_timeout=TIMEOUT_SEC,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
        client_name="hk-tick-redis",
    )


_REFUSALS = (
    # What Redis's answer begins with, what that means, and what to do.
    ("NOAUTH", "does not let the relay in", "put user and password into REDIS_URL"),
    ("WRONGPASS", "does not let the relay in", "put user and password into REDIS_URL"),
    ("NOPERM", "does not let the relay in", "put a user into REDIS_URL who may read and write the relay's keys"),
    (
        "OOM",
        "is full (maxmemory)",
        "give it more memory, or lower REDIS_MAX_FRAMES and REDIS_KEEP_DAYS and remove old streams",
    ),
    ("READONLY", "is a replica and takes no writes", "name its primary in REDIS_URL"),
    (
        "MISCONF",
        "takes no writes because it cannot save to its disk",
        "free its disk and let its user write there; its own log says more",
    ),
    ("NOREPLICAS", "takes no writes because its replicas are away", "start them, or lower min-replicas-to-write"),
    ("MASTERDOWN", "is a replica that has lost its primary", "name the primary in REDIS_URL"),
    ("LOADING", "is still loading its contents", "wait; it goes on by itself"),
    (
        "WRONGTYPE",
        "holds something else under one of the relay's keys",
        "remove it, or choose other names with REDIS_STREAM, REDIS_CURRENT, REDIS_LAST, REDIS_SIGNALS, and with "
        "REDIS_SNAPSHOTS, REDIS_SNAPSHOTS_CURRENT and REDIS_SNAPSHOTS_LAST",
    ),
    ("CLUSTERDOWN", "is a cluster, which the relay does not serve", "name a single server in REDIS_URL"),
    ("MOVED", "is a cluster, which the relay does not serve", "name a single server in REDIS_URL"),
    ("CROSSSLOT", "is a cluster, which the relay does not serve", "name a single server in REDIS_URL"),
)
_CODES = {  # redis-py has taken the code out of the text of these
    AuthenticationError: "NOAUTH",
    AuthorizationError: "NOAUTH",
    NoPermissionError: "NOPERM",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    BusyLoadingError: "LOADING",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
    MovedError: "MOVED",
}


def sentence_of(error: RedisError, address: str) -> str:
    """What an error of Redis means, and what to do."""
    words = str(error).rpartition(_IN_PIPELINE)[2]
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), words.partition(" ")[0])
    shown = printable(cut(words, 200))
    for refusal, means, do in _REFUSALS:
        if code == refusal:
            return f"Redis at {address} {means} ({shown}): {do}"
    if isinstance(error, (ConnectionError, TimeoutError)):
        return (
            f"Redis at {address} does not answer ({shown}): start it, or correct REDIS_URL; nothing is lost meanwhile"
        )
    return f"Redis at {address} refused a command ({shown}): the relay needs Redis 6.2 or newer"


def id_of(frame: Frame, before: str | None) -> str:
    """The id of the entry that a frame becomes, behind the one with the id ``before``. It is a position, too: how many
    rows of the day were read up to its end."""
    if isinstance(frame, JoinedBatch):
        return f"{frame.day}-{_whole((before or '').partition('-')[2]) + sum(frame.read_rows)}"
    return next(f"{frame.day}-{place.rowid}" for place in frame.position.places if place.day == frame.day)


class RedisSink:
    """A ``Sink`` for one Redis server."""

    def __init__(
        self, settings: RelaySettings, client: redis.Redis | None = None, relayed: Relayed = TICK_RELAY
    ) -> None:
        self._settings = settings
        self._relayed = relayed
        self._keys = relayed.keys(settings)
        self._client = client or connect(settings)
        self._address = address_of(settings.redis_url)
        self._streams: dict[str, str] = {}  # by day: the stream in use
        self._newest: dict[str, str] = {}  # by day: the id of the newest entry
        self._last: dict[str, tuple[int, int]] = {}  # by key of a newest row: what Redis has there, by its order

    def close(self) -> None:
        """As ``Sink.close``."""
        self._client.close()

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        try:
            yield
        except RedisError as exc:
            if isinstance(exc, ResponseError) and _SMALLER in str(exc):
                raise SinkMoved(
                    f"another program has written to the stream at {self._address}: two relays must not have the same "
                    f"{self._relayed.setting}"
                ) from exc
            raise SinkAway(sentence_of(exc, self._address)) from exc

    # Where it stands

    def where(self) -> Stand | None:
        """As ``Sink.where``: of each day the newest entry of its stream in use."""
        with self._own_errors():
            current = cast(dict[str, str], self._client.hgetall(self._keys.current))
            self._streams = {day: stream for day, stream in current.items() if day.isdigit()}
            self._newest.clear()
            self._last.clear()
            newest = {day: self._newest_position(day) for day in sorted(self._streams)[-MAX_PLACES:]}
        if not any(newest.values()):
            begun = [day for day in newest if self._is_second(day)]
            return Position.at_start_of(begun[0], self._relayed.kind) if begun else None
        return _joined(newest, self._relayed.kind)

    def _is_second(self, day: str) -> bool:
        return self._streams[day] != self._name(day, 1)

    def _newest_position(self, day: str) -> Stand | None:
        entries = cast(list[tuple[str, Mapping[str, str]]], self._client.xrevrange(self._streams[day], count=1))
        for entry_id, fields in entries:
            self._newest[day] = entry_id
            try:
                return parse_stand(fields["position"], self._relayed.kind)
            except (KeyError, ValueError) as exc:
                raise SinkAway(
                    f"the newest entry of the stream {self._streams[day]} at {self._address} is none of this relay's: "
                    f"remove the stream, or choose another name with {self._relayed.setting}"
                ) from exc
        return None

    # What is put

    def begin_again(self, day: str) -> None:
        """As ``Sink.begin_again``: a new stream, named in the hash first."""
        known = self._streams.get(day, self._name(day, 1))
        number = int(known.rpartition(":")[2]) if day in self._streams and self._is_second(day) else 1
        stream = self._name(day, number + 1)
        with self._own_errors():
            pipe = self._client.pipeline(transaction=True)
            pipe.unlink(stream)
            pipe.hset(self._keys.current, day, stream)
            pipe.execute()
        self._streams[day] = stream
        self._newest.pop(day, None)

    def _name(self, day: str, number: int) -> str:
        stream = self._keys.stream.replace("{day}", day)
        return stream if number == 1 else f"{stream}:{number}"

    def put(self, frames: Sequence[Frame]) -> None:
        """As ``Sink.put``: one transaction."""
        with self._own_errors():
            self._check_new_days(frames)
            newest_rows = self._newest_rows(frames)
            pipe = self._client.pipeline(transaction=True)
            newest = dict(self._newest)
            is_stored = [self._add(pipe, frame, newest) for frame in frames]
            for key, row in newest_rows.items():
                values = zip(self._relayed.columns, row[1:], strict=True)
                mapping = {name: _text(value) for name, value in values if value is not None}
                pipe.hset(key, mapping=cast(Any, mapping))
            if self._keys.channel:
                self._publish(pipe, frames)
            self._drop_old(pipe)
            answers = pipe.execute()
        if None in [answers[place] for place in is_stored]:
            raise SinkMoved(f"Redis at {self._address} was emptied: its contents begin again with the newest day")
        self._newest = newest
        self._last |= {key: self._relayed.order_of(row) for key, row in newest_rows.items()}

    def _check_new_days(self, frames: Sequence[Frame]) -> None:
        for day in {frame.day for frame in frames} - set(self._streams):
            if self._client.exists(self._name(day, 1)):
                raise SinkAway(
                    f"Redis at {self._address} has a key {self._name(day, 1)} that {self._keys.current} does "
                    f"not name: remove it, or choose another name with {self._relayed.setting}"
                )

    def _add(self, pipe: Any, frame: Frame, newest: dict[str, str]) -> int:
        """One entry; its place among the transaction's answers."""
        day = frame.day
        if day not in self._streams:
            self._streams[day] = self._name(day, 1)
            pipe.hset(
                self._keys.current,
                mapping={day: self._streams[day], _COLUMNS_FIELD: ",".join(self._relayed.columns)},
            )
        entry_id = id_of(frame, newest.get(day))
        fields = {
            self._relayed.word: json.dumps([self._relayed.wire(row) for row in frame.rows], separators=(",", ":")),
            "position": str(frame.position),
            "after": newest.get(day, f"{day}-0"),
        }
        if isinstance(frame, JoinedBatch) and frame.told:
            fields["told"] = json.dumps(frame.told, separators=(",", ":"))
        pipe.xadd(
            self._streams[day], cast(Any, fields), id=entry_id, maxlen=self._keys.max_frames,
            approximate=True, nomkstream=day in newest,
        )  # fmt: skip
        newest[day] = entry_id
        return len(pipe.command_stack) - 1

    def _publish(self, pipe: Any, frames: Sequence[Frame]) -> None:
        for frame in frames:
            for row in frame.rows:
                channel = self._relayed.key_of(self._keys.channel, row)
                pipe.publish(channel, json.dumps(self._relayed.message(row), separators=(",", ":")))

    def _drop_old(self, pipe: Any) -> None:
        for day in sorted(self._streams)[: -self._keys.keep_days]:
            number = int(self._streams[day].rpartition(":")[2]) if self._is_second(day) else 1
            pipe.unlink(*[self._name(day, n) for n in range(1, number + 1)])
            pipe.hdel(self._keys.current, day)
            del self._streams[day]
            self._newest.pop(day, None)

    # The newest row of each key

    def _newest_rows(self, frames: Sequence[Frame]) -> dict[str, Row]:
        """By key the newest row, if it is newer than what Redis has: repaired ticks come late."""
        if not self._keys.last:
            return {}
        order_of = self._relayed.order_of
        newest: dict[str, Row] = {}
        for frame in frames:
            for row in frame.rows:
                key = self._relayed.key_of(self._keys.last, row)
                if key not in newest or order_of(row) >= order_of(newest[key]):
                    newest[key] = row
        self._learn([key for key in newest if key not in self._last])
        return {key: row for key, row in newest.items() if order_of(row) >= self._last[key]}

    def _learn(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.hmget(key, *self._relayed.order)
        for key, values in zip(keys, pipe.execute(), strict=True):
            first, second = (_whole(value) for value in values)
            self._last[key] = first, second

    # Signals

    def newest_signal(self) -> int:
        """The number of the newest signal in the stream; 0 when there is none."""
        with self._own_errors():
            entries = cast(list[tuple[str, Any]], self._client.xrevrange(self._settings.redis_signals, count=1))
        return _whole(entries[0][0].partition("-")[0]) if entries else 0

    def put_signals(self, signals: Sequence[Signal]) -> None:
        """Store signals, all or none, behind what is there."""
        with self._own_errors():
            pipe = self._client.pipeline(transaction=True)
            for signal in signals:
                fields = {name: _text(value) for name, value in signal.as_json().items() if value is not None}
                pipe.xadd(
                    self._settings.redis_signals, cast(Any, fields), id=f"{signal.number}-0",
                    maxlen=self._settings.redis_max_frames, approximate=True,
                )  # fmt: skip
                if self._settings.redis_signals_channel:
                    pipe.publish(self._settings.redis_signals_channel, _signal_message(signal))
            if self._settings.redis_signals_last and signals:
                pipe.set(self._settings.redis_signals_last, _signal_message(signals[-1]))
            pipe.execute()


def _joined(newest: Mapping[str, Stand | None], kind: str) -> Stand:
    """One position of the newest entries of several days: each day is as far as its own stream is. Days that were
    relayed out of another number of data roots than the newest one are left."""
    roots = [len(parts_of(stand)) for stand in newest.values() if stand is not None][-1]
    kept = {day: stand for day, stand in newest.items() if stand is None or len(parts_of(stand)) == roots}
    over = max(newest.keys() - kept.keys(), default="")
    parts = [
        _joined_part({day: None if stand is None else parts_of(stand)[n] for day, stand in kept.items()}, over, kind)
        for n in range(roots)
    ]
    return parts[0] if roots == 1 else JoinedPosition(tuple(parts))


def _joined_part(newest: Mapping[str, Position | None], over: str, kind: str) -> Position:
    """Of one data root; ``over``: a day that is left, or ""."""
    left = max([over, *(position.left for position in newest.values() if position is not None)])
    places = [
        next((place for place in position.places if place.day == day), Place(day))
        if position is not None
        else Place(day)
        for day, position in newest.items()
        if day > left
    ]
    return Position(left, tuple(places), kind)


def _whole(value: object) -> int:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() else 0


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _signal_message(signal: Signal) -> str:
    """A signal as it is published: what was sent, and under ``signal`` what we know of it."""
    known = {"number": signal.number, "name": signal.name, "recv_ts_ms": signal.recv_ts_ms, "cursor": signal.cursor}
    return json.dumps({**signal.payload, "symbol": signal.symbol, "signal": known})
