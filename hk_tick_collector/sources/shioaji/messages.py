"""The gateway's server-sent events, and what is asked of it. Source: Sinotrade's HTTP_API and STREAMING documents, 1.7.

An event is ``event: tick_stk``, ``data: {...}`` and an empty line. A heartbeat comes every 30 s and proves the gateway,
not its line to the market. A connection that is lost cannot be resumed: events carry no id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from hk_tick_collector.core.errors import FeedLost
from hk_tick_collector.sources.remote.texts import value_of
from hk_tick_collector.sources.shioaji.symbols import Contract

CHANNELS = ("tick_stk", "tick_fop")
HEARTBEAT_SEC = 30
SILENCE_SEC = 75  # without a byte: lost
MAX_EVENT_BYTES = 65_536
HEALTH, INFO, USAGE = "/api/v1/health", "/api/v1/info", "/api/v1/auth/usage"
SUBSCRIBE, UNSUBSCRIBE, TICKS = "/api/v1/stream/subscribe", "/api/v1/stream/unsubscribe", "/api/v1/data/ticks"


def contract_path(contract: Contract) -> str:
    """Where the gateway says whether there is such a contract."""
    asked = urlencode({"region": "TW", "security_type": contract.security_type})
    return f"/api/v1/data/contracts/{quote(contract.code, safe='')}?{asked}"


def channel_path(channel: str) -> str:
    """Where a channel's events come from."""
    return f"/api/v1/stream/data/{channel}"


def subscription(contract: Contract) -> dict[str, object]:
    """To have its trades sent, or no more."""
    return {**contract.body(), "target_code": None, "quote_type": "Tick", "intraday_odd": contract.is_odd}


def whole_day(contract: Contract, day: str) -> dict[str, object]:
    """All trades of ``YYYYMMDD``."""
    return {"contract": contract.body(), "date": f"{day[:4]}-{day[4:6]}-{day[6:]}", "query_type": "AllDay"}


class Event(NamedTuple):
    """``data`` is JSON, as far as anybody knows."""

    name: bytes
    data: bytes


class EventStream:
    """Cuts what a connection brings into events."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, part: bytes) -> list[Event]:
        """The events that are whole by now. FeedLost for one without an end."""
        data = self._rest + part
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        *blocks, self._rest = data.split(b"\n\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise FeedLost("what comes are no events: is this a Shioaji gateway?")
        return [event for event in map(_event, blocks) if event is not None]


def _event(block: bytes) -> Event | None:
    """None for a comment."""
    name, separator, data = block.partition(b"\ndata:")
    if separator and name.startswith(b"event:") and b"\n" not in data and b"\n" not in name:
        return Event(name[6:].strip(), data)
    named, parts = b"", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"event":
            named = value.strip()
        elif field == b"data":
            parts.append(value)
        elif field.strip():
            return Event(b"", block)
    return Event(named, b"\n".join(parts)) if parts or named else None


def read_all(texts: Sequence[bytes]) -> list[Any]:
    """The values of JSON texts, None for one that is none: all at once where all are."""
    try:
        values = value_of(b"[%s]" % b",".join(texts))
        if len(values) == len(texts):
            return list(values)
    except (ValueError, RecursionError):
        pass
    return [_read(text) for text in texts]


def _read(text: bytes) -> Any:
    try:
        return value_of(text)
    except (ValueError, RecursionError):
        return None
