"""The part of a day's certificate that tells of its order books, or of its broker queues, wherever a certificate is
shown: one function.

From the recorder's notes it costs O(symbols); with ``read_pushes`` every push of a book is judged and held against the
day's ticks, those of queues are counted: nothing in a queue can be judged. What is packed in the archive is only
unpacked for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.core.errors import NoData, StoreError
from hk_tick_collector.core.text import counted
from hk_tick_collector.days.book_days import BookDay, BookDays
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.watched import SymbolBooks, Totals, best_watched, sentence_of, share, watched_of
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.quality.brokers import brokers_of
from hk_tick_collector.quality.model import BLIND, UNREAD, WATCHED, BookCertificate, Certificate, SymbolBookCertificate
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND, StateKind
from hk_tick_collector.store.book_reader import SessionCounts

REASONS_SHOWN = 3
_NOT_UNPACKED = "they are in the archive, and were not unpacked for this"
_OF_PUSHES = frozenset(
    field.name for field in fields(SymbolBookCertificate) if field.default is None and field.name != "suspected_holes"
)
_OF_QUEUES = frozenset({"pushes", "merged"})  # what pushes of them tell


def books_of(
    day: Day, kind: DayKind, now_ms: int, states: StateKind = BOOK_KIND, *, read_pushes: bool = False
) -> BookCertificate | None:
    """What can be said of the order books of a day; with ``BROKER_KIND`` of its broker queues. None when none are
    recorded. Of a day that several recorders made each symbol from the data root that watched it best. Some that cannot
    be read make one that says so."""
    roots, unread = [], []
    for part in day.parts:
        root = _of_one_root(part, kind, now_ms, states, read_pushes=read_pushes)
        if isinstance(root, _Root):
            roots.append(root)
        elif root is not None:
            unread.append(root)
    if not roots:
        return unread[0] if unread else None
    told = _of_roots(roots, states, is_read=read_pushes)
    if not unread:
        return told
    others = "; ".join(f"{other.source or 'others'}: {other.sentence}" for other in unread)
    return replace(told, sentence=f"{told.sentence}; {others}")


class _Root(NamedTuple):
    """What the file of one data root says."""

    source: str
    sessions: list[SessionCounts]
    symbols: list[SymbolBooks]
    conflated: bool


def _of_one_root(
    day: Day, kind: DayKind, now_ms: int, states: StateKind, *, read_pushes: bool
) -> _Root | BookCertificate | None:
    if day.data_root is None:
        return None
    try:
        books = BookDays(day.data_root, day.archive_root, states).day(day.trading_day)
    except NoData:
        return None
    except StoreError as exc:
        return _unread("", f"they cannot be read: {exc}", error=str(exc))
    if books.file is None and not read_pushes:
        rows = counted(books.rows(), "row")
        return _unread(str(books.packed), f"{rows} in the archive, which were not unpacked for this")
    try:
        with books.opened() as path:
            sessions, symbol_books = _read(path, day, kind, now_ms, states, read_pushes=read_pushes)
            return _Root(_source(books), sessions, symbol_books, book_reader.is_conflated(path))
    except StoreError as exc:
        return _unread(_source(books), f"they cannot be read: {exc}", error=str(exc))


def _of_roots(roots: Sequence[_Root], states: StateKind, *, is_read: bool) -> BookCertificate:
    if len(roots) == 1:
        root = roots[0]
        return _told(root.source, root.sessions, root.symbols, states, is_read=is_read, conflated=root.conflated)
    best = best_watched([root.symbols for root in roots])
    chosen = [books for place, root in enumerate(roots) for books in root.symbols if best[books.symbol] == place]
    chosen.sort(key=lambda books: books.symbol)
    sessions = [session for root in roots for session in root.sessions]
    sources, conflated = ", ".join(root.source for root in roots), any(root.conflated for root in roots)
    told = _told(sources, sessions, chosen, states, is_read=is_read, conflated=conflated)
    return replace(
        told,
        sentence=f"{told.sentence}; each symbol from the one of {len(roots)} data roots that watched it best",
        received=None, stored=None, merged=None, unread=None,  # of whole files, of which a part counts here
    )  # fmt: skip


def with_part_of_books(certificate: Certificate, keep: Callable[[str], bool]) -> Certificate:
    """A day's certificate in which books and queues are those of some symbols alone."""
    books, brokers = certificate.books, certificate.brokers
    return replace(
        certificate,
        books=None if books is None else part_of_books(books, keep),
        brokers=None if brokers is None else part_of_books(brokers, keep, BROKER_KIND),
    )


