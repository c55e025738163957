"""What is answered, as pydantic models: the API's documents are made of them.

No answer goes through them: routes send what a reading process wrote, or bytes of their own, and tests hold these
against the models. Errors are here too, as ``serve.problems`` writes them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from hk_tick_collector.records.columns import TICKS, Arrow


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


class AlertsAnswer(BaseModel):
    """What hk-tick-alert has in its outbox; times are UTC epoch milliseconds."""

    is_on: bool = Field(description="Is there an outbox that this server may read (ALERT_DIR)?")
    letters: list[dict[str, Any]] = Field(description="The newest first: target, level, lines, sent_ms, given_up_ms.")
    events: list[dict[str, Any]] = Field(description="What is wrong now: code, level, sentence, began_ms, fired_ms.")
    mutes: dict[str, int] = Field(description="Codes nobody is told about, and until when.")


class MuteAnswer(BaseModel):
    """What is muted, and until when (UTC epoch milliseconds)."""

    code: str
    until_ms: int


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
