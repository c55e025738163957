"""What may be asked and what is answered, as pydantic models: the API's documents are made of them.

A parameter that no model has is refused, so that a misspelt one is not ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from hk_tick_collector.alert.outbox import MAX_MUTE_SEC
from hk_tick_collector.client.question import MAX_BOOK_DEPTH
from hk_tick_collector.records.columns import TICKS, Arrow

Format = Literal["json", "ndjson", "csv", "arrow", "parquet"]
DAY_PATTERN = r"^([0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}|today|yesterday|last)$"
MARKET_PATTERN = r"^[A-Za-z]{2,6}$"
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
MarketWord = Annotated[str, Field(pattern=MARKET_PATTERN)]


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

    symbols: str = Field(
        min_length=1, max_length=2000, pattern=r"^[A-Za-z0-9._,-]+$", examples=["HK.00700"],
        description="1 to 50 symbols separated by commas (700, HK.00700), or `all` for one day.",
    )  # fmt: skip
    day: str | None = Field(
        None, max_length=100, pattern=r"^[0-9a-z.,-]+$", examples=["20261120"],
        description="YYYYMMDD, today, yesterday, last, a range A..B, or several. Without a time: the newest day.",
    )  # fmt: skip
    start: str | None = Field(
        None, max_length=40, pattern=r"^[0-9TtZz:.+ -]+$", examples=["2026-11-20T09:30:00+08:00"],
        description="From this moment on: RFC 3339 with an offset, UTC epoch milliseconds, or YYYYMMDD.",
    )  # fmt: skip
    end: str | None = Field(
        None, max_length=40, pattern=r"^[0-9TtZz:.+ -]+$", description="Up to and without this moment; as start."
    )
    tz: str | None = Field(
        None, max_length=40, pattern=r"^[A-Za-z_/+-]+$",
        description="The zone of a start and end that name none, such as Asia/Hong_Kong.",
    )  # fmt: skip
    require: Literal["proven"] | None = Field(None, description="409 unless everything asked for is proven complete.")
    limit: int | None = Field(
        None, ge=1, le=MAX_PAGE_ROWS, description="Rows of a page. JSON: 10,000 by default; other formats: all of them."
    )
    cursor: str | None = Field(
        None, max_length=12_000, pattern=r"^[A-Za-z0-9._-]+$", description="`next` of the page before."
    )
    format: Format | None = Field(None, description="Instead of the header Accept.")
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
    as_of: int | None = Field(
        None, ge=0, le=10**14, description="Only what was stored at that moment, UTC epoch milliseconds."
    )


class CoverageQuery(Query):
    """Symbols and a stretch of time, to judge."""

    symbols: str = Field("all", min_length=1, max_length=2000, pattern=r"^[A-Za-z0-9._,-]+$")
    day: str | None = Field(None, max_length=100, pattern=r"^[0-9a-z.,-]+$")
    start: str | None = Field(None, max_length=40, pattern=r"^[0-9TtZz:.+ -]+$")
    end: str | None = Field(None, max_length=40, pattern=r"^[0-9TtZz:.+ -]+$")
    tz: str | None = Field(None, max_length=40, pattern=r"^[A-Za-z_/+-]+$")
    as_of: int | None = Field(None, ge=0, le=10**14)


class BarsQuery(Stretch):
    """Bars of ticks."""

    as_of: int | None = Field(
        None, ge=0, le=10**14, description="Only what was stored at that moment, UTC epoch milliseconds."
    )
    interval: str = Field("1m", pattern=r"^[0-9]{1,5}[smh]$", description="1s to 24h.", examples=["1m"])
    fill: Literal["none", "session"] = Field("none", description="session: bars without trades carry the last close.")
    auctions: bool = Field(True, description="Do auctions count?")
    odd_lots: bool = Field(False, description="Do odd lots count in volume?")
    off_exchange: bool = Field(False, description="Do trades off the exchange count in volume?")


class BrokersQuery(Query):
    """Recorded broker queues."""

    symbols: str = Field(
        min_length=1, max_length=2000, pattern=r"^[A-Za-z0-9._,-]+$", examples=["HK.00700"],
        description="1 to 50 symbols separated by commas (700, HK.00700), or `all` for one day.",
    )  # fmt: skip
    day: str | None = Field(
        None, max_length=100, pattern=r"^[0-9a-z.,-]+$", examples=["20261120"],
        description="YYYYMMDD, today, yesterday, last, a range A..B, or several. Without: the newest recorded.",
    )  # fmt: skip
    start: str | None = Field(
        None, max_length=40, pattern=r"^[0-9TtZz:.+ -]+$", examples=["2026-11-20T09:30:00+08:00"],
        description="Received from this moment on: RFC 3339 with an offset, UTC epoch milliseconds, or YYYYMMDD.",
    )  # fmt: skip
    end: str | None = Field(
        None, max_length=40, pattern=r"^[0-9TtZz:.+ -]+$", description="Up to and without this moment; as start."
    )
    tz: str | None = Field(
        None, max_length=40, pattern=r"^[A-Za-z_/+-]+$",
        description="The zone of a start and end that name none, such as Asia/Hong_Kong.",
    )  # fmt: skip
    limit: int | None = Field(
        None, ge=1, le=MAX_PAGE_ROWS, description="Rows of a page. JSON: 10,000 by default; other formats: all of them."
    )
    cursor: str | None = Field(
        None, max_length=12_000, pattern=r"^[A-Za-z0-9._-]+$", description="`next` of the page before."
    )
    format: Format | None = Field(None, description="Instead of the header Accept.")


class BooksQuery(BrokersQuery):
    """Recorded order books."""

    form: Literal["wide", "long", "quotes"] = Field(
        "wide",
        description="wide: a row a push; quotes: best prices where they change; long: a row a changed level.",
    )
    depth: int = Field(10, ge=1, le=MAX_BOOK_DEPTH, description="Levels of each side in the wide form.")


class SnapshotsQuery(Query):
    """Recorded snapshots."""

    symbols: str = Field(
        min_length=1, max_length=2000, pattern=r"^[A-Za-z0-9._,-]+$", examples=["US.SPX"],
        description="1 to 50 symbols separated by commas (US.SPX), or `all` for one day.",
    )  # fmt: skip
    series: str = Field(
        "all", min_length=1, max_length=2000, pattern=r"^[a-z0-9_/, ]+$", examples=["classic/gex_full"],
        description="Which series of each symbol: PACKAGE/CATEGORY, several with commas, or `all`.",
    )  # fmt: skip
    day: str | None = Field(
        None, max_length=100, pattern=r"^[0-9a-z.,-]+$", examples=["20261120"],
        description="YYYYMMDD, today, yesterday, last, a range A..B, or several. Without: the newest with snapshots.",
    )  # fmt: skip
    start: str | None = Field(
        None, max_length=40, pattern=r"^[0-9TtZz:.+ -]+$", examples=["2026-11-20T14:30:00Z"],
        description="Of this second on: RFC 3339 with an offset, UTC epoch milliseconds, or YYYYMMDD.",
    )  # fmt: skip
    end: str | None = Field(
        None, max_length=40, pattern=r"^[0-9TtZz:.+ -]+$", description="Up to and without this moment; as start."
    )
    tz: str | None = Field(
        None, max_length=40, pattern=r"^[A-Za-z_/+-]+$",
        description="The zone of a start and end that name none, such as America/New_York.",
    )  # fmt: skip
    every: bool = Field(False, description="Also the other snapshots of a second that has several that differ.")
    require: Literal["proven"] | None = Field(None, description="409 unless everything asked for is proven complete.")
    bodies: bool = Field(True, description="With the source's JSON object of each, as text in the column `body`.")
    limit: int | None = Field(
        None, ge=1, le=MAX_PAGE_ROWS, description="Rows of a page. JSON: 10,000 by default; other formats: all of them."
    )
    cursor: str | None = Field(
        None, max_length=12_000, pattern=r"^[A-Za-z0-9._-]+$", description="`next` of the page before."
    )
    format: Format | None = Field(None, description="Instead of the header Accept.")


class LatestBooksQuery(Query):
    """Newest order books."""

    symbols: str = Field(
        min_length=1, max_length=400, pattern=r"^[A-Za-z0-9._,-]+$", examples=["HK.00700"],
        description="1 to 10 symbols separated by commas.",
    )  # fmt: skip
    levels: int = Field(10, ge=1, le=MAX_BOOK_DEPTH, description="The best so many of each side.")


class LatestQuery(Query):
    """Newest ticks."""

    symbols: str = Field(
        min_length=1, max_length=2000, pattern=r"^[A-Za-z0-9._,-]+$", examples=["HK.00700"],
        description="1 to 50 symbols separated by commas.",
    )  # fmt: skip
    n: int = Field(1, ge=1, le=1000, description="How many of each symbol.")
    format: Format | None = Field(None, description="Instead of the header Accept.")


class DaysQuery(OfMarket):
    """Recorded days."""

    first: str | None = Field(None, pattern=r"^[0-9]{8}$", description="YYYYMMDD; no day before.")
    last: str | None = Field(None, pattern=r"^[0-9]{8}$", description="YYYYMMDD; no day after.")
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

    first: str | None = Field(None, pattern=r"^[0-9]{8}$", description="YYYYMMDD; today by default.")
    days: int = Field(7, ge=1, le=400, description="How many calendar days.")


class SqlQuery(OfMarket):
    """A question in SQL."""

    sql: str = Field(
        min_length=1, max_length=20_000, examples=["SELECT symbol, count(*) AS n FROM ticks GROUP BY 1 ORDER BY 2"],
        description="One SELECT in DuckDB's dialect over `ticks`, `coverage`, `gaps`, `symbols`, `books`, `quotes`, "
        "`brokers`, `snapshots` and `all_snapshots`.",
    )  # fmt: skip
    day: str | None = Field(
        None, max_length=100, pattern=r"^[0-9a-z.,-]+$", examples=["20261120"],
        description="The days whose rows the tables hold, 100 at most; as in /v1/ticks. The newest one without.",
    )  # fmt: skip
    symbols: str | None = Field(
        None, min_length=1, max_length=2000, pattern=r"^[A-Za-z0-9._,-]+$", description="Only rows of these symbols."
    )
    limit: int = Field(PAGE_ROWS, ge=1, le=MAX_PAGE_ROWS, description="The answer has no more rows than this.")
    format: Format | None = Field(None, description="Instead of the header Accept.")


class RealtimeQuery(Query):
    """The newest ticks, in the words of an earlier server."""

    symbols: str = Field(min_length=1, max_length=2000, pattern=r"^[A-Za-z0-9._,-]+$", examples=["HK.00700"])
    limit: int = Field(100, ge=1, le=1000)


class HistoricalQuery(Query):
    """Ticks or bars of a stretch of time, in the words of an earlier server."""

    symbols: str = Field(min_length=1, max_length=2000, pattern=r"^[A-Za-z0-9._,-]+$", examples=["HK.00700"])
    start_time: str = Field(max_length=40, pattern=r"^[0-9TtZz:.+ -]+$", examples=["2026-11-20T00:00:00Z"])
    end_time: str = Field(max_length=40, pattern=r"^[0-9TtZz:.+ -]+$", examples=["2026-11-21T00:00:00Z"])
    interval: str | None = Field(None, pattern=r"^([0-9]{1,5}[smh]|tick)$", examples=["1h"])
    limit: int = Field(PAGE_ROWS, ge=1, le=MAX_PAGE_ROWS)
    cursor: str | None = Field(None, max_length=12_000, pattern=r"^[A-Za-z0-9._-]+$")


# Answers


class NotProven(BaseModel):
    """A symbol's day that is not proven."""

    day: str
    symbol: str
    state: Literal["missing", "unproven", "not_recorded"]
    missing_ticks: int
    missing_at_most: int | None = Field(
        description="Besides, up to so many that nothing counts, as before the first one seen; null: none."
    )
    reason: str | None