def part_of_books(
    books: BookCertificate, keep: Callable[[str], bool], states: StateKind = BOOK_KIND
) -> BookCertificate:
    """That of some symbols alone. What is counted of the whole file is left out."""
    kept = tuple(books_of_symbol for books_of_symbol in books.symbols if keep(books_of_symbol.symbol))
    if books.state == UNREAD:
        return books if books.error is not None else replace(books, sentence=_NOT_UNPACKED)
    return replace(
        books,
        state=_state(kept),
        sentence=_sentence(kept, states, conflated=books.conflated),
        symbols=kept, received=None, stored=None, merged=None, unread=None,
    )  # fmt: skip


def _read(
    path: Path, day: Day, kind: DayKind, now_ms: int, states: StateKind, *, read_pushes: bool
) -> tuple[list[SessionCounts], list[SymbolBooks]]:
    """What is in a file: the counters of its runs, and by symbol what was noted, with ``read_pushes`` what was seen."""
    market, name = day.market, day.trading_day
    if not read_pushes:
        return book_reader.sessions(path), watched_of(path, name, market, kind, now_ms)
    if states is not BOOK_KIND:
        queues = brokers_of(path, name, market, kind, now_ms)
        return queues.sessions, queues.symbols
    from hk_tick_collector.quality.books import report_of, trades_of  # noqa: PLC0415 - numpy, for who reads them

    trades = trades_of(day, list(book_reader.symbols(path))) if day.source.exists() else None
    report = report_of(path, name, market, kind, now_ms, trades)
    return report.sessions, report.symbols


def _told(
    source: str,
    sessions: Sequence[SessionCounts],
    symbol_books: Sequence[SymbolBooks],
    states: StateKind,
    *,
    is_read: bool,
    conflated: bool,
) -> BookCertificate:
    seen = frozenset[str]() if not is_read else _OF_PUSHES if states is BOOK_KIND else _OF_QUEUES
    symbols = tuple(_symbol(books, seen) for books in symbol_books)
    return BookCertificate(
        _state(symbols),
        _sentence(symbols, states, conflated=conflated),
        is_read,
        source,
        received=sum(session.received for session in sessions),
        stored=sum(session.stored for session in sessions),
        merged=sum(session.merged for session in sessions),
        unread=sum(session.unread for session in sessions),
        adds_up=all(session.adds_up for session in sessions),
        symbols=symbols,
        conflated=conflated,
    )


def _sentence(symbols: Sequence[SymbolBookCertificate], states: StateKind, *, conflated: bool) -> str:
    def summed(name: str) -> int:
        return sum(getattr(books, name) or 0 for books in symbols)

    def if_seen(name: str) -> int | None:
        return None if any(getattr(books, name) is None for books in symbols) else summed(name)

    noted = Totals(
        len(symbols), summed("watched_ms"), summed("wanted_ms"), summed("blind_stretches"), summed("pulls"),
        summed("pulls_agreed"), if_seen("merged"), if_seen("impossible"), if_seen("trades"), if_seen("trades_answered"),
        if_seen("suspected_holes"), conflated,
    )  # fmt: skip
    return (
        f"{counted(len(symbols), 'symbol')}, {sentence_of(noted)}" if symbols else sentence_of(noted, states.file.noun)
    )


def _unread(source: str, sentence: str, error: str | None = None) -> BookCertificate:
    return BookCertificate(UNREAD, sentence, pushes_read=False, source=source, error=error)


def _source(books: BookDay) -> str:
    return str(books.file or books.packed)


def _state(symbols: Sequence[SymbolBookCertificate]) -> str:
    return WATCHED if symbols and all(books.state == WATCHED for books in symbols) else BLIND


def _symbol(books: SymbolBooks, seen: frozenset[str]) -> SymbolBookCertificate:
    return SymbolBookCertificate(
        books.symbol,
        BLIND if books.blind else WATCHED,
        reason_of(books),
        books.watched_ms,
        books.wanted_ms,
        len(books.blind),
        books.pulls,
        books.pulls_agreed,
        suspected_holes=len(books.holes) if seen == _OF_PUSHES else None,
        **{name: getattr(books, name) for name in seen},
    )


def reason_of(books: SymbolBooks) -> str | None:
    """Why a symbol's books are not watched all the time; None when they are."""
    if not books.blind:
        return None
    whys = ", ".join(dict.fromkeys(stretch.reason for stretch in books.blind[:REASONS_SHOWN]))
    count = f"{len(books.blind):,} blind {'stretch' if len(books.blind) == 1 else 'stretches'}"
    return f"watched {share(books.watched_ms, books.wanted_ms)} of trading, {count} ({whys})"
