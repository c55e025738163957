"""``Recordings``: the calls of the Python API; and ``Backend``, what answers them: local files, or a server.

``Recordings`` checks what was asked, warns, and turns tables into what was asked for. It is the same class for both,
so that the same call gives the same table wherever the ticks are. A ``Backend`` answers checked questions.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, Unpack, overload

from hk_tick_collector.client import question as asked
from hk_tick_collector.client.answer import Answer
from hk_tick_collector.client.coverage import Coverage, DayInfo
from hk_tick_collector.client.errors import BadQuestion, IncompleteData, NotProven
from hk_tick_collector.client.question import (
    BarQuestion,
    BookQuestion,
    DayLike,
    Days,
    Moment,
    SnapshotQuestion,
    Stretch,
    Texts,
    TickQuestion,
)

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from hk_tick_collector.client.live import Live

_PACKAGE = "hk_tick_collector."
To = Literal["arrow", "polars", "pandas", "duckdb"]
Kind = Literal["tick", "book", "broker", "snapshot"]
BookForm = Literal["wide", "long", "quotes"]


class StretchOptions(TypedDict, total=False):
    """For type checkers: the options that ``load`` and ``bars`` share."""

    start: Moment | None
    end: Moment | None
    require: Literal["proven"] | None
    as_of: Moment | None
    tz: str | None


class TickOptions(StretchOptions, total=False):
    """For type checkers: the options of ``load``."""

    columns: Texts | None
    types: Texts
    kind: Kind
    form: BookForm
    depth: int
    series: Texts
    every: bool
    bodies: bool


class BarOptions(StretchOptions, total=False):
    """For type checkers: the options of ``bars``."""

    fill: bool
    auctions: bool
    odd_lots: bool
    off_exchange: bool


class Backend(Protocol):
    """Where recordings are. One that holds a list would be::

        class InMemory:
            def __init__(self, table: pa.Table) -> None:
                self.table = table  # of days.schema.TICKS

            def ticks(self, question: TickQuestion) -> Answer:
                rows = self.table.filter(...).select(list(question.columns))
                coverage = self.coverage(question.stretch)
                return Answer(rows.schema, coverage, iter(rows.to_batches()))

            def bars(self, question: BarQuestion) -> Answer:
                bars = make_bars(self.table.filter(...), parse_interval_ms(question.interval), HK)
                return Answer(bars.schema, self.coverage(question.stretch), iter(bars.to_batches()))

            def books(self, question: BookQuestion) -> Answer:
                raise NoData("no order books are recorded here")

            def snapshots(self, question: SnapshotQuestion) -> Answer:
                raise NoData("no snapshots are recorded here")

            def coverage(self, stretch: Stretch) -> Coverage:
                return Coverage([SymbolCoverage("20261127", "HK.00700", "unproven", "nobody counted", ...)])

            def days(self) -> list[DayInfo]: ...
            def certificate(self, day: str) -> dict[str, Any]: ...
            def live(self, symbols: Texts, **options: Any) -> Any: ...
            def close(self) -> None: ...

        Recordings(InMemory(table)).load("700", "20261127", to="polars")

    Every method raises ``client.errors.RecordingsError`` and nothing else for what a user can meet. Rows come by
    trading day, symbol, time, sequence (those without a sequence last). A symbol without a row among others is no
    error: its coverage says so. When no tick of any is recorded on these days, that is NoData or UnknownSymbol; a
    stretch without a tick gives no rows.
    """

    def ticks(self, question: TickQuestion) -> Answer:
        """The ticks asked for. ``proven`` is the caller's to hold: a server may refuse by itself (NotProven)."""

    def bars(self, question: BarQuestion) -> Answer:
        """The bars asked for; the coverage is that of their ticks."""

    def books(self, question: BookQuestion) -> Answer:
        """The order books asked for, by trading day and as they were received; the coverage says what was watched."""

    def snapshots(self, question: SnapshotQuestion) -> Answer:
        """The snapshots asked for, by trading day and second; the coverage says what of the grid was seen."""

    def coverage(self, stretch: Stretch) -> Coverage:
        """How complete these symbols and days are."""

    def days(self) -> list[DayInfo]:
        """What is recorded, oldest first; of several data roots, by market."""

    def certificate(self, day: str) -> dict[str, Any]:
        """A day's certificate, as ``hk-tickctl day --json`` shows it."""

    def live(self, symbols: Texts, **options: Any) -> Live:
        """Ticks as they are recorded (``client.live``)."""

    def close(self) -> None:
        """Give back what is held. Twice is fine."""