class Coverage(BaseModel):
    """How complete the symbols and days of an answer are: how many symbol-days are in each state."""

    state: Literal["proven", "missing", "unproven"]
    proven: int
    missing: int
    unproven: int
    not_recorded: int
    missing_ticks: int
    not_proven: list[NotProven]


class AsOf(BaseModel):
    """The state that all pages of an answer are of."""

    at_ms: int
    position: str | None = Field(description="Where the live channel goes on without a hole.")


_JSON_TYPES: dict[Arrow, Any] = {Arrow.TEXT: str, Arrow.UTC_MS: int, Arrow.INT64: int, Arrow.FLOAT64: float}
_tick_fields: dict[str, Any] = {
    column.name: (
        (str if column.name == "seq" else _JSON_TYPES[column.arrow] | (str if column.arrow is Arrow.FLOAT64 else None))
        | None,
        None,
    )
    for column in TICKS
}
Tick = create_model("Tick", __config__=ConfigDict(extra="allow"), **_tick_fields)
Tick.__doc__ = "A tick; fields leaves columns out. seq is text: it is beyond 2^53."


class Bar(BaseModel):
    """A bar. Its start is in it, its end is not."""

    model_config = ConfigDict(extra="allow")

    symbol: str
    trading_day: str
    start_ms: int
    open: float | str | None
    high: float | str | None
    low: float | str | None
    close: float | str | None
    vwap: float | str | None
    volume: int
    turnover: float | str
    tick_count: int
    buy_volume: int
    sell_volume: int
    neutral_volume: int
    end_ms: int
    is_final: bool


