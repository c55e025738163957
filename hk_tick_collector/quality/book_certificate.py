"""The part of a day's certificate that tells of its order books, wherever a certificate is shown: one function.

From the recorder's notes it costs O(symbols); with ``read_pushes`` every push is judged and held against the day's
ticks. Books that are packed in the archive are only unpacked for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

from hk_tick_collector.core.errors import NoData, StoreError
from hk_tick_collector.core.text import counted
from hk_tick_collector.days.book_days import BookDay, BookDays
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.quality.model import BLIND, UNREAD, WATCHED, BookCertificate, SymbolBookCertificate
from hk_tick_collector.quality.watched import SymbolBooks, Totals, sentence_of, share, watched_of
from hk_tick_collector.store import book_reader

REASONS_SHOWN = 3
_OF_PUSHES = frozenset(
    field.name for field in fields(SymbolBookCertificate) if field.default is None and field.name != "suspected_holes"
)


def books_of(day: Day, kind: DayKind, now_ms: int, *, read_pushes: bool = False) -> BookCertificate | None:
    """What can be said of the order books of a day. None when none are recorded; of a day that several recorders made
    those of the first that has some. Some that cannot be read make one that says so."""
    told = (_of_one_root(part, kind, now_ms, read_pushes=read_pushes) for part in day.parts)
    return next((books for books in told if books is not None), None)


def _of_one_root(day: Day, kind: DayKind, now_ms: int, *, read_pushes: bool) -> BookCertificate | None:
    if day.data_root is None:
        return None
    try:
        books = BookDays(day.data_root, day.archive_root).day(day.trading_day)
    except NoData:
        return None
    except StoreError as exc:
        return _unread("", f"they cannot be read: {exc}", error=str(exc))
    if books.file is None and not read_pushes:
        rows = counted(books.rows(), "row")
        return _unread(str(books.packed), f"{rows} in the archive, which were not unpacked for this")
    try:
        with books.opened() as path:
            return _judged(books, path, day, kind, now_ms, read_pushes=read_pushes)
    except StoreError as exc:
        return _unread(_source(books), f"they cannot be read: {exc}", error=str(exc))


def part_of_books(books: BookCertificate, keep: Callable[[str], bool]) -> BookCertificate:
    """That of some symbols alone. What is counted of the whole file is left out."""
    kept = tuple(one for one in books.symbols if keep(one.symbol))
    return replace(
        books,
        state=books.state if books.state == UNREAD else _state(kept),
        sentence=books.sentence if books.state == UNREAD else _sentence(kept, is_read=books.pushes_read),
        symbols=kept, received=None, stored=None, merged=None, unread=None,
    )  # fmt: skip


def _judged(books: BookDay, path: Path, day: Day, kind: DayKind, now_ms: int, *, read_pushes: bool) -> BookCertificate:
    if read_pushes:
        from hk_tick_collector.quality.books import report_of, trades_of  # noqa: PLC0415 - numpy, for who reads them

        trades = trades_of(day, list(book_reader.symbols(path))) if day.source.exists() else None
        report = report_of(path, day.trading_day, day.market, kind, now_ms, trades)
        sessions, found = report.sessions, report.symbols
    else:
        sessions = book_reader.sessions(path)
        found = watched_of(path, day.trading_day, day.market, kind, now_ms)
    symbols = tuple(_symbol(one, is_read=read_pushes) for one in found)
    return BookCertificate(
        _state(symbols),
        _sentence(symbols, is_read=read_pushes),
        read_pushes,
        _source(books),
        received=sum(session.received for session in sessions),
        stored=sum(session.stored for session in sessions),
        merged=sum(session.merged for session in sessions),
        unread=sum(session.unread for session in sessions),
        adds_up=all(session.adds_up for session in sessions),
        symbols=symbols,
    )


def _sentence(symbols: Sequence[SymbolBookCertificate], *, is_read: bool) -> str:
    def summed(name: str) -> int:
        return sum(getattr(one, name) or 0 for one in symbols)

    noted = Totals(
        len(symbols), summed("watched_ms"), summed("wanted_ms"), summed("blind_stretches"), summed("pulls"),
        summed("pulls_agreed"),
    )  # fmt: skip
    if is_read:
        noted = noted._replace(
            merged=summed("merged"), impossible=summed("impossible"),
            trades=summed("trades"), trades_answered=summed("trades_answered"), holes=summed("suspected_holes"),
        )  # fmt: skip
    return f"{counted(len(symbols), 'symbol')}, {sentence_of(noted)}" if symbols else sentence_of(noted)


def _unread(source: str, sentence: str, error: str | None = None) -> BookCertificate:
    return BookCertificate(UNREAD, sentence, pushes_read=False, source=source, error=error)


def _source(books: BookDay) -> str:
    return str(books.file or books.packed)


def _state(symbols: Sequence[SymbolBookCertificate]) -> str:
    return BLIND if any(one.state == BLIND for one in symbols) else WATCHED


def _symbol(one: SymbolBooks, *, is_read: bool) -> SymbolBookCertificate:
    told = {name: getattr(one, name) for name in _OF_PUSHES} if is_read else {}
    return SymbolBookCertificate(
        one.symbol,
        BLIND if one.blind else WATCHED,
        reason_of(one),
        one.watched_ms,
        one.wanted_ms,
        len(one.blind),
        one.pulls,
        one.pulls_agreed,
        suspected_holes=len(one.holes) if is_read else None,
        **told,
    )


def reason_of(one: SymbolBooks) -> str | None:
    """Why a symbol's books are not watched all the time; None when they are."""
    if not one.blind:
        return None
    whys = ", ".join(dict.fromkeys(stretch.reason for stretch in one.blind[:REASONS_SHOWN]))
    count = f"{len(one.blind):,} blind {'stretch' if len(one.blind) == 1 else 'stretches'}"
    return f"watched {share(one.watched_ms, one.wanted_ms)} of trading, {count} ({whys})"
