"""``hk-tickctl day``: the completeness certificate of a day, shown and written beside the data."""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from hk_tick_collector.cli.common import (
    EXIT_FINE,
    EXIT_PROBLEM,
    App,
    be_gentle,
    print_table,
    progress,
    say,
    tickctl_command,
)
from hk_tick_collector.cli.options import day_argument, symbols_option
from hk_tick_collector.cli.snapshot_report import day_of, show_report
from hk_tick_collector.cli.terminal import GREEN, RED, YELLOW, show_text
from hk_tick_collector.core.errors import InputError, NoData, StoreError
from hk_tick_collector.core.text import counted
from hk_tick_collector.market.zone import Zone
from hk_tick_collector.quality.book_certificate import with_part_of_books
from hk_tick_collector.quality.grade import GRADES, explained, graded
from hk_tick_collector.quality.model import Certificate, SymbolCertificate
from hk_tick_collector.store.layout import holds_snapshots
from hk_tick_collector.store.verdict import PROVEN
from hk_tick_collector.watch.access import check_open
from hk_tick_collector.watch.when import one_day, symbol_list

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day
    from hk_tick_collector.quality.recount import Recount
    from hk_tick_collector.ship.state import Verified

SYMBOLS_SHOWN = 20
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)  # a reader of the group gets the certificate, not its file
PROBLEMS_SHOWN = 20
_GRADE_COLOURS = {"A": GREEN, "B": GREEN, "C": YELLOW, "D": YELLOW, "E": RED, "F": RED}
_GRADES = "\n\n".join(f"{grade}  {rule}" for grade, rule in GRADES.items())
_HELP = f"""The completeness certificate of DAY (YYYYMMDD, today; without it the newest one): what is stored, expected,
missing and proven, by symbol.

From what the recorder noted it takes well under a second. The file of a day that is over is also read once for damage,
unless the recorder did that when it closed (1 to 2 s a million rows). --recount reads every row: it adds what only
the rows can show (sessions, auctions, types, late ticks) and compares the recorder's notes with them.

Grades:

{_GRADES}

A day that is still in session is graded as far as it has come. The certificate is written to
DATA_ROOT/_reports/YYYYMMDD.json, after --recount also as a page, YYYYMMDD.html, with prices, volumes and plots;
index.html beside it is a calendar of all days.

Exits with 0 when nothing is known to be missing (also when something is unproven), 1 when something is, when a wanted
symbol was not subscribed for a part of the day or what came before its first tick was never shown, when the file
contradicts itself or the disk refuses the report, 3 when there is no such day.
"""


@tickctl_command("day", several=True, help=_HELP, short_help="The completeness certificate of a day.")
@day_argument()
@click.option("--recount", is_flag=True, help="Read every row, and compare the recorder's notes with them.")
@click.option("--html", is_flag=True, help="Write the page with plots; the same as --recount.")
@symbols_option()
@click.option("--limit", default=SYMBOLS_SHOWN, show_default=True, type=click.IntRange(0), help="Symbols to show.")
@click.option("--all", "show_all", is_flag=True, help="Show every symbol, also those that are proven.")
@click.option("--no-write", is_flag=True, help="Leave the report's files alone.")
def command(
    app: App,
    day: str | None,
    recount: bool,
    html: bool,
    symbols: Sequence[str],
    limit: int,
    show_all: bool,
    no_write: bool,
) -> int:
    """See ``--help``."""
    wanted = symbol_list(app.market, symbols) if symbols else []
    if holds_snapshots(app.data_root):
        if recount or html or wanted:
            raise click.UsageError("--recount, --html and --symbols are for ticks, and snapshots are recorded here")
        return show_report(app, day_of(app, day))
    recorded = app.catalog.day(one_day(app, day))
    if len(recorded.parts) > 1 and html:
        raise InputError(
            f"a page is of one data root, and {recorded.trading_day} is read from {len(recorded.parts)}: choose one "
            "with --data-root, or make one of them with hk-tickctl merge"
        )
    check_open(recorded.source)  # a file that is closed to this user is no file that cannot be read
    certificate, recounted = _certificate(app, recorded, read_rows=recount or html)
    shown = _only(certificate, wanted)
    # First: who reads our output may have enough before its end.
    is_one = len(recorded.parts) == 1  # what is said of several data roots belongs into the reports of none
    written = no_write or not is_one or _write(app, recorded, certificate, recounted)
    copies = _copies(app, recorded) if is_one else {}
    told = {**asdict(shown), **{name: copy._asdict() for name, (copy, _) in copies.items()}}

    def human() -> None:
        _print(shown, limit, show_all or bool(wanted))
        for copy, (table, row) in copies.values():
            stamp = app.market.stamp(copy.verified_ms)
            show_text(f"{table} in ClickHouse at {stamp}: {counted(copy.rows, row)}, content {copy.content_hash}")

    app.emit(told, human)
    return EXIT_FINE if written and _is_fine(shown, wanted) else EXIT_PROBLEM


