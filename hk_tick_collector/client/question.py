"""What is asked of recordings, checked as far as can be without looking at them.

Days are text: ``YYYYMMDD``, or what ``hk-tickctl`` takes (``last``, ``20261101..20261130``, commas). Moments are UTC
epoch milliseconds. Who answers (a ``Backend``) knows the market, so symbols stay as typed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hk_tick_collector.client.errors import BadQuestion
from hk_tick_collector.core.dates import parse_day
from hk_tick_collector.records.columns import NAMES

ALL = "all"
PRICE, ODD_LOTS, OFF_EXCHANGE = "price", "odd_lots", "off_exchange"
TYPES = (PRICE, ODD_LOTS, OFF_EXCHANGE, ALL)
ZONES = {"utc": "UTC", "hk": "Asia/Hong_Kong"}
BOOK_FORMS = ("wide", "long", "quotes")
BROKERS = "brokers"
MAX_BOOK_DEPTH = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS, _AFTER_MS = -2_208_988_800_000, 7_258_118_400_000  # of the years 1900 to 2199
_RANGE_HINT = "UTC epoch milliseconds of the years 1900 to 2199 are taken"
_SECONDS = range(10**8, 10**11)  # as milliseconds 2 January 1970 to 3 March 1973, as seconds from 1973 on
_SERIES = re.compile(r"[a-z0-9_]{1,40}/[a-z0-9_]{1,40}", re.ASCII)
_DAY = re.compile(r"\d{8}|\d{4}-\d{2}-\d{2}", re.ASCII)

Texts = str | Iterable[str]
DayLike = str | date
Days = DayLike | Iterable[DayLike]
Moment = str | int | date | datetime
Bound = str | int  # a trading day ``YYYYMMDD``, or UTC epoch milliseconds


@dataclass(frozen=True, slots=True)
class Stretch:
    """Which ticks: of these symbols, on these days or from ``start`` until before ``end``.

    ``symbols``: as typed; empty for all. ``days``: None when ``start`` or ``end`` tell, or for the newest day.
    ``start``, ``end``: a day stands for its beginning. ``as_of_ms``: only what was stored by then (rows whose
    ``inserted_at_ms`` is not later). ``proven``: refuse (NotProven) instead of handing out what may be incomplete.
    """

    symbols: tuple[str, ...]
    days: str | None = None
    start: Bound | None = None
    end: Bound | None = None
    as_of_ms: int | None = None
    proven: bool = False


@dataclass(frozen=True, slots=True)
class TickQuestion:
    """Ticks: these columns, trades of these ``types`` (of ``TYPES``; ``all`` alone)."""

    stretch: Stretch
    columns: tuple[str, ...] = NAMES
    types: tuple[str, ...] = (ALL,)


@dataclass(frozen=True, slots=True)
class BookQuestion:
    """Order books, in a ``form`` of ``BOOK_FORMS`` (``days.books`` has their columns); ``depth``: the levels of a side
    in the wide form. With the form ``BROKERS`` the broker queues in them (``days.brokers``)."""

    stretch: Stretch
    form: str = "wide"
    depth: int = 10


@dataclass(frozen=True, slots=True)
class SnapshotQuestion:
    """Snapshots. ``series``: as in ``classic/gex_full``, empty for all; ``every``: also the other snapshots of a second
    that has several; ``bodies``: with the JSON object of each."""

    stretch: Stretch
    series: tuple[str, ...] = ()
    every: bool = False
    bodies: bool = True

    def wants(self, package: str, category: str) -> bool:
        """Is a series one of these?"""
        return not self.series or f"{package}/{category}" in self.series


@dataclass(frozen=True, slots=True)
class BarQuestion:
    """Bars, as ``query.bars`` makes them. ``fill``: also bars without a trade in continuous trading."""

    stretch: Stretch
    interval: str = "1m"
    fill: bool = False
    auctions: bool = True
    odd_lots: bool = False
    off_exchange: bool = False


def stretch(
    symbols: Texts,
    day: Days | None = None,
    *,
    start: Moment | None = None,
    end: Moment | None = None,
    as_of: Moment | None = None,
    require: str | None = None,
    tz: str | None = None,
) -> Stretch:
    """From the arguments of ``Recordings.load``. BadQuestion says which has no meaning."""
    if day is not None and (start is not None or end is not None):
        raise BadQuestion("day and start or end are given", "give a day, or the two ends of a stretch of time")
    if require not in (None, "proven"):
        raise BadQuestion(f"require={require!r} is not known", 'require="proven" is, or leave it out')
    first, last = bound("start", start, tz), bound("end", end, tz)
    if first is not None and type(first) is type(last) and first >= last:  # type: ignore[operator]
        raise BadQuestion(f"start ({start}) is not before end ({end})", "end is exclusive")
    known_by = None if as_of is None else moment_ms("as_of", as_of, tz)
    days = None if day is None else days_text(day)
    return Stretch(symbol_words(symbols), days, first, last, known_by, require is not None)


def symbol_words(symbols: Texts) -> tuple[str, ...]:
    """Symbols as typed, separated by commas too; empty for ``all``."""
    parts = _words("symbols", symbols)
    if not parts:
        raise BadQuestion("no symbol is given", 'symbols="all" means all of them')
    if any(part.startswith("@") for part in parts):
        raise BadQuestion("@file is for the command line", "pass a list of symbols")
    return () if ALL in parts else parts


def _words(name: str, texts: Texts) -> tuple[str, ...]:
    """The words of a text or of several, separated by commas, each once."""
    given = [texts] if isinstance(texts, str) or not isinstance(texts, Iterable) else list(texts)
    if not all(isinstance(text, str) for text in given):
        raise BadQuestion(f"{name} must be text, not {texts!r}", "write it in quotes, or give a list of texts")
    return tuple(dict.fromkeys(part.strip() for text in given for part in text.split(",") if part.strip()))


def type_words(types: Texts) -> tuple[str, ...]:
    """Kinds of trades, each one of ``TYPES``."""
    parts = _words("types", types)
    unknown = [part for part in parts if part not in TYPES]
    if unknown or not parts:
        raise BadQuestion(f"types={types!r}: no such kind of trades", f"there are {', '.join(TYPES)}")
    return (ALL,) if ALL in parts else parts


def snapshot_question(wanted: Stretch, series: Texts, *, every: bool, bodies: bool) -> SnapshotQuestion:
    """From the arguments of ``Recordings.load``. BadQuestion says which has no meaning for snapshots."""
    if wanted.as_of_ms is not None:
        raise BadQuestion("as_of is for ticks", "recv_ts_ms says when each snapshot was read")
    parts = _words("series", series)
    wrong = [part for part in parts if part != ALL and not _SERIES.fullmatch(part)]
    if wrong or not parts:
        raise BadQuestion(f"series={wrong or series!r}: no series", "write classic/gex_full, or all")
    return SnapshotQuestion(wanted, () if ALL in parts else parts, every, bodies)


def book_question(wanted: Stretch, form: str, depth: int) -> BookQuestion:
    """From the arguments of ``Recordings.load``. BadQuestion says which has no meaning for books."""
    if wanted.proven:
        raise BadQuestion(
            "order books can be witnessed, never proven: a push of a book has no number",
            "leave require out; the coverage says when they were watched",
        )
    if wanted.as_of_ms is not None:
        raise BadQuestion("as_of is for ticks: books are never stored later", "use end=, which is of the receive time")
    if form not in BOOK_FORMS:
        raise BadQuestion(f"form={form!r} is not known", f"there are {', '.join(BOOK_FORMS)}")
    if type(depth) is not int or not 1 <= depth <= MAX_BOOK_DEPTH:
        raise BadQuestion(f"depth={depth!r}: levels of a side, 1 to {MAX_BOOK_DEPTH}", "")
    return BookQuestion(wanted, form, depth)


def broker_question(wanted: Stretch) -> BookQuestion:
    """From the arguments of ``Recordings.load``. As ``book_question``."""
    return replace(book_question(wanted, BOOK_FORMS[0], MAX_BOOK_DEPTH), form=BROKERS)


def column_names(columns: Texts | None) -> tuple[str, ...]:
    """Columns of the table ``ticks``, in the order asked for; None for all."""
    if columns is None:
        return NAMES
    wanted = _words("columns", columns)
    unknown = [name for name in wanted if name not in NAMES]
    if unknown or not wanted:
        raise BadQuestion(f"no such column: {', '.join(unknown) or '(none)'}", f"there are {', '.join(NAMES)}")
    return wanted


def days_text(days: Days) -> str:
    """A day or several as text, separated by commas."""
    if isinstance(days, str | date) or not isinstance(days, Iterable):
        return day_text(days)
    named = ",".join(day_text(day) for day in days)
    if not named:
        raise BadQuestion("the list of days is empty", "leave day out for the newest recorded day")
    return named


def day_text(day: DayLike) -> str:
    """A day as text. A datetime at midnight without a zone is that day, as pandas writes one."""
    if isinstance(day, datetime) and (day.tzinfo is not None or day.time() != time.min):
        raise BadQuestion(f"day={day} is a moment, not a day", "write a date, or use start= and end=")
    return day.strftime("%Y%m%d") if isinstance(day, date) else str(day)


def bound(name: str, moment: Moment | None, tz: str | None) -> Bound | None:
    """An end of a stretch: a day as ``YYYYMMDD``, a moment as UTC epoch milliseconds."""
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = f"{moment:%Y-%m-%d}"
    if isinstance(moment, str) and _DAY.fullmatch(moment):
        day = moment.replace("-", "")
        try:
            parse_day(day)
        except ValueError as exc:
            raise BadQuestion(f"{name}={moment!r} is not a day", "write YYYYMMDD or YYYY-MM-DD") from exc
        _in_range(name, (datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1))
        return day
    return None if moment is None else moment_ms(name, moment, tz)


def moment_ms(name: str, moment: Moment, tz: str | None) -> int:
    """A moment as UTC epoch milliseconds. BadQuestion for one that names no zone, unless ``tz`` tells the clock."""
    if hasattr(moment, "__index__") and not isinstance(moment, bool):
        return milliseconds(name, int(moment))
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError as exc:
            raise BadQuestion(f"{name}={moment!r} is not a time", "write 2026-11-20T09:30+08:00") from exc
    if not isinstance(moment, datetime):
        raise BadQuestion(
            f"{name}={moment!r} is not a moment", "give a datetime with a zone, or UTC epoch milliseconds"
        )
    if moment.tzinfo is None:
        if tz is None:
            raise BadQuestion(
                f"{name}={moment.isoformat()} names no time zone",
                'write +08:00 behind it, or say whose clock it is on with tz="hk"',
            )
        moment = moment.replace(tzinfo=ZoneInfo(zone_name(tz)))
    try:
        return _in_range(name, (moment - _EPOCH) // timedelta(milliseconds=1))
    except OverflowError as exc:
        raise BadQuestion(f"{name}={moment} is out of range", _RANGE_HINT) from exc


def milliseconds(name: str, ms: int) -> int:
    """``ms``. BadQuestion when it must be seconds (as a moment in 1970 it would mean everything that is recorded), or
    is so far away that no calendar has a day for it."""
    if ms in _SECONDS:
        raise BadQuestion(f"{name}={ms} looks like seconds", "write milliseconds, a thousand times as much")
    return _in_range(name, ms)


def _in_range(name: str, ms: int) -> int:
    """Days and clocks can be told of it, and Arrow holds it."""
    if not _FIRST_MS <= ms < _AFTER_MS:
        raise BadQuestion(f"{name}={ms} is out of range", _RANGE_HINT)
    return ms


def zone_name(tz: str | None) -> str:
    """The name of a time zone: ``hk``, ``utc`` or one of the IANA database; UTC for None."""
    try:
        name = "UTC" if tz is None else ZONES.get(tz.lower(), tz)
        ZoneInfo(name)
    except (KeyError, ValueError, OSError, AttributeError, TypeError) as exc:
        raise BadQuestion(
            f"tz={tz!r} is not a time zone", 'write "utc", "hk" or a name such as America/New_York'
        ) from exc
    return name