class _Page(BaseModel):
    next: str | None
    as_of: AsOf
    coverage: Coverage
    warnings: list[str]


class TicksAnswer(_Page):
    """A page of ticks."""

    data: list[Tick]  # type: ignore[valid-type]


class BarsAnswer(_Page):
    """A page of bars."""

    data: list[Bar]


class NotWatched(BaseModel):
    """A symbol's day whose order books were not watched all the time."""

    day: str
    symbol: str
    state: Literal["blind", "not_recorded"]
    merged_pushes: int
    reason: str | None


class BooksCoverage(BaseModel):
    """How well order books, or broker queues, of an answer were watched: nobody can prove that none is missing."""

    state: Literal["watched", "blind"]
    watched: int
    blind: int
    not_recorded: int
    merged_pushes: int = Field(description="Passed over because the recorder's disk was behind.")
    not_watched: list[NotWatched]


class BooksAnswer(BaseModel):
    """A page of order books, in one of three forms. `recv_ts_us` is UTC epoch microseconds of receipt, `bid_ts_ms`,
    `ask_ts_ms` and `side_ts_ms` are milliseconds at the source's server."""

    data: list[dict[str, Any]]
    next: str | None
    as_of: AsOf
    coverage: BooksCoverage
    warnings: list[str]


class BrokerPlace(BaseModel):
    """A broker's place in a queue. Of a push of another queue (`kind` F) each broker in it is a row; a push of the same
    queue (S), and a moment from which the queue is not known (B), are one row without a side."""

    symbol: str
    recv_ts_us: int = Field(description="UTC epoch microseconds of receipt: the source sends no time of a queue.")
    update_no: int
    kind: Literal["F", "S", "B"]
    merged: int = Field(description="Pushes before this one that were passed over because the disk was behind.")
    side: Literal["bid", "ask"] | None
    place: int | None = Field(description="From 1, the first come.")
    level: int | None = Field(description="Of price; 1 is the best.")
    broker_id: int | None
    broker: str | None = Field(description="Its name, as the source said it first.")


