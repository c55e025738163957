"""From an answer of gexbot to a snapshot. What cannot be one is refused whole, with the reason.

``timestamp`` is the second of calculation, UTC, and the only time in it. ``spot`` and ``zero_gamma`` are lifted out for
whoever looks for a level; all else stays in the body, as it came.
"""

from __future__ import annotations

import hashlib
import json
import math
from types import ModuleType
from typing import Any, NoReturn

from hk_tick_collector.core.errors import RejectCode, TickRejected
from hk_tick_collector.core.text import cut
from hk_tick_collector.market.market import Market
from hk_tick_collector.records.snapshot import Series, Snapshot
from hk_tick_collector.sources.gexbot.series import ticker_of

orjson: ModuleType | None
try:
    import orjson
except ModuleNotFoundError:  # an extra
    orjson = None

MAX_BODY_BYTES = 2 * 1024 * 1024
MAX_SEC = 4_102_444_800  # 2100-01-01
AHEAD_SEC = 300  # of our clock
DIGEST_CHARS = 32
_DELETE = "\x7f"  # the one ASCII character that Python escapes and orjson does not
RAW_CHARS = 2000  # of a refused body, in the quarantine


class SnapshotMapper:
    """Safe to use from several threads."""

    def __init__(self, market: Market) -> None:
        self._market = market

    def map(self, series: Series, body: str, recv_ts_ms: int, origin: str, day: str = "") -> Snapshot:
        """``day``: which one it must be of; empty: any that is not to come. TickRejected."""
        snapshot, text = read(body)
        ticker = snapshot.get("ticker")
        if ticker != ticker_of(series.symbol):
            raise TickRejected(RejectCode.UNWANTED, f"nobody asked for ticker {cut(ascii(ticker), 40)}")
        second = _second(snapshot.get("timestamp"))
        trading_day = self._market.trading_day(second * 1000)
        if day and trading_day != day:
            raise TickRejected(RejectCode.DAY, f"a second of {trading_day} in the file of {day}")
        if second > recv_ts_ms // 1000 + AHEAD_SEC:
            raise TickRejected(RejectCode.TIME, f"timestamp {second} is still to come")
        spot, zero_gamma = _number("spot", snapshot), _number("zero_gamma", snapshot)
        return Snapshot(
            series.symbol, second * 1000, recv_ts_ms, trading_day, series.package, series.category, origin,
            spot, zero_gamma, hashlib.sha256(text).hexdigest()[:DIGEST_CHARS], body,
        )  # fmt: skip


def read(body: str) -> tuple[dict[str, Any], bytes]:
    """What it says, and that as text whatever the order of its fields and the blanks between them. TickRejected.

    The text is Python's own way of writing it, with orjson (the extra gexbot) or without. It is ten times faster, and
    writes the same where all is ASCII and no number is very large or very small; anything else is left to the slow way.
    """
    return _read_fast(body) or _read_slowly(body)


def _read_fast(body: str) -> tuple[dict[str, Any], bytes] | None:
    if orjson is None or not body.isascii() or "\\" in body or _DELETE in body:
        return None
    try:
        snapshot = orjson.loads(body)
        text = orjson.dumps(snapshot, option=orjson.OPT_SORT_KEYS)
    except (ValueError, orjson.JSONEncodeError):  # the slow way says what is wrong, and writes what is nested deeper
        return None
    if not isinstance(snapshot, dict) or _has_odd_numbers(text):
        return None
    return snapshot, text


def _has_odd_numbers(text: bytes) -> bool:
    """May there be one that Python writes otherwise? 1e16 is 1e+16 there, and 0.00001 is 1e-05."""
    return b"0.0000" in text or any(part[-1:].isdigit() for part in text.split(b"e")[:-1])


def _read_slowly(body: str) -> tuple[dict[str, Any], bytes]:
    try:
        snapshot = json.loads(body, parse_constant=_no_number)
        text = json.dumps(snapshot, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError) as exc:
        raise TickRejected(RejectCode.SYMBOL, f"no JSON object: {cut(str(exc), 80)}") from None
    if not isinstance(snapshot, dict):
        raise TickRejected(RejectCode.SYMBOL, "no JSON object")
    return snapshot, text.encode()


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _second(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 < value < MAX_SEC:
        raise TickRejected(RejectCode.TIME, f"timestamp {cut(ascii(value), 40)} is no second since 1970")
    return value


def _number(name: str, snapshot: dict[str, Any]) -> float | None:
    value = snapshot.get(name)
    if value is None:
        return None
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:  # JSON knows whole numbers of any length
        number = math.nan
    if not math.isfinite(number):
        raise TickRejected(RejectCode.PRICE, f"{name} {cut(ascii(value), 40)} is no number")
    return number
