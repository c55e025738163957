"""``hk-tickctl book``: the order book of a symbol at a time with its broker queue, or what can be said of a day's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, App, print_table, say, tickctl_command
from hk_tick_collector.cli.options import named_option
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.errors import NoData, StoreError
from hk_tick_collector.core.text import counted
from hk_tick_collector.days.book_days import BookDay, BookDays
from hk_tick_collector.days.watched import share
from hk_tick_collector.records.book import EMPTY_BOOK, EMPTY_QUEUE, Book, Place, RowKind
from hk_tick_collector.store.book_reader import (
    BookState,
    SessionCounts,
    Watch,
    book_at,
    newest_book,
    symbols,
    watches,
)
from hk_tick_collector.store.broker_reader import QueueState, names_of, queue_at
from hk_tick_collector.watch.ladder import as_plain, brokers_as_plain, watch_at
from hk_tick_collector.watch.when import on_day_ms, one_day, symbol_list

if TYPE_CHECKING:
    from hk_tick_collector.days.watched import SymbolBooks
    from hk_tick_collector.quality.books import BookReport
    from hk_tick_collector.quality.brokers import BrokerReport

LEVELS_SHOWN = 10
SYMBOLS_SHOWN = 10

_COLUMNS = (
    "symbol", "watched", "blind", "pushes", "pulls", "answered", "impossible", "holes", "clock back", "no time",
    "one-sided",
)  # fmt: skip

_HELP = """The order book of SYMBOL as it was known at a given time; without SYMBOL, a report on a day's order books.

Order books are recorded for the symbols in BOOK_SYMBOLS. Pushes of books are not numbered, so nobody can prove that
none is missing: the report says what was watched, how well samples agree, and which states were impossible. With
BOOK_BROKERS=1 the broker queues are shown below it: which brokers queue at which price level, first in line first.