class BrokersAnswer(BaseModel):
    """A page of broker queues."""

    data: list[BrokerPlace]
    next: str | None
    as_of: AsOf
    coverage: BooksCoverage
    warnings: list[str]


class Snapshot(BaseModel):
    """A snapshot of a second. `body`, where it is asked for: the source's JSON object as it came."""

    symbol: str
    package: str
    category: str
    ts_ms: int = Field(description="The source's second.")
    recv_ts_ms: int = Field(description="When the recorder read it.")
    origin: Literal["live", "copy"] = Field(description="copy: from the source's file of the whole day.")
    spot: float | None
    zero_gamma: float | None
    snapshot_no: int
    body: str | None = None


class SnapshotsAnswer(_Page):
    """A page of snapshots. Counts of `coverage` are of snapshots, and of seconds that are missing."""

    data: list[Snapshot]


class SeriesState(BaseModel):
    """How the newest day of a series goes. Nothing is judged: the source leaves seconds out, and its own file of the
    day tells which."""

    root: int = Field(description="The number of its data root.")
    symbol: str
    package: str
    category: str
    held: int = Field(description="Seconds of trading so far of which a snapshot is stored.")
    missed: int = Field(description="Those of which none is.")
    last_ts_ms: int | None = Field(description="The newest second.")
    age_sec: int | None = Field(description="Of the newest second.")