def _copies(app: App, day: Day) -> dict[str, tuple[Verified, tuple[str, str]]]:
    """The proofs of its copies, of the files as they are, by name, and how they are told."""
    from hk_tick_collector.cli.status import ship_dir_of  # noqa: PLC0415 - with the shipper's settings
    from hk_tick_collector.ship.marks import verified_copy, verified_states  # noqa: PLC0415
    from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND  # noqa: PLC0415
    from hk_tick_collector.store.snapshot_file import SNAPSHOT_KIND  # noqa: PLC0415

    ship_dir = ship_dir_of(app)
    if ship_dir is None:
        return {}
    where = ship_dir, app.data_root, app.archive_root, day.trading_day
    copies = {
        "clickhouse": (verified_copy(*where), ("verified", "tick")),
        "clickhouse_books": (verified_states(BOOK_KIND, *where), ("order books verified", "row")),
        "clickhouse_brokers": (verified_states(BROKER_KIND, *where), ("broker queues verified", "row")),
        "clickhouse_snapshots": (verified_states(SNAPSHOT_KIND, *where), ("snapshots verified", "row")),
    }
    return {name: (copy, told) for name, (copy, told) in copies.items() if copy is not None}


def _certificate(app: App, day: Day, *, read_rows: bool) -> tuple[Certificate, Recount | None]:
    from hk_tick_collector.quality.certificate import check_judgeable, make_certificate  # noqa: PLC0415 - not for --help

    check_judgeable(day)
    noted = make_certificate(day, app.calendar, app.now_ms, read=not read_rows)
    if not read_rows or noted.error is not None:
        return noted, None
    from hk_tick_collector.quality.recount import recount  # noqa: PLC0415

    be_gentle()
    try:
        with progress("reading all rows", noted.stored_ticks) as done:
            kind = app.calendar.day_kind(day.trading_day)
            recounted = recount(day, kind, workers=1 if noted.so_far else 2, on_rows=done)
    except StoreError as exc:
        return graded(replace(noted, error=str(exc))), None
    return make_certificate(day, app.calendar, app.now_ms, recounted), recounted


def _write(app: App, day: Day, certificate: Certificate, recounted: Recount | None) -> bool:
    """Was the report written? A certificate made from all rows is not replaced by one that knows less."""
    from hk_tick_collector.quality import report_file  # noqa: PLC0415

    path = report_file.report_file(app.data_root, day.trading_day)
    head = report_file.read_head(path)
    if recounted is None and head is not None and head.recounted and report_file.is_current(path, day.source):
        say(f"{path} was made from all rows of the file as it is now, and stays as it is")
        return True
    try:
        report_file.write_certificate(app.data_root, certificate)
        say(f"written: {path}")
        if recounted is not None:
            from hk_tick_collector.quality.gap_list import gap_lines  # noqa: PLC0415
            from hk_tick_collector.quality.index import write_index  # noqa: PLC0415
            from hk_tick_collector.quality.page import write_page  # noqa: PLC0415

            say(f"written: {write_page(app.data_root, certificate, recounted.plots, gap_lines(day))}")
            say(f"all days: {write_index(app.data_root, app.catalog.days())}")
    except OSError as exc:
        if exc.errno in NOT_OURS:
            say(f"the report is not written: {exc.filename or path} is not for this user to change (--no-write)")
            return True
        say(
            f"hk-tickctl: the report cannot be written: {exc.filename or path}: {exc.strerror or exc}; "
            "correct that, or leave it with --no-write"
        )
        return False
    return True