Times are the market's. Exits with 1 when the report finds something that a healthy day does not have (blind stretches,
impossible states, pulls that differ, suspected holes, a clock that went back), with 3 when the book was not known at
that time.
"""


@tickctl_command("book", help=_HELP, short_help="The order book of a symbol at a time.")
@click.argument("symbol", required=False)
@named_option(
    "--days", "day", earlier=["--day"], metavar="DAY", help="The day: YYYYMMDD, today; default: the newest with books."
)
@click.option("--at", "at", metavar="TIME", help="09:30, 09:30:00.250; default: the newest book.")
@click.option("--levels", default=LEVELS_SHOWN, show_default=True, type=click.IntRange(1), help="Levels to show.")
def command(app: App, symbol: str | None, day: str | None, at: str | None, levels: int) -> int:
    """See ``--help``."""
    books = _day_of(app, day)
    if symbol is None and at is not None:
        raise click.UsageError("--at needs a SYMBOL")
    with books.opened() as path:
        if symbol is None:
            return _show_report(app, books.trading_day, path)
        return _show_book(app, symbol, books.trading_day, path, at, levels)


class _Brokers(NamedTuple):
    """A queue beside a book."""

    state: QueueState
    names: dict[int, str]
    is_watched: bool

    @property
    def plain(self) -> dict[str, Any]:
        return brokers_as_plain(self.state, self.names, watched=self.is_watched)


def _brokers_beside(app: App, day: str, symbol: str, at_us: int) -> _Brokers | None:
    """The queue as it was known at a time; None where none was."""
    try:
        recorded = app.catalog.broker_days.day(day)
    except NoData:
        return None
    with recorded.opened([symbol]) as path:
        state = queue_at(path, symbol, at_us)
        if state is None or state.queue is None:
            return None
        return _Brokers(state, names_of(path), watch_at(watches(path), symbol, at_us // 1000) is not None)


def _show_book(app: App, symbol: str, chosen: str, path: Path, at: str | None, levels: int) -> int:
    (name,) = symbol_list(app.market, [symbol])[:1]
    known = symbols(path)
    if name not in known:
        shown = ", ".join(list(known)[:SYMBOLS_SHOWN])
        more = f" and {len(known) - SYMBOLS_SHOWN:,} more" if len(known) > SYMBOLS_SHOWN else ""
        raise NoData(f"no order book of {name} was recorded on {chosen}; recorded: {shown}{more}")
    if at is None:
        state = newest_book(path, name)
        at_us = 0 if state is None else state.recv_ts_us
    else:
        at_us = on_day_ms(at, chosen, app.market) * 1000 + 999
        state = book_at(path, name, at_us)
    watch = watch_at(watches(path), name, at_us // 1000)
    if state is None or state.book is None or state.kind is RowKind.BREAK:
        raise NoData(_unknown(app, name, chosen, path, at_us, state))
    brokers = _brokers_beside(app, chosen, name, at_us)
    plain = as_plain(state, watched=watch is not None)

    def show() -> None:
        _show_ladder(app, chosen, state, watch, levels)
        if brokers is not None:
            _show_brokers(app, chosen, brokers, levels)

    app.emit(plain if brokers is None else {**plain, "brokers": brokers.plain}, show)
    return EXIT_FINE


def _day_of(app: App, day: str | None) -> BookDay:
    recorded = BookDays(app.data_root, app.catalog.archive_root)
    if day in (None, "last"):
        days = recorded.days()
        if not days:
            raise NoData(f"no order books are recorded under {app.data_root}: BOOK_SYMBOLS chooses whose are")
        return recorded.day(days[-1])
    return recorded.day(one_day(app, day))


def _unknown(app: App, symbol: str, day: str, path: Path, at_us: int, state: BookState | None) -> str:
    """Why there is no book to show."""
    zone, word = app.market.zone, app.market.time_word
    at = f"{zone.clock_with_ms(at_us // 1000)} {word} on {day}"
    if state is None:
        return f"nothing of {symbol} had come by {at}"
    ended = [w for w in watches(path) if w.symbol == symbol and w.until_ms * 1000 <= at_us]
    why = f": {ended[-1].reason} at {zone.clock_with_ms(ended[-1].until_ms)}" if ended and ended[-1].reason else ""
    return f"the book of {symbol} was not known at {at}{why}; name a time before, or after it was watched again"


def _show_ladder(app: App, day: str, state: BookState, watch: Watch | None, levels: int) -> None:
    zone, book = app.market.zone, state.book or EMPTY_BOOK
    received = f"{zone.clock_with_ms(state.recv_ts_us // 1000)} {app.market.time_word} on {day}"
    show_text(f"{state.symbol}, received {received}{_spread(app, book)}")
    if watch is None:
        show_text("the book was not watched at that time: this is the last one received before", "Note: ")
    rows = [
        (
            *(reversed(bid) if bid else (None, None, None)),
            *(ask or (None, None, None)),
        )
        for bid, ask in zip_longest(book.bids[:levels], book.asks[:levels])
    ]
    names = ("bid orders", "bid shares", "bid", "ask", "ask shares", "ask orders")
    print_table(names, rows, numbers=names, spare=("ask orders", "bid orders"))
    hidden = max(len(book.bids), len(book.asks)) - levels
    if hidden > 0:
        print(f"... and {counted(hidden, 'more level')} (--levels)")
    times = [
        f"{side} {zone.clock_with_ms(ts_ms)}"
        for side, ts_ms in (("bid", state.bid_ts_ms), ("ask", state.ask_ts_ms))
        if ts_ms is not None
    ]
    show_text(f"at the source's server: {', '.join(times) or 'it does not say when'}")


def _show_brokers(app: App, day: str, brokers: _Brokers, levels: int) -> None:
    """Brokers by their numbers, as traders know them; their names are in ``--json``."""
    queue, zone = brokers.state.queue or EMPTY_QUEUE, app.market.zone
    at = f"{zone.clock_with_ms(brokers.state.recv_ts_us // 1000)} {app.market.time_word} on {day}"
    show_text(f"broker queue, received {at}, first come first; names: --json")
    if not brokers.is_watched:
        show_text("the queue was not watched at that time: this is the last one received before", "Note: ")
    told = sorted({level for side in queue for level, _ in side})
    rows = [(level, _in_line(queue.bids, level), _in_line(queue.asks, level)) for level in told[:levels]]
    print_table(("level", "bid brokers", "ask brokers"), rows, numbers=("level",))


def _in_line(places: Sequence[Place], level: int) -> str:
    return " ".join(f"{number:04d}" for at, number in places if at == level)


def _spread(app: App, book: Book) -> str:
    if not book.bids or not book.asks:
        return ", one side is empty" if book.bids or book.asks else ", empty"
    spread = round(book.asks[0][0] - book.bids[0][0], app.market.price_decimals)
    return f", spread {spread:g}" if spread > 0 else ", crossed: an auction's book, or one that is not to be believed"


def _show_report(app: App, day: str, path: Path) -> int:
    from hk_tick_collector.quality.books import report_of, trades_of  # noqa: PLC0415 - not for --help

    trades = None
    try:
        stored_day = app.catalog.day(day)
        if stored_day.source.exists():
            trades = trades_of(stored_day, list(symbols(path)))
    except (StoreError, NoData) as exc:
        say(f"the day's ticks cannot be read, so trades are not compared with books: {exc}")
    report = report_of(path, day, app.market, app.calendar.day_kind(day), app.now_ms, trades)
    brokers = _broker_report(app, day)
    told: dict[str, Any] = {**asdict(report), "sentence": report.sentence}
    if brokers is not None:
        told["brokers"] = {**asdict(brokers), "sentence": brokers.sentence}

    def show() -> None:
        _print_report(app, report)
        if brokers is not None:
            _print_brokers(app, brokers)

    app.emit(told, show)
    return EXIT_PROBLEM if report.problems or (brokers is not None and brokers.problems) else EXIT_FINE


def _broker_report(app: App, day: str) -> BrokerReport | None:
    from hk_tick_collector.quality.brokers import brokers_of  # noqa: PLC0415 - not for --help

    try:
        recorded = app.catalog.broker_days.day(day)
    except NoData:
        return None
    with recorded.opened() as path:
        return brokers_of(path, day, app.market, app.calendar.day_kind(day), app.now_ms)


def _print_brokers(app: App, report: BrokerReport) -> None:
    show_text(f"broker queues: {report.sentence}")
    _print_counts(report.sessions, accounted=report.accounted)
    _print_stretches(app, report.symbols)


def _print_report(app: App, report: BookReport) -> None:
    show_text(f"{report.trading_day}: {report.sentence}")
    _print_counts(report.sessions, accounted=report.accounted)
    rows = [_report_row(books) for books in report.symbols]
    print_table(_COLUMNS, rows, numbers=_COLUMNS[1:], spare=("one-sided", "no time", "clock back", "pulls"))
    _print_stretches(app, report.symbols)


def _print_counts(sessions: Sequence[SessionCounts], *, accounted: bool) -> None:
    received, stored, merged, unread = (
        sum(getattr(session, name) for session in sessions) for name in ("received", "stored", "merged", "unread")
    )
    adds_up = "" if accounted else ": THESE DO NOT ADD UP"
    show_text(f"{received:,} pushes received, {stored:,} stored, {merged:,} merged, {unread:,} unread{adds_up}")


def _print_stretches(app: App, symbols: Sequence[SymbolBooks]) -> None:
    zone = app.market.zone
    for books in symbols:
        for title, stretches in (("blind", books.blind), ("suspected hole", books.holes)):
            for stretch in stretches[:3]:
                times = f"{zone.clock_with_ms(stretch.from_ms)} to {zone.clock_with_ms(stretch.until_ms)}"
                show_text(f"{books.symbol} {times}, {stretch.reason}", f"{title}: ")
            if len(stretches) > 3:
                print(f"{title}: ... and {len(stretches) - 3} more of {books.symbol} (--json)")


def _report_row(books: SymbolBooks) -> tuple[object, ...]:
    return (
        books.symbol,
        _percent(books.watched_ms, books.wanted_ms),
        len(books.blind),
        books.pushes,
        f"{books.pulls_agreed}/{books.pulls}" if books.pulls else None,
        _percent(books.trades_answered, books.trades),
        books.impossible,
        len(books.holes),
        books.clock_back,
        books.without_times,
        books.one_sided,
    )


def _percent(part: int, whole: int) -> str | None:
    return share(part, whole) if whole else None