class SeriesAnswer(BaseModel):
    """Each series of the newest day of snapshots."""

    data: list[SeriesState]
    unreadable: list[int] = Field(
        description="The numbers of data roots that cannot be read now; where none can, the answer is their problem."
    )


class BookLevel(BaseModel):
    """A price of a side, with its shares and how many orders they are."""

    price: float
    volume: int
    orders: int


class NewestBook(BaseModel):
    """A symbol's newest order book. `watched` false: nobody would tell of a change since."""

    symbol: str
    day: str
    recv_ts_us: int
    bid_ts_ms: int | None
    ask_ts_ms: int | None
    watched: bool
    bids: list[BookLevel]
    asks: list[BookLevel]


class NewestBooksAnswer(BaseModel):
    """Of the symbols that there is a book of."""

    data: list[NewestBook]
    at_ms: int


class SqlAnswer(BaseModel):
    """The rows of a question in SQL, under the names of its columns; whole numbers beyond 2^53 are text."""

    data: list[dict[str, Any]]
    truncated: bool = Field(description="Are there more rows than limit?")
    as_of: AsOf
    coverage: Coverage
    warnings: list[str]


class DayLine(BaseModel):
    """A recorded day."""

    model_config = ConfigDict(extra="allow")

    day: str
    market: str
    state: Literal["live", "over", "damaged", "away"] = Field(
        description="`away`: it is in a ClickHouse that does not answer now."
    )


class DaysAnswer(BaseModel):
    """Recorded days."""

    data: list[DayLine]


class CoverageAnswer(BaseModel):
    """Verdicts by day and symbol."""

    data: list[dict[str, Any]]


class DayRows(BaseModel):
    """Rows about a day."""

    model_config = ConfigDict(extra="allow")

    day: str
    data: list[dict[str, Any]]


class CalendarAnswer(BaseModel):
    """Days of a market."""

    market: str
    zone: str
    data: list[dict[str, Any]]


class Anything(BaseModel):
    """An object."""

    model_config = ConfigDict(extra="allow")


class AlertsQuery(Query):
    """What was told."""

    limit: int = Field(100, ge=1, le=500, description="The newest so many letters.")


class AlertsAnswer(BaseModel):
    """What hk-tick-alert has in its outbox; times are UTC epoch milliseconds."""

    is_on: bool = Field(description="Is there an outbox that this server may read (ALERT_DIR)?")
    letters: list[dict[str, Any]] = Field(description="The newest first: target, level, lines, sent_ms, given_up_ms.")
    events: list[dict[str, Any]] = Field(description="What is wrong now: code, level, sentence, began_ms, fired_ms.")
    mutes: dict[str, int] = Field(description="Codes nobody is told about, and until when.")


class MuteQuery(Query):
    """What nobody shall be told about for a while."""

    code: str = Field(description="A rule of hk-tick-alert: ticks_late.", max_length=40, pattern="^[a-z_]+$")
    for_sec: int = Field(3600, ge=0, le=MAX_MUTE_SEC, description="So long; 0 ends it.")


class MuteAnswer(BaseModel):
    """What is muted, and until when (UTC epoch milliseconds)."""

    code: str
    until_ms: int


class RestartQuery(Query):
    """Whose feed is restarted."""

    source: str = Field(description="`data_root` of a root in GET /v1/status: HK.", min_length=1, max_length=255)


class RestartAnswer(BaseModel):
    """What was asked for, and when (UTC epoch milliseconds). It is done once the status has a later
    `restarted_at_ms`."""

    source: str
    asked_at_ms: int


class Health(BaseModel):
    """Does the server work?"""

    ok: bool


class AliasAnswer(BaseModel):
    """Rows and what is said of them."""

    success: bool
    data: list[dict[str, Any]]
    metadata: dict[str, Any]


class FieldProblem(BaseModel):
    """A parameter that is wrong."""

    field: str
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457, and what to do."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    hint: str
    request_id: str
    errors: list[FieldProblem]