def _only(certificate: Certificate, symbols: Collection[str]) -> Certificate:
    """The certificate with these symbols alone; NoData for one of which nothing is known."""
    if not symbols or certificate.error is not None:
        return certificate
    for symbol in symbols:
        if certificate.symbol(symbol) is None:
            raise NoData(
                f"{symbol}: nothing of it is stored on {certificate.trading_day}, so nothing is known of it; "
                f"stored: {counted(len(certificate.symbols), 'symbol')}"
            )
    kept = tuple(verdict for verdict in certificate.symbols if verdict.symbol in symbols)
    return with_part_of_books(replace(certificate, symbols=kept), lambda symbol: symbol in symbols)


def _is_fine(certificate: Certificate, symbols: Sequence[str]) -> bool:
    if not symbols or certificate.error is not None:
        return certificate.fine
    contradicted = any(problem.startswith(f"{symbol}:") for problem in certificate.problems for symbol in symbols)
    return not contradicted and not any(verdict.may_miss for verdict in certificate.symbols)


def _print(certificate: Certificate, limit: int, show_all: bool) -> None:
    colour = _GRADE_COLOURS[certificate.grade]
    show_text(certificate.sentence)
    show_text(f"Grade {certificate.grade}: {explained(certificate)}", colour=colour)
    for name, books in (("Order books", certificate.books), ("Broker queues", certificate.brokers)):
        if books is not None:
            show_text(f"{books.sentence} (hk-tickctl book)", f"{name}: ")
    for note in certificate.notes:
        show_text(note, "Note: ")
    for problem in certificate.problems[:PROBLEMS_SHOWN]:
        show_text(problem, "Problem: ", RED)
    if len(certificate.problems) > PROBLEMS_SHOWN:
        print(f"... and {len(certificate.problems) - PROBLEMS_SHOWN} more problems: --json shows all")
    if certificate.error is not None:
        return
    print()
    for name, text in _totals(certificate):
        show_text(text, f"{name:<20} ")
    print()
    _print_sessions(certificate)
    if certificate.rows is not None:
        _print_kinds(certificate)
    _print_symbols(certificate, limit, show_all)


def _totals(certificate: Certificate) -> list[tuple[str, str]]:
    expected = f"{certificate.expected_ticks:,}"
    if certificate.uncounted_symbols:
        expected += f" (of the {counted(certificate.counted_symbols, 'symbol')} that can be counted)"
    if certificate.uncounted_symbols and not certificate.counted_symbols:
        expected = "not known: no symbol can be counted from its first tick of the day"
    lines = [
        ("day", f"{certificate.day_kind}, {'still in session' if certificate.so_far else 'over'}"),
        ("file", certificate.source),
        ("stored", counted(certificate.stored_ticks, "tick")),
        ("expected", expected),
        ("missing", f"{certificate.missing_ticks:,}"),
        (
            "symbols",
            f"{certificate.proven_symbols:,} proven, {certificate.missing_symbols:,} with missing ticks, "
            f"{certificate.unproven_symbols:,} unproven",
        ),
        *(("evidence", text) for text in certificate.evidence),
    ]
    if certificate.first_ts_ms is not None and certificate.last_ts_ms is not None:
        clock = certificate.zone.clock
        times = f"{clock(certificate.first_ts_ms)}, {clock(certificate.last_ts_ms)} {certificate.time_word}"
        lines.append(("first, last", times))
    rows = certificate.rows
    if rows is not None:
        lines += [
            ("out of order", f"{rows.out_of_order_ticks:,}"),
            ("late", f"{rows.late_ticks:,}"),
            (
                "times that disagree",
                f"{rows.sequence_time_disagreements:,} with the sequence's second, "
                f"{rows.received_before_event_ticks:,} received before the event",
            ),
            ("outside sessions", f"{rows.outside_session_ticks:,}"),
            ("zero", f"{rows.no_price_ticks:,} without a price, {rows.no_volume_ticks:,} without a volume"),
        ]
    return lines