class Recordings:
    """Recorded ticks, wherever they are. Made by ``hk.local`` and ``hk.connect``; a context manager.

    Where nothing else is said: ``symbols`` is ``"700"``, ``"HK.00700"``, several, or ``"all"``. ``day`` is a date,
    ``"20261127"``, ``"2026-11-27"``, ``"last"``, ``"today"``, ``"yesterday"``, a range ``"20261102..20261127"`` (both
    ends in it) or several (a list, or commas). Instead of it ``start`` and ``end``, a date or a moment each: start
    inclusive, **end exclusive**; a date stands for the beginning of that trading day. Neither: the newest recorded day.

    A moment is a datetime with a zone, ISO 8601 with an offset, or UTC epoch milliseconds. One without a zone is
    refused, unless ``tz`` says whose clock it is on. ``tz`` also sets the zone of the timestamps that come back:
    None is UTC, ``"hk"`` Hong Kong, or a name such as ``"America/New_York"``.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def __enter__(self) -> Recordings:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back connections and files."""
        self.backend.close()

    @overload
    def load(
        self, symbols: Texts, day: Days | None = None, *, to: Literal["arrow"] = "arrow", **options: Unpack[TickOptions]
    ) -> pa.Table: ...
    @overload
    def load(
        self, symbols: Texts, day: Days | None = None, *, to: Literal["polars"], **options: Unpack[TickOptions]
    ) -> pl.DataFrame: ...
    @overload
    def load(
        self, symbols: Texts, day: Days | None = None, *, to: Literal["pandas"], **options: Unpack[TickOptions]
    ) -> pd.DataFrame: ...
    @overload
    def load(
        self, symbols: Texts, day: Days | None = None, *, to: Literal["duckdb"], **options: Unpack[TickOptions]
    ) -> duckdb.DuckDBPyRelation: ...
    def load(
        self,
        symbols: Texts,
        day: Days | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        columns: Texts | None = None,
        types: Texts = asked.ALL,
        kind: Kind = "tick",
        form: BookForm = "wide",
        depth: int = 10,
        series: Texts = asked.ALL,
        every: bool = False,
        bodies: bool = True,
        to: To = "arrow",
        require: Literal["proven"] | None = None,
        as_of: Moment | None = None,
        tz: str | None = None,
    ) -> Any:
        """Ticks as one table, by trading day, symbol, time and sequence (those without a sequence last).

        Parameters
        ----------
        columns
            Of the table ``ticks`` (``records.columns.TICKS``), in this order; all when not given.
        types
            ``"all"``: every row as stored, those whose price or volume is 0 ("none") too. Otherwise one or more of
            ``"price"`` (trades that make the price, auctions among them), ``"odd_lots"``, ``"off_exchange"``; rows
            without a price or a volume are then left out.
        kind
            ``"tick"``, or ``"book"``: order books, by trading day and in the order in which they were received. Of
            them ``start`` and ``end`` are of the receive time; ``columns``, ``types``, ``require`` and ``as_of`` are
            for ticks. ``"broker"``: the broker queues in them, likewise; ``days.brokers`` has the columns.
            Or ``"snapshot"``: a source's computed snapshots, by second (``days.snapshots`` has the columns).
        series, every, bodies
            Of snapshots: which (``"classic/gex_full"``, several, or all); every snapshot of a second that has several,
            instead of the one that was seen first; the JSON object of each in the column ``body``.
        form, depth
            Of order books: ``"wide"``, a row a push with the ``depth`` best levels of each side; ``"quotes"``, the best
            prices where they change; ``"long"``, a row a changed level. ``days.books`` has the columns.
        to
            ``"arrow"`` (``pyarrow.Table``), ``"polars"``, ``"pandas"`` (whole numbers with Arrow's type: ``seq`` stays
            int64), or ``"duckdb"`` (a relation).
        require
            ``"proven"``: NotProven unless it is proven of every symbol and day that nothing is missing.
        as_of
            Only rows that were stored by then: what was backfilled later is no look-ahead.

        Raises
        ------
        BadQuestion, NoData, NotProven, DayPacked, Damaged, Unreadable: see ``client.errors``.

        Warns
        -----
        IncompleteData: once, when a symbol or day is not proven; of order books, when one was not watched all the time.
        """
        _check_output(to, tz)
        answer = self._answer(
            symbols, day, kind, form, depth, start=start, end=end, columns=columns, types=types, require=require,
            as_of=as_of, tz=tz, series=series, every=every, bodies=bodies,
        )  # fmt: skip
        return _converted(answer, to, tz)

    def iter_batches(
        self,
        symbols: Texts,
        day: Days | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        columns: Texts | None = None,
        types: Texts = asked.ALL,
        kind: Kind = "tick",
        form: BookForm = "wide",
        depth: int = 10,
        series: Texts = asked.ALL,
        every: bool = False,
        bodies: bool = True,
        require: Literal["proven"] | None = None,
        as_of: Moment | None = None,
        tz: str | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows of ``load`` as record batches, read as they are taken: for what does not fit in memory.

        Arguments, errors and the warning as of ``load``; they come before the first batch.
        """
        answer = self._answer(
            symbols, day, kind, form, depth, start=start, end=end, columns=columns, types=types, require=require,
            as_of=as_of, tz=tz, series=series, every=every, bodies=bodies,
        )  # fmt: skip
        from hk_tick_collector.client.outputs import batches_in_zone  # noqa: PLC0415 - Arrow takes its time

        return batches_in_zone(answer, asked.zone_name(tz))

    @overload
    def bars(
        self,
        symbols: Texts,
        day: Days | None = None,
        interval: str = "1m",
        *,
        to: Literal["arrow"] = "arrow",
        **options: Unpack[BarOptions],
    ) -> pa.Table: ...
    @overload
    def bars(
        self,
        symbols: Texts,
        day: Days | None = None,
        interval: str = "1m",
        *,
        to: Literal["polars"],
        **options: Unpack[BarOptions],
    ) -> pl.DataFrame: ...
    @overload
    def bars(
        self,
        symbols: Texts,
        day: Days | None = None,
        interval: str = "1m",
        *,
        to: Literal["pandas"],
        **options: Unpack[BarOptions],
    ) -> pd.DataFrame: ...
    @overload
    def bars(
        self,
        symbols: Texts,
        day: Days | None = None,
        interval: str = "1m",
        *,
        to: Literal["duckdb"],
        **options: Unpack[BarOptions],
    ) -> duckdb.DuckDBPyRelation: ...
    def bars(
        self,
        symbols: Texts,
        day: Days | None = None,
        interval: str = "1m",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        fill: bool = False,
        auctions: bool = True,
        odd_lots: bool = False,
        off_exchange: bool = False,
        to: To = "arrow",
        require: Literal["proven"] | None = None,
        as_of: Moment | None = None,
        tz: str | None = None,
    ) -> Any:
        """Bars, by symbol and start: open, high, low, close, VWAP, volume, turnover, ticks, volume by direction.

        Parameters
        ----------
        interval
            A number and ``s``, ``m`` or ``h``; a day at most. Bars are aligned to the market's clock and labelled with
            their start.
        fill
            Also bars without a trade, in continuous trading, at the last close.
        auctions, odd_lots, off_exchange
            Whether those trades count. Odd lots and off-exchange trades never make a price, only volume.

        The rest as of ``load``.
        """
        wanted = asked.stretch(symbols, day, start=start, end=end, as_of=as_of, require=require, tz=tz)
        bar_question = BarQuestion(wanted, interval, fill, auctions, odd_lots, off_exchange)
        _check_output(to, tz)
        return _converted(self._complete(self.backend.bars(bar_question), wanted), to, tz)

    def days(self) -> list[DayInfo]:
        """What is recorded, oldest first."""
        return self.backend.days()

    def coverage(self, day: Days | None = None, symbols: Texts = asked.ALL) -> Coverage:
        """How complete days are, by symbol; the newest day when none is named."""
        return self.backend.coverage(asked.stretch(symbols, day))

    def certificate(self, day: DayLike) -> dict[str, Any]:
        """A day's certificate, as ``hk-tickctl day DAY --json`` shows it: ``grade``, ``sentence``, every symbol."""
        return self.backend.certificate(asked.day_text(day))

    def live(self, /, symbols: Texts, **options: Any) -> Live:
        """Ticks as they are recorded; see ``hk.live``."""
        return self.backend.live(symbols, **options)

    def _answer(
        self,
        symbols: Texts,
        day: Days | None,
        kind: str,
        form: str,
        depth: int,
        *,
        columns: Texts | None,
        types: Texts,
        tz: str | None,
        series: Texts,
        every: bool,
        bodies: bool,
        **stretch: Any,
    ) -> Answer:
        """Ticks or books, as complete as was required."""
        wanted = asked.stretch(symbols, day, tz=tz, **stretch)
        asked.zone_name(tz)
        if kind == "tick":
            question = TickQuestion(wanted, asked.column_names(columns), asked.type_words(types))
            return self._complete(self.backend.ticks(question), wanted)
        if kind == "snapshot":
            return self._snapshots(wanted, columns, types, {"series": series, "every": every, "bodies": bodies})
        if kind not in ("book", "broker"):
            raise BadQuestion(f"kind={kind!r} is not known", "there are tick, book, broker and snapshot")
        if columns is not None or types != asked.ALL:
            raise BadQuestion("columns and types are for ticks", "form= and depth= choose what is told of order books")
        if kind == "broker" and form != "wide":
            raise BadQuestion("form is for order books", "broker queues have one: days.brokers has its columns")
        is_book = kind == "book"
        question_of_books = asked.book_question(wanted, form, depth) if is_book else asked.broker_question(wanted)
        answer = self.backend.books(question_of_books)
        if not answer.coverage.is_watched:
            noun = "order books" if is_book else "broker queues"
            text = f"{noun} were not watched all the time: {answer.coverage.blind_sentence()}"
            warnings.warn(text, IncompleteData, stacklevel=_callers_level())
        return answer

    def _snapshots(
        self, wanted: asked.Stretch, columns: Texts | None, types: Texts, options: Mapping[str, Any]
    ) -> Answer:
        if columns is not None or types != asked.ALL:
            raise BadQuestion("columns and types are for ticks", "series= and bodies= choose what is told of snapshots")
        return self._complete(self.backend.snapshots(asked.snapshot_question(wanted, **options)), wanted)

    def _complete(self, answer: Answer, stretch: Stretch) -> Answer:
        """The answer, when it is as complete as was required; with the one warning when it is not proven."""
        if not answer.coverage.is_proven:
            sentence = answer.coverage.sentence()
            if stretch.proven:
                raise NotProven(f"not proven to be complete: {sentence}", "leave require out to have it all the same")
            warnings.warn(f"not proven to be complete: {sentence}", IncompleteData, stacklevel=_callers_level())
        return answer


def _callers_level() -> int:
    """Where the code outside this package stands, as ``warnings.warn`` counts: the warning is about that line."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


def _check_output(to: str, tz: str | None) -> None:
    if to not in ("arrow", "polars", "pandas", "duckdb"):
        raise BadQuestion(f"to={to!r} is not known", "there are arrow, polars, pandas and duckdb")
    asked.zone_name(tz)


def _converted(answer: Answer, to: To, tz: str | None) -> Any:
    from hk_tick_collector.client.outputs import converted  # noqa: PLC0415 - Arrow takes its time

    return converted(answer, to, asked.zone_name(tz))
