"""The streamer's messages: what is sent, and the parts of what comes. Source: Schwab's Streamer Guide.

Requests and answers are JSON objects with lists under ``requests``, ``response``, ``notify`` and ``data``. A command is
answered with a code; LEVELONE_EQUITIES then sends for each symbol those of the fields that have changed, by number, and
a service of books the whole book.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from hk_tick_collector.core.errors import FeedError

MAX_MESSAGE_BYTES = 4 << 20
SILENCE_SEC = 60  # without any message: lost. A heartbeat comes every ten to twenty seconds
ADMIN, EQUITIES = "ADMIN", "LEVELONE_EQUITIES"
FIELDS = "0,3,8,9,35,41"  # of LEVELONE_EQUITIES; quotes are not asked for, they come far more often than trades
PRICE, TOTAL_VOLUME, SIZE, TRADE_TIME, VENUE = "3", "8", "9", "35", "41"

NYSE_BOOK, NASDAQ_BOOK = "NYSE_BOOK", "NASDAQ_BOOK"  # OPTIONS_BOOK: options have no symbol here
BOOK_FIELDS = "0,1,2,3"
BOOK_TIME, BIDS, ASKS = "1", "2", "3"
LEVEL_PRICE, LEVEL_SIZE = "0", "1"  # 2 and 3 of a level: how many market makers, and which
_FIELDS_OF = {EQUITIES: FIELDS, NYSE_BOOK: BOOK_FIELDS, NASDAQ_BOOK: BOOK_FIELDS}

MAX_CODE = 999  # a log line has one, and is kept apart by it
OK = frozenset({0, 26, 27, 28, 29})
LOGIN_DENIED, SERVICE_NOT_AVAILABLE, CLOSE_CONNECTION, SYMBOL_LIMIT, STOP_STREAMING = 3, 11, 12, 19, 30
WORDS = {
    LOGIN_DENIED: "the login was denied",
    9: "an error that the streamer does not know",
    SERVICE_NOT_AVAILABLE: "the service is not available",
    CLOSE_CONNECTION: "another program streams with this login, and Schwab lets one do so at a time",
    SYMBOL_LIMIT: "the limit of symbols is reached",
    20: "the streamer does not know this connection",
    21: "the streamer could not read the command",
    22: "the subscription failed",
    23: "the subscription could not be ended",
    24: "the subscription failed",
    25: "the streamer could not say what is subscribed",
    STOP_STREAMING: "the streamer stopped sending",
}


class ServiceClosed(FeedError):
    """SERVICE_NOT_AVAILABLE: of no symbol, now."""


class Streamer(NamedTuple):
    """Where to connect and by which names, as the user's preferences tell it."""

    url: str
    customer_id: str
    correl_id: str
    channel: str
    function_id: str


def login(request_id: int, streamer: Streamer, token: str) -> str:
    """The first command."""
    parameters = {
        "Authorization": token,
        "SchwabClientChannel": streamer.channel,
        "SchwabClientFunctionId": streamer.function_id,
    }
    return _request(request_id, streamer, ADMIN, "LOGIN", parameters)


def subscription(request_id: int, streamer: Streamer, service: str, command: str, keys: Sequence[str]) -> str:
    """SUBS (these of the service and no others), ADD or UNSUBS; symbols in Schwab's spelling."""
    parameters = {"keys": ",".join(keys)} | ({} if command == "UNSUBS" else {"fields": _FIELDS_OF[service]})
    return _request(request_id, streamer, service, command, parameters)


def _request(request_id: int, streamer: Streamer, service: str, command: str, parameters: dict[str, str]) -> str:
    request = {
        "requestid": str(request_id),
        "service": service,
        "command": command,
        "SchwabClientCustomerId": streamer.customer_id,
        "SchwabClientCorrelId": streamer.correl_id,
        "parameters": parameters,
    }
    return json.dumps({"requests": [request]}, separators=(",", ":"))


def code_of(part: dict[str, Any]) -> tuple[int, str]:
    """Code and words of an answer or a notice; -1 where there is none that can be one."""
    content = part.get("content")
    content = content if isinstance(content, dict) else {}
    code, text = content.get("code"), content.get("msg")
    return code if type(code) is int and 0 <= code <= MAX_CODE else -1, text if isinstance(text, str) else ""
