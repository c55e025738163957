"""What may be asked, as pydantic models: the bounds of each parameter, and its words in the API's documents.

A parameter that no model has is refused, so that a misspelt one is not ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hk_tick_collector.alert.outbox import MAX_MUTE_SEC
from hk_tick_collector.client.question import MAX_BOOK_DEPTH

Format = Literal["json", "ndjson", "csv", "arrow", "parquet"]
DAY_PATTERN = r"^([0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}|today|yesterday|last)$"
MARKET_PATTERN = r"^[A-Za-z]{2,6}$"
SYMBOLS_PATTERN = r"^[A-Za-z0-9._,-]+$"
MOMENT_PATTERN = r"^[0-9TtZz:.+ -]+$"
PAGE_ROWS, MAX_PAGE_ROWS = 10_000, 100_000

# What a parameter's text looks like, for who wrote another one: its pattern is no answer. ``path.``: in the path.
_DAY_FORM, _TIME_FORM = "20261120", "2026-11-20T09:30:00+08:00, UTC epoch milliseconds or 20261120"
FORMS = {
    "symbols": "700 or HK.00700, several separated by commas",
    "series": "classic/gex_full, several separated by commas",
    "day": "20261120, today, yesterday, last, or a range 20261120..20261124",
    "path.day": "one day: 20261120, 2026-11-20, today, yesterday or last",
    **dict.fromkeys(("start", "end", "start_time", "end_time"), _TIME_FORM),
    **dict.fromkeys(("first", "last"), _DAY_FORM),
    "tz": "Asia/Hong_Kong",
    "interval": "a number and s, m or h, as in 5m",
    "types": "all, or some of price, odd_lots and off_exchange, separated by commas",
    "fields": "columns separated by commas, as in ts_ms,price",
    "cursor": "the text that the page before has as next",
    "market": "HK",
    "code": "a rule's code, as in ticks_late",
    "name": "letters in lower case, digits and -, as in ml-trade",
}

Market = Annotated[str | None, Field(pattern=MARKET_PATTERN, description="A market that is served, such as HK.")]
DayWord = Annotated[str, Field(pattern=DAY_PATTERN, description="YYYYMMDD, today, yesterday or last.")]

# Parameters that several questions have: the bounds of each, and the words where all say the same of it.
Symbols = Annotated[str, Field(min_length=1, max_length=2000, pattern=SYMBOLS_PATTERN)]
SymbolsOrAll = Annotated[
    Symbols,
    Field(
        examples=["HK.00700"],
        description="1 to 50 symbols separated by commas (700, HK.00700), or `all` for one day.",
    ),
]
Days = Annotated[str | None, Field(max_length=100, pattern=r"^[0-9a-z.,-]+$")]
Moment = Annotated[str | None, Field(max_length=40, pattern=MOMENT_PATTERN)]
End = Annotated[Moment, Field(description="Up to and without this moment; as start.")]
ZoneName = Annotated[str | None, Field(max_length=40, pattern=r"^[A-Za-z_/+-]+$")]
ZoneOfTimes = Annotated[
    ZoneName, Field(description="The zone of a start and end that name none, such as Asia/Hong_Kong.")
]
Require = Annotated[Literal["proven"] | None, Field(description="409 unless everything asked for is proven complete.")]
AsOf = Annotated[int | None, Field(ge=0, le=10**14)]
AsOfTold = Annotated[AsOf, Field(description="Only what was stored at that moment, UTC epoch milliseconds.")]
PageLimit = Annotated[
    int | None,
    Field(ge=1, le=MAX_PAGE_ROWS, description="Rows of a page. JSON: 10,000 by default; other formats: all of them."),
]
Cursor = Annotated[str | None, Field(max_length=12_000, pattern=r"^[A-Za-z0-9._-]+$")]
NextCursor = Annotated[Cursor, Field(description="`next` of the page before.")]
FormatInstead = Annotated[Format | None, Field(description="Instead of the header Accept.")]
FirstDay = Annotated[str | None, Field(pattern=r"^[0-9]{8}$")]


class Query(BaseModel):
    """A set of parameters."""

    model_config = ConfigDict(extra="forbid")


class Nothing(Query):
    """No parameter at all."""


class OfMarket(Query):
    """Which market."""

    market: Market = None


class Stretch(Query):
    """Symbols and a stretch of time."""

    symbols: SymbolsOrAll
    day: Days = Field(
        None, examples=["20261120"],
        description="YYYYMMDD, today, yesterday, last, a range A..B, or several. Without a time: the newest day.",
    )  # fmt: skip
    start: Moment = Field(
        None, examples=["2026-11-20T09:30:00+08:00"],
        description="From this moment on: RFC 3339 with an offset, UTC epoch milliseconds, or YYYYMMDD.",
    )  # fmt: skip
    end: End = None
    tz: ZoneOfTimes = None
    require: Require = None
    limit: PageLimit = None
    cursor: NextCursor = None
    format: FormatInstead = None
    time: Literal["ms", "iso", "hk"] = Field(
        "ms", description="Times are UTC epoch milliseconds; iso or hk (the market's clock) adds them as text."
    )
    prices: Literal["number", "text"] = Field("number", description="text: prices as exact decimals in text.")


class TicksQuery(Stretch):
    """Stored ticks."""

    types: str = Field(
        "all", pattern=r"^(all|(price|odd_lots|off_exchange)(,(price|odd_lots|off_exchange)){0,2})$",
        description="all, or some of price, odd_lots, off_exchange.",
    )  # fmt: skip
    fields: str | None = Field(
        None, max_length=1000, pattern=r"^[a-z_,0-9]+$", description="Columns separated by commas; all without."
    )
    order: Literal["asc"] = Field("asc", description="By day, symbol, time and sequence.")
    as_of: AsOfTold = None


class CoverageQuery(Query):
    """Symbols and a stretch of time, to judge."""

    symbols: Symbols = "all"
    day: Days = None
    start: Moment = None
    end: Moment = None
    tz: ZoneName = None
    as_of: AsOf = None


class BarsQuery(Stretch):
    """Bars of ticks."""

    as_of: AsOfTold = None
    interval: str = Field("1m", pattern=r"^[0-9]{1,5}[smh]$", description="1s to 24h.", examples=["1m"])
    fill: Literal["none", "session"] = Field("none", description="session: bars without trades carry the last close.")
    auctions: bool = Field(True, description="Do auctions count?")
    odd_lots: bool = Field(False, description="Do odd lots count in volume?")
    off_exchange: bool = Field(False, description="Do trades off the exchange count in volume?")


class BrokersQuery(Query):
    """Recorded broker queues."""

    symbols: SymbolsOrAll
    day: Days = Field(
        None, examples=["20261120"],
        description="YYYYMMDD, today, yesterday, last, a range A..B, or several. Without: the newest recorded.",
    )  # fmt: skip
    start: Moment = Field(
        None, examples=["2026-11-20T09:30:00+08:00"],
        description="Received from this moment on: RFC 3339 with an offset, UTC epoch milliseconds, or YYYYMMDD.",
    )  # fmt: skip
    end: End = None
    tz: ZoneOfTimes = None
    limit: PageLimit = None
    cursor: NextCursor = None
    format: FormatInstead = None


class BooksQuery(BrokersQuery):
    """Recorded order books."""

    form: Literal["wide", "long", "quotes"] = Field(
        "wide",
        description="wide: a row a push; quotes: best prices where they change; long: a row a changed level.",
    )
    depth: int = Field(10, ge=1, le=MAX_BOOK_DEPTH, description="Levels of each side in the wide form.")


class SnapshotsQuery(Query):
    """Recorded snapshots."""

    symbols: Symbols = Field(
        examples=["US.SPX"], description="1 to 50 symbols separated by commas (US.SPX), or `all` for one day."
    )
    series: str = Field(
        "all", min_length=1, max_length=2000, pattern=r"^[a-z0-9_/, ]+$", examples=["classic/gex_full"],
        description="Which series of each symbol: PACKAGE/CATEGORY, several with commas, or `all`.",
    )  # fmt: skip
    day: Days = Field(
        None, examples=["20261120"],
        description="YYYYMMDD, today, yesterday, last, a range A..B, or several. Without: the newest with snapshots.",
    )  # fmt: skip
    start: Moment = Field(
        None, examples=["2026-11-20T14:30:00Z"],
        description="Of this second on: RFC 3339 with an offset, UTC epoch milliseconds, or YYYYMMDD.",
    )  # fmt: skip
    end: End = None
    tz: ZoneName = Field(None, description="The zone of a start and end that name none, such as America/New_York.")
    every: bool = Field(False, description="Also the other snapshots of a second that has several that differ.")
    require: Require = None
    bodies: bool = Field(True, description="With the source's JSON object of each, as text in the column `body`.")
    limit: PageLimit = None
    cursor: NextCursor = None
    format: FormatInstead = None


class LatestBooksQuery(Query):
    """Newest order books."""

    symbols: str = Field(
        min_length=1, max_length=400, pattern=SYMBOLS_PATTERN, examples=["HK.00700"],
        description="1 to 10 symbols separated by commas.",
    )  # fmt: skip
    levels: int = Field(10, ge=1, le=MAX_BOOK_DEPTH, description="The best so many of each side.")


class LatestQuery(Query):
    """Newest ticks."""

    symbols: Symbols = Field(examples=["HK.00700"], description="1 to 50 symbols separated by commas.")
    n: int = Field(1, ge=1, le=1000, description="How many of each symbol.")
    format: FormatInstead = None


class DaysQuery(OfMarket):
    """Recorded days."""

    first: FirstDay = Field(None, description="YYYYMMDD; no day before.")
    last: FirstDay = Field(None, description="YYYYMMDD; no day after.")
    limit: int = Field(400, ge=1, le=4000, description="The newest so many.")


class GapsQuery(OfMarket):
    """What is missing."""

    state: Literal["open", "closed", "all"] = "open"


class CertificateQuery(OfMarket):
    """A day's certificate."""

    format: Literal["json", "html"] = Field("json", description="html: the page with plots; every row is read for it.")