def _print_sessions(certificate: Certificate) -> None:
    if not certificate.sessions:
        return
    rows, zone = certificate.rows, certificate.zone
    prints = {
        "opening_auction": rows.opening_auction_ticks if rows else None,
        "closing_auction": rows.closing_auction_ticks if rows else None,
    }
    word = certificate.time_word
    first, last = f"first ({word})", f"last ({word})"
    columns: tuple[str, ...] = (
        "session",
        f"from ({word})",
        f"to ({word})",
        "ticks",
        first,
        last,
        "auction prints",
        "confirmed symbols",
    )
    table: list[tuple[object, ...]] = [
        (
            session.name.replace("_", " "),
            zone.minute(session.start_ms),
            zone.minute(session.end_ms),
            session.rows.ticks if session.rows else None,
            zone.clock_if(session.rows.first_ts_ms if session.rows else None),
            zone.clock_if(session.rows.last_ts_ms if session.rows else None),
            prints.get(session.name),
            session.confirmed_symbols,
        )
        for session in certificate.sessions
    ]
    if rows is None:  # what only they tell would be nothing but dashes
        columns, table = (*columns[:3], columns[-1]), [(*row[:3], row[-1]) for row in table]
    numbers = ("ticks", "auction prints", "confirmed symbols")
    print_table(columns, table, numbers=numbers, spare=(last, first, "auction prints"))
    print()


def _print_kinds(certificate: Certificate) -> None:
    assert certificate.rows is not None
    for title, counts in (
        ("types", certificate.rows.by_type),
        ("directions", certificate.rows.by_direction),
        ("came by", certificate.rows.by_source),
    ):
        show_text(", ".join(f"{name} {count:,}" for name, count in counts.items()), f"{title}: ")
    print()


def _print_symbols(certificate: Certificate, limit: int, show_all: bool) -> None:
    symbols = [verdict for verdict in certificate.symbols if show_all or verdict.state != PROVEN]
    listed = symbols if show_all else symbols[:limit]
    if listed:
        word = certificate.time_word
        first, last, confirmed = (f"{name} ({word})" for name in ("first", "last", "confirmed"))
        print_table(
            ("symbol", "state", "stored", "expected", "missing", first, last, confirmed, "why"),
            [_symbol_row(verdict, certificate.zone) for verdict in listed],
            numbers=("stored", "expected", "missing"),
            spare=(first, last, confirmed),
            text="why",
        )
    if len(listed) < len(symbols):
        print(f"... and {len(symbols) - len(listed):,} more that are not proven: --limit, --all")
    elif not show_all and certificate.proven_symbols:
        verb, pronoun = ("is", "it") if certificate.proven_symbols == 1 else ("are", "them")
        print(f"{counted(certificate.proven_symbols, 'symbol')} {verb} proven (--all shows {pronoun})")


def _missing(verdict: SymbolCertificate) -> str:
    """``3``, or ``3-1,853`` where of a part, as of the day's beginning, only the most is known."""
    known = f"{verdict.missing_ticks:,}"
    return known if verdict.missing_at_most is None else f"{known}-{verdict.missing_ticks + verdict.missing_at_most:,}"


def _symbol_row(verdict: SymbolCertificate, zone: Zone) -> tuple[object, ...]:
    return (
        verdict.symbol,
        verdict.state,
        verdict.stored_ticks,
        verdict.expected_ticks,
        _missing(verdict),
        zone.clock_if(verdict.first_ts_ms),
        zone.clock_if(verdict.last_ts_ms),
        zone.clock_if(verdict.verified_until_ms),
        verdict.reason or "",
    )
