"""``hk.connect(...).live``: the live channel of a server (``hk-tick-live``) as a ``Live``.

Each message's ``prev`` must be the cursor that was told before it; another one means that something was missed, and the
connection is made again at the last good cursor. So is one that ended, or said nothing for DEAD_SEC.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from hk_tick_collector.client.errors import BadQuestion, NoData, ServerError
from hk_tick_collector.client.live import ALL, DEPTH, MAX_DEPTH, NOW, Live, LiveBatch, check_kind, warn_of
from hk_tick_collector.client.live_kinds import BOOK, BROKER, COLUMNS, COLUMNS_OF, SNAPSHOT, TICK, Seen, cut
from hk_tick_collector.client.question import Texts
from hk_tick_collector.core.extras import how_to_install

DEAD_SEC = 15.0
MIN_PAUSE_SEC, MAX_PAUSE_SEC = 0.5, 30.0
LOOK_SEC = 0.25
CLOSE_SEC = 1.0  # messages that nobody takes any more may stand before the server's answer
_SEQ = COLUMNS.index("seq")
_LEFT = {"day_gone": "has no day file any more", "day_damaged": "has a damaged day file"}
_FINAL = ("bad-parameter", "bad-cursor", "unauthorized", "forbidden")


class _Missed(Exception):
    """A message was missed, or the server is silent: connect again."""


def connect(
    url: str,
    key: str | None,
    symbols: Texts,
    *,
    since: str = NOW,
    cursor_file: str | Path | None = None,
    types: str = ALL,
    signals: Texts | None = None,
    kind: str = TICK,
    depth: int = DEPTH,
) -> Live:
    """Ticks of a server, or with ``kind="book"`` order books of ``depth`` levels a side at most, or ``"broker"``, or
    ``"snapshot"``.

    ``since``: a cursor, ``"now"``, ``"day"``, or ``"-500"`` for the newest 500 rows. ``signals``: hooks whose signals
    come, too, or ``"all"``; the key needs the scope of each.

    ``url``: where ``/v1/live`` is. BadQuestion or ServerError when the server refuses; NoData when the cursor's day has
    no file any more. A server that is away is waited for.
    """
    text = symbols if isinstance(symbols, str) else ",".join(symbols)
    check_kind(kind, depth)
    asked = {"op": "subscribe", "symbols": text, "kind": kind}
    asked.update({TICK: {"types": types}, BOOK: {"depth": str(depth)}}.get(kind, {}))
    if signals is not None:
        asked["signals"] = signals if isinstance(signals, str) else ",".join(signals)
    address = f"{url.replace('http', 'ws', 1).rstrip('/')}/v1/live"

    def batches(cursor: str, stop: threading.Event) -> Iterator[LiveBatch]:
        connection = _Connection(address, key, asked, cursor)
        pause_sec = MIN_PAUSE_SEC
        while not stop.is_set():
            told = connection.cursor
            try:
                yield from connection.batches(stop)
            except (OSError, EOFError, TimeoutError, _Missed, connection.library.WebSocketException):
                pause_sec = MIN_PAUSE_SEC if connection.cursor != told else min(pause_sec * 2, MAX_PAUSE_SEC)
                stop.wait(pause_sec * random.uniform(0.5, 1.0))

    return Live(batches, since, None if cursor_file is None else Path(cursor_file))


class _Connection:
    """One after the other; ``cursor`` is what was told last."""

    def __init__(self, address: str, key: str | None, asked: dict[str, str], cursor: str) -> None:
        try:
            self.library: Any = import_module("websockets.exceptions")
            self._client: Any = import_module("websockets.sync.client")
        except ModuleNotFoundError as exc:
            raise ServerError("the package websockets is missing", how_to_install("client")) from exc
        self._address, self._asked, self.cursor = address, asked, cursor
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._kind = asked["kind"]
        self._seen = Seen(kind=self._kind)
        self._snapshots = self._told_snapshots = 0  # of this connection, one a data root; and of all, told

    def batches(self, stop: threading.Event) -> Iterator[LiveBatch]:
        """Until something fails."""
        try:
            opened = self._client.connect(
                self._address, additional_headers=self._headers, subprotocols=["hk-ticks.v1"], max_size=None,
                open_timeout=DEAD_SEC, close_timeout=CLOSE_SEC, proxy=None,
            )  # fmt: skip
            self._snapshots = 0
            with opened as socket:
                socket.send(json.dumps({**self._asked, "since": self.cursor}))
                yield from self._messages(socket, stop)
        except self.library.InvalidStatus as exc:
            status = exc.response.status_code
            if status in (429, 503) or status >= 500:
                raise _Missed from exc
            raise ServerError(f"the server refused the live channel ({status})", "check key", status=status) from exc

    def _messages(self, socket: Any, stop: threading.Event) -> Iterator[LiveBatch]:
        silent_since_sec = time.monotonic()
        is_first = True
        while not stop.is_set():
            try:
                message = json.loads(socket.recv(LOOK_SEC))
            except TimeoutError:
                if time.monotonic() - silent_since_sec > DEAD_SEC:
                    raise _Missed from None
                continue
            silent_since_sec = time.monotonic()
            if message["type"] == "error":
                _refuse(message)
            if "cursor" not in message:
                continue
            if not is_first and message["prev"] != self.cursor:
                raise _Missed
            is_first, self.cursor = False, message["cursor"]
            if message["type"] == "reset" and message.get("reason") in _LEFT:
                raise NoData(
                    f"{message.get('day')} {_LEFT[message['reason']]}, and was not read to its end",
                    f"read it with hk.connect(...).load, then go on with since={self.cursor!r}",
                )
            if message["type"] == "reset" and "day" in message:
                self._seen.read_again(str(message["day"]))
            if message["type"] == "contradiction":
                warn_of(message)
            yield self._batch(message)

    def _batch(self, message: dict[str, Any]) -> LiveBatch:
        if message["type"] == "signal":
            return LiveBatch([], self.cursor, signals=[message["signal"]])
        if self._kind == TICK:
            return LiveBatch(self._seen.new([_row(row) for row in message.get("ticks", ())]), self.cursor)
        columns = COLUMNS_OF[self._kind]
        if self._kind == SNAPSHOT:
            rows = [tuple(row) for row in message.get("snapshots", ())]
            return LiveBatch(self._seen.new(rows), self.cursor, columns)
        word, depth = ("brokers", None) if self._kind == BROKER else ("books", MAX_DEPTH)
        rows = [cut(tuple(row), depth) for row in message.get(word, ())]
        if message["type"] != "snapshot":
            return LiveBatch(self._seen.new(rows), self.cursor, columns)
        self._snapshots += 1
        is_known = self._snapshots <= self._told_snapshots  # a connection more: what is known is that of the last push
        self._told_snapshots = max(self._told_snapshots, self._snapshots)
        return LiveBatch([] if is_known else rows, self.cursor, columns, is_snapshot=True)


def _row(values: list[Any]) -> tuple[Any, ...]:
    if values[_SEQ] is not None:
        values[_SEQ] = int(values[_SEQ])
    return tuple(values)


def _refuse(message: dict[str, Any]) -> None:
    slug, detail, hint = message.get("slug", ""), str(message.get("detail", "")), str(message.get("hint", ""))
    if slug == "cursor-gone":
        raise NoData(detail, hint)
    if slug in ("bad-parameter", "bad-cursor"):
        raise BadQuestion(detail, hint)
    if slug in _FINAL:
        raise ServerError(detail, hint, status=int(message.get("status", 0)))
    raise _Missed