class TopQuery(OfMarket):
    """A ranking."""

    by: Literal["turnover", "ticks", "volatility"] = "turnover"
    limit: int = Field(20, ge=1, le=1000)


class CalendarQuery(OfMarket):
    """Trading days."""

    first: FirstDay = Field(None, description="YYYYMMDD; today by default.")
    days: int = Field(7, ge=1, le=400, description="How many calendar days.")


class SqlQuery(OfMarket):
    """A question in SQL."""

    sql: str = Field(
        min_length=1, max_length=20_000, examples=["SELECT symbol, count(*) AS n FROM ticks GROUP BY 1 ORDER BY 2"],
        description="One SELECT in DuckDB's dialect over `ticks`, `coverage`, `gaps`, `symbols`, `books`, `quotes`, "
        "`brokers`, `snapshots` and `all_snapshots`.",
    )  # fmt: skip
    day: Days = Field(
        None, examples=["20261120"],
        description="The days whose rows the tables hold, 100 at most; as in /v1/ticks. The newest one without.",
    )  # fmt: skip
    symbols: Symbols | None = Field(None, description="Only rows of these symbols.")
    limit: int = Field(PAGE_ROWS, ge=1, le=MAX_PAGE_ROWS, description="The answer has no more rows than this.")
    format: FormatInstead = None


