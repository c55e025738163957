"""dxLink's messages: what is sent, and the rows of what comes. Source: dxFeed's AsyncAPI document, dxLink 1.0.2.

Channel 0 is the connection, the odd ones are the client's. Events come as rows of values whose fields the server names
in ``FEED_CONFIG``: those hold, whatever was asked for, and may change at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from hk_tick_collector import __version__
from hk_tick_collector.core.errors import FeedLost
from hk_tick_collector.sources.remote.conversation import read_object

MAX_MESSAGE_BYTES = 4 << 20
SILENCE_SEC = 60  # without any message: lost. Announced in SETUP, and the server promises to keep it
KEEPALIVE_SEC = 20  # the server wants one within 60 s
FEED_CHANNEL, HISTORY_CHANNEL = 1, 3
EVENT = "TimeAndSale"
DESCRIPTIONS = ("Profile", "Summary")  # events of a symbol that there are whether it trades or not
NEEDED = ("eventSymbol", "index", "time", "price", "size")
FIELDS = (
    *NEEDED,
    "eventFlags", "timeNanoPart", "sequence", "exchangeCode", "bidPrice", "askPrice", "exchangeSaleConditions",
    "aggressorSide", "spreadLeg", "extendedTradingHours", "validTick", "type",
)  # fmt: skip

Row = tuple[Any, ...]
"""The values of an event, in the order of FIELDS; None where the server sends no such field."""


class Broken(NamedTuple):
    """The end of a message that is no whole row."""

    values: list[Any]


def setup() -> str:
    """The first message."""
    version = f"0.1-hk-tick-collector/{__version__}"
    return _text("SETUP", 0, version=version, keepaliveTimeout=SILENCE_SEC, acceptKeepaliveTimeout=SILENCE_SEC)


def auth(token: str) -> str:
    """The token, also a later one on the same connection."""
    return _text("AUTH", 0, token=token)


def keepalive() -> str:
    """We are there."""
    return _text("KEEPALIVE", 0)


def request_feed() -> str:
    """A channel on which every event comes, none conflated."""
    return _text("CHANNEL_REQUEST", FEED_CHANNEL, service="FEED", parameters={"contract": "STREAM"})


def request_newest() -> str:
    """A channel on which the newest event of each kind comes at once, of a symbol that has one."""
    return _text("CHANNEL_REQUEST", FEED_CHANNEL, service="FEED", parameters={"contract": "TICKER"})


def request_history() -> str:
    """A channel that answers with what there was, and then goes on."""
    return _text("CHANNEL_REQUEST", HISTORY_CHANNEL, service="FEED", parameters={"contract": "HISTORY"})


def feed_setup(channel: int = FEED_CHANNEL) -> str:
    """No aggregation, short rows, these fields."""
    return _text(
        "FEED_SETUP",
        channel,
        acceptAggregationPeriod=0,
        acceptDataFormat="COMPACT",
        acceptEventFields={EVENT: FIELDS},
    )


def subscription(*, add: Sequence[str] = (), remove: Sequence[str] = ()) -> str:
    """Symbols in dxFeed's spelling."""
    lists = {"add": add, "remove": remove}
    events = {
        name: [{"type": EVENT, "symbol": symbol} for symbol in symbols] for name, symbols in lists.items() if symbols
    }
    return _text("FEED_SUBSCRIPTION", FEED_CHANNEL, **events)


def history(*, add: tuple[str, int] | None = None, remove: tuple[str, int] | None = None) -> str:
    """A symbol, and from when on (UTC epoch ms) its trades are to be shown."""
    asked = {"add": add, "remove": remove}
    events = {
        name: [{"type": EVENT, "symbol": pair[0], "fromTime": pair[1]}]
        for name, pair in asked.items()
        if pair is not None
    }
    return _text("FEED_SUBSCRIPTION", HISTORY_CHANNEL, **events)


def describe_setup() -> str:
    """Of descriptions, no more than whose they are."""
    fields = dict.fromkeys(DESCRIPTIONS, ("eventType", "eventSymbol"))
    return _text("FEED_SETUP", FEED_CHANNEL, acceptDataFormat="COMPACT", acceptEventFields=fields)


def describe(symbols: Sequence[str]) -> str:
    """What there is of these, in dxFeed's spelling."""
    add = [{"type": kind, "symbol": symbol} for symbol in symbols for kind in DESCRIPTIONS]
    return _text("FEED_SUBSCRIPTION", FEED_CHANNEL, add=add)


def _text(kind: str, channel: int, **fields: Any) -> str:
    return json.dumps({"type": kind, "channel": channel, **fields}, separators=(",", ":"))


def read(raw: str | bytes) -> Mapping[str, Any] | None:
    """A message; None for what is none."""
    message = read_object(raw)
    return message if message is not None and isinstance(message.get("type"), str) else None


class FeedRows:
    """Takes the events of the channel apart, by its newest ``FEED_CONFIG``."""

    def __init__(self) -> None:
        self._fields: tuple[str, ...] = ()
        self._pick: Any = None

    def configure(self, event_fields: object) -> None:
        """From now on rows have these fields. FeedLost when one that a trade needs is not among them."""
        names = event_fields.get(EVENT) if isinstance(event_fields, dict) else None
        if names is None:  # the first answer may come without: nothing is subscribed yet
            return
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > 100:
            raise FeedLost(f"the server's fields of {EVENT} cannot be read")
        missing = [name for name in NEEDED if name not in names]
        if missing:
            raise FeedLost(f"the server sends no {', '.join(missing)} of {EVENT}: its trades cannot be recorded")
        self._fields = tuple(names)
        # A field that is not sent is taken from behind the row, where a None is put.
        self._pick = itemgetter(*(names.index(name) if name in names else len(names) for name in FIELDS))

    def rows(self, data: object) -> Iterator[Row | Broken]:
        """Of the field ``data`` of a FEED_DATA: compact or full, whichever the server chose. Events of other types are
        left out."""
        if not isinstance(data, list):
            return
        if data and isinstance(data[0], dict):
            yield from (tuple(map(event.get, FIELDS)) for event in data if isinstance(event, dict) and _is_ours(event))
            return
        for name, values in zip(data[::2], data[1::2], strict=False):
            if name == EVENT and isinstance(values, list):
                yield from self._compact(values)

    def _compact(self, values: list[Any]) -> Iterator[Row | Broken]:
        if self._pick is None:
            yield Broken(values)  # nobody has said yet what they are
            return
        width, pick = len(self._fields), self._pick
        whole = len(values) - len(values) % width
        for start in range(0, whole, width):
            row = values[start : start + width]
            row.append(None)
            yield pick(row)
        if whole < len(values):
            yield Broken(values[whole:])


def _is_ours(event: dict[str, Any]) -> bool:
    return bool(event.get("eventType", EVENT) == EVENT)