class RealtimeQuery(Query):
    """The newest ticks, in the words of an earlier server."""

    symbols: Symbols = Field(examples=["HK.00700"])
    limit: int = Field(100, ge=1, le=1000)


class HistoricalQuery(Query):
    """Ticks or bars of a stretch of time, in the words of an earlier server."""

    symbols: Symbols = Field(examples=["HK.00700"])
    start_time: str = Field(max_length=40, pattern=MOMENT_PATTERN, examples=["2026-11-20T00:00:00Z"])
    end_time: str = Field(max_length=40, pattern=MOMENT_PATTERN, examples=["2026-11-21T00:00:00Z"])
    interval: str | None = Field(None, pattern=r"^([0-9]{1,5}[smh]|tick)$", examples=["1h"])
    limit: int = Field(PAGE_ROWS, ge=1, le=MAX_PAGE_ROWS)
    cursor: Cursor = None


class AlertsQuery(Query):
    """What was told."""

    limit: int = Field(100, ge=1, le=500, description="The newest so many letters.")


class MuteQuery(Query):
    """What nobody shall be told about for a while."""

    code: str = Field(description="A rule of hk-tick-alert: ticks_late.", max_length=40, pattern="^[a-z_]+$")
    for_sec: int = Field(3600, ge=0, le=MAX_MUTE_SEC, description="So long; 0 ends it.")


class RestartQuery(Query):
    """Whose feed is restarted."""

    source: str = Field(description="`data_root` of a root in GET /v1/status: HK.", min_length=1, max_length=255)
