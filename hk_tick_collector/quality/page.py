"""The certificate as one HTML page that needs nothing beside it: styles, plots, prices and a small script are inside,
and its own policy lets it load nothing.

Follows the reader's preference for light or dark, fits a phone and prints well. Whatever comes out of a file is
escaped. Its size is bounded: ``PRICE_BARS`` bars, ``GAP_ROWS`` gaps, a line for each symbol. Without the script (a
browser that forbids it) the prices are not there, and all else is, in English.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache, partial
from html import escape
from pathlib import Path
from urllib.parse import quote

from hk_tick_collector.days.watched import share
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.market.zone import Zone
from hk_tick_collector.quality import plots
from hk_tick_collector.quality.gap_list import GapLine
from hk_tick_collector.quality.grade import explained
from hk_tick_collector.quality.model import (
    WATCHED,
    BookCertificate,
    Certificate,
    RowFacts,
    SymbolBookCertificate,
    SymbolCertificate,
)
from hk_tick_collector.quality.prices import Bars, Charts
from hk_tick_collector.quality.recount import Plots
from hk_tick_collector.quality.report_file import CHINESE_FILE, report_file
from hk_tick_collector.store.atomic import write_whole
from hk_tick_collector.store.verdict import PROVEN

GAP_ROWS = 200
PRICE_BARS = 60_000  # some 20 bytes each: 900 symbols of five minutes in a day of Hong Kong
INDEX_PAGE = "index.html"
_STYLE, _SCRIPT = (Path(__file__).with_name(f"page.{kind}") for kind in ("css", "js"))


def write_page(data_root: Path, certificate: Certificate, drawn: Plots, gaps: Sequence[GapLine]) -> Path:
    """Write ``_reports/YYYYMMDD.html``, whole or not at all. OSError when the disk refuses."""
    path = report_file(data_root, certificate.trading_day, ".html")
    return write_whole(path, page(certificate, drawn, gaps, index=INDEX_PAGE))


@cache
def script() -> str:
    """The page's script: its words in Chinese, the choice of the language, and the prices."""
    return CHINESE_FILE.read_text(encoding="utf-8") + _SCRIPT.read_text(encoding="utf-8")


@cache
def policy() -> str:
    """The Content-Security-Policy of the page, which it carries itself: no request, and this one script alone."""
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def document(title: str, body: str, scripts: str = "") -> str:
    """A page of its own, in English; its script shows it in Chinese to those who want that."""
    style = _STYLE.read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy())}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{title}</title>\n<style>\n{style}</style></head>\n'
        f"<body><main>{body}</main>{scripts}<script>{script()}</script></body></html>\n"
    )


def page(certificate: Certificate, drawn: Plots, gaps: Sequence[GapLine], *, index: str | None = None) -> str:
    """The page's HTML. ``index``: the address of the page of all days, where there is one."""
    day = certificate.trading_day
    title = f"Ticks of {day[:4]}-{day[4:6]}-{day[6:]}"
    span = _span(certificate, drawn)
    charted, prices = _prices(certificate, drawn.charts, span)
    parts = [
        f'<nav><a href="{escape(index)}">All days</a></nav>\n' if index else "",
        _head(certificate, title),
        _tiles(certificate),
        _list("Problems", certificate.problems, "bad"),
        _list("Notes", (*certificate.notes, *certificate.evidence), "note"),
        _price_card(drawn.charts, len(charted)) if charted else "",
        _plots(certificate, drawn, gaps, span),
        _sessions(certificate),
        _kinds(certificate.rows),
        _gaps(gaps, certificate.zone),
        _symbols(certificate, charted),
        _books(certificate.books),
        _brokers(certificate.brokers),
        _foot(certificate),
    ]
    data = f'<script type="application/json" id="bars">{prices}</script>' if charted else ""
    return document(title, "".join(part for part in parts if part), data)


def _span(certificate: Certificate, drawn: Plots) -> plots.Span:
    market = market_of(certificate.market)
    day = certificate.trading_day
    begins_ms = market.begins_ms(day)
    windows = [
        (
            market.on_clock_ms(day, session.start_ms) // 60_000,
            (market.on_clock_ms(day, session.end_ms - 1) + 1) // 60_000,
        )
        for session in certificate.sessions
    ]
    return plots.span_of(windows, drawn.rows_a_minute, market.zone.ms_of_day(begins_ms) // 60_000)


# Prices


def _prices(certificate: Certificate, charts: Charts, span: plots.Span) -> tuple[frozenset[str], str]:
    """The symbols whose prices are in the page, and the data for its script: safe inside of a script element."""
    order = [verdict.symbol for verdict in _by_interest(certificate) if verdict.symbol in charts.bars]
    decimals = market_of(certificate.market).price_decimals
    bars: dict[str, list[int]] = {}
    total = 0
    for symbol in order:
        symbol_bars = charts.bars[symbol]
        total += len(symbol_bars.slots)
        if total > PRICE_BARS:
            break
        bars[symbol] = _flat(symbol_bars, 10**decimals)
    most = max(certificate.symbols, key=lambda verdict: (verdict.symbol in bars, verdict.stored_ticks), default=None)
    data = {
        "slot_minutes": charts.slot_minutes,
        "decimals": decimals,
        "first": span.first,
        "last": span.last,
        "breaks": span.breaks,
        "begins_minute": span.begins_minute,
        "chosen": most.symbol if most is not None else "",
        "bars": bars,
    }
    text = json.dumps(data, separators=(",", ":"))  # ASCII alone
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return frozenset(bars), text


def _flat(bars: Bars, scale: int) -> list[int]:
    """Six small numbers a bar, as page.js reads them."""
    flat = []
    slot_before = close_before = 0
    for slot, *prices, volume in zip(bars.slots, bars.open, bars.high, bars.low, bars.close, bars.volume, strict=True):
        first, high, low, close = (round(price * scale) for price in prices)
        edges = high - max(first, close), min(first, close) - low
        flat += [slot - slot_before, first - close_before, *edges, close - first, volume]
        slot_before, close_before = slot, close
    return flat


def _by_interest(certificate: Certificate) -> list[SymbolCertificate]:
    """Symbols that miss ticks first, then the most traded ones."""
    return sorted(certificate.symbols, key=lambda verdict: (not verdict.is_missing, -verdict.stored_ticks))


def _price_card(charts: Charts, shown: int) -> str:
    whole = len(charts.bars) + charts.left_out
    part = f"; {shown:,} of {whole:,} symbols are in this page (hk-tickctl bars shows any)" if shown < whole else ""
    minutes = "a minute" if charts.slot_minutes == 1 else f"{charts.slot_minutes} minutes"
    return (
        '<section id="prices" hidden><div class="row"><h2>Price and volume</h2>'
        '<label>Symbol <input id="symbol" list="symbols" size="12" autocomplete="off"></label>'
        '<datalist id="symbols"></datalist></div>'
        f'<p class="muted">Trades that make the price, a bar for {minutes}: its range, the line is its close{part}.</p>'
        '<div id="chart"></div><p class="muted" id="told" role="status"></p></section>\n'
    )


def _head(certificate: Certificate, title: str) -> str:
    grade = escape(certificate.grade)
    return (
        f'<header><div class="grade {grade}" title="{escape(explained(certificate))}">{grade}</div>'
        f"<div><h1>{title}</h1><p>{escape(certificate.sentence)}</p>"
        f'<p class="muted">Grade {grade}: {escape(explained(certificate))}.</p></div></header>\n'
    )


def _tiles(certificate: Certificate) -> str:
    missing = f"{certificate.missing_ticks:,}"
    may_miss = any(verdict.missing_at_most is not None for verdict in certificate.symbols)
    missing += " +" if may_miss else ""
    of = f" ({certificate.counted_symbols:,} symbols)" if certificate.uncounted_symbols else ""
    tiles = [
        ("ticks stored", f"{certificate.stored_ticks:,}", ""),
        (f"ticks expected{of}", f"{certificate.expected_ticks:,}" if certificate.counted_symbols else "-", ""),
        ("ticks missing", missing, "bad" if certificate.missing_symbols else "warn" if may_miss else "good"),
        ("symbols proven", f"{certificate.proven_symbols:,}", "good" if certificate.proven_symbols else ""),
        ("symbols missing ticks", f"{certificate.missing_symbols:,}", "bad" if certificate.missing_symbols else ""),
        ("symbols unproven", f"{certificate.unproven_symbols:,}", "warn" if certificate.unproven_symbols else ""),
    ]
    cells = "".join(
        f'<div class="tile"><div class="muted">{name}</div><div class="big {tone}">{value}</div></div>'
        for name, value, tone in tiles
    )
    return f'<section class="tiles">{cells}</section>\n'


def _list(title: str, lines: Sequence[str], tone: str) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<section><h2>{title}</h2><ul class="{tone}">{items}</ul></section>\n'


def _plots(certificate: Certificate, drawn: Plots, gaps: Sequence[GapLine], span: plots.Span) -> str:
    on_clock_ms = partial(market_of(certificate.market).on_clock_ms, certificate.trading_day)
    heat_symbols = [verdict.symbol for verdict in _by_interest(certificate)]
    shown = min(plots.HEAT_SYMBOLS, len(drawn.heat))
    key = '<span class="key p50"></span> median <span class="key p99"></span> 99th percentile'
    gap_key = '<span class="key open"></span> open <span class="key closed"></span> filled later'
    figures = [
        ("Ticks a minute, logarithmic scale", "", plots.rows_plot(span, drawn.rows_a_minute)),
        (
            "Lag of pushed ticks, event to our clock, logarithmic scale",
            key,
            plots.lag_plot(span, drawn.lag_p50_ms, drawn.lag_p99_ms),
        ),
        ("Gaps", gap_key, plots.gaps_plot(span, gaps, on_clock_ms)),
        (
            f"Ticks in five minutes, {shown:,} of {len(drawn.heat):,} symbols",
            "symbols that miss ticks first, then the most traded",
            plots.heat_plot(span, drawn.heat, heat_symbols),
        ),
    ]
    return "".join(
        f'<section><h2>{escape(title)}</h2><p class="muted">{note}</p><figure>{drawing}</figure></section>\n'
        for title, note, drawing in figures
        if drawing
    )


def _sessions(certificate: Certificate) -> str:
    rows, zone = certificate.rows, certificate.zone
    prints = {
        "opening_auction": rows.opening_auction_ticks if rows else None,
        "closing_auction": rows.closing_auction_ticks if rows else None,
    }
    body = [
        (
            session.name.replace("_", " "),
            f"{zone.minute(session.start_ms)}-{zone.minute(session.end_ms)}",
            session.rows.ticks if session.rows else None,
            zone.clock_if(session.rows.first_ts_ms if session.rows else None),
            zone.clock_if(session.rows.last_ts_ms if session.rows else None),
            prints.get(session.name),
            f"{session.confirmed_symbols:,} of {len(certificate.symbols):,}",
        )
        for session in certificate.sessions
    ]
    columns = ("session", "hours", "#ticks", "first", "last", "#auction prints", "#confirmed symbols")
    note = "Confirmed: OpenD was asked after the session, and had nothing that is not stored."
    if certificate.replayed_symbols:
        note = "Confirmed: the imported file was read after the session, and had nothing that is not stored."
    return _section("Sessions", note, _table(columns, body)) if body else ""


def _kinds(rows: RowFacts | None) -> str:
    if rows is None:
        return ""
    tables = "".join(
        _table(
            (title, "#ticks", "#share"), [(name, ticks, f"{ticks / rows.ticks:.2%}") for name, ticks in counts.items()]
        )
        for title, counts in (("type", rows.by_type), ("direction", rows.by_direction), ("came by", rows.by_source))
        if counts
    )
    facts = [
        ("received after a later tick of the symbol (out of order)", rows.out_of_order_ticks),
        ("received more than 5 s after the event (late)", rows.late_ticks),
        ("time differs from the sequence's second", rows.sequence_time_disagreements),
        ("OpenD had it before its event time", rows.received_before_event_ticks),
        ("outside the sessions", rows.outside_session_ticks),
        ("without a price (0)", rows.no_price_ticks),
        ("without a volume (0)", rows.no_volume_ticks),
        ("with the date of another day", rows.other_day_ticks),
    ]
    return _section("Ticks by kind", "", f'<div class="columns">{tables}{_table(("what", "#ticks"), facts)}</div>')


def _gaps(gaps: Sequence[GapLine], zone: Zone) -> str:
    if not gaps:
        return ""
    body = [
        (
            line.symbol,
            line.state,
            zone.clock_if(line.start_ts_ms),
            zone.clock_if(line.end_ts_ms),
            "?" if line.missing_ticks is None else line.missing_ticks,
            line.counters,
            line.reason,
        )
        for line in sorted(gaps, key=lambda line: (line.state != "open", line.symbol, line.start_ts_ms))[:GAP_ROWS]
    ]
    note = f"The first {GAP_ROWS} of {len(gaps):,}." if len(gaps) > GAP_ROWS else ""
    return _section(
        "What is missing", note, _table(("symbol", "state", "from", "to", "#ticks", "counters", "why"), body)
    )


def _symbols(certificate: Certificate, charted: frozenset[str]) -> str:
    doubtful = [verdict for verdict in certificate.symbols if verdict.state != PROVEN]
    proven = [verdict for verdict in certificate.symbols if verdict.state == PROVEN]
    parts = [_symbol_table(doubtful, certificate.zone, charted)] if doubtful else []
    if proven:
        table = _symbol_table(proven, certificate.zone, charted)
        parts.append(f"<details><summary>{len(proven):,} proven symbols</summary>{table}</details>")
    return _section("Symbols", "The worst first.", "".join(parts)) if parts else ""


def _symbol_table(symbols: Iterable[SymbolCertificate], zone: Zone, charted: frozenset[str]) -> str:
    columns = (
        "symbol", "name", "state", "#stored", "#expected", "#missing", "first", "last", "confirmed", "#auctions",
        "#out of order", "#late", "why",
    )  # fmt: skip
    body = [
        (
            verdict.symbol,
            verdict.name or "",
            verdict.state,
            verdict.stored_ticks,
            verdict.expected_ticks,
            f"{verdict.missing_ticks:,}" + ("" if verdict.missing_at_most is None else " +"),
            zone.clock_if(verdict.first_ts_ms),
            zone.clock_if(verdict.last_ts_ms),
            zone.clock_if(verdict.verified_until_ms),
            (verdict.rows.opening_auction_ticks or 0) + (verdict.rows.closing_auction_ticks or 0)
            if verdict.rows
            else None,
            verdict.rows.out_of_order_ticks if verdict.rows else None,
            verdict.rows.late_ticks if verdict.rows else None,
            verdict.reason or "",
        )
        for verdict in symbols
    ]
    return _table(columns, body, linked=charted)


def _books(books: BookCertificate | None) -> str:
    if books is None:
        return ""
    columns = (
        "symbol", "state", "#watched", "#blind", "#pushes", "#merged", "#pulls", "#answered", "#impossible", "#holes",
        "#clock back", "#no time", "#one-sided", "why",
    )  # fmt: skip
    body = [
        (
            verdict.symbol,
            verdict.state,
            share(verdict.watched_ms, verdict.wanted_ms),
            verdict.blind_stretches,
            verdict.pushes,
            verdict.merged,
            f"{verdict.pulls_agreed:,} of {verdict.pulls:,}" if verdict.pulls else None,
            share(verdict.trades_answered or 0, verdict.trades) if verdict.trades else None,
            verdict.impossible,
            verdict.suspected_holes,
            verdict.clock_back,
            verdict.without_times,
            verdict.one_sided,
            verdict.reason or "",
        )
        for verdict in _blind_first(books)
    ]
    note = f"Watched and witnessed, which is no proof: a push of a book has no number. {_sums(books)}"
    return _section("Order books", note, _table(columns, body) if body else "")


def _brokers(queues: BookCertificate | None) -> str:
    if queues is None:
        return ""
    columns = "symbol", "state", "#watched", "#blind", "#pushes", "#merged", "#pulls", "why"
    body = [
        (
            verdict.symbol,
            verdict.state,
            share(verdict.watched_ms, verdict.wanted_ms),
            verdict.blind_stretches,
            verdict.pushes,
            verdict.merged,
            f"{verdict.pulls_agreed:,} of {verdict.pulls:,}" if verdict.pulls else None,
            verdict.reason or "",
        )
        for verdict in _blind_first(queues)
    ]
    note = f"Watched, which is no proof: a push of a broker queue has neither a number nor a time. {_sums(queues)}"
    return _section("Broker queues", note, _table(columns, body) if body else "")


def _blind_first(books: BookCertificate) -> list[SymbolBookCertificate]:
    return sorted(books.symbols, key=lambda verdict: (verdict.state == WATCHED, verdict.symbol))


def _sums(books: BookCertificate) -> str:
    counts = ""
    if books.received is not None:
        counts = (
            f" {books.received:,} pushes received: {books.stored:,} stored; {books.merged:,} merged; "
            f"{books.unread:,} unread."
        )
    adds_up = "" if books.adds_up else " The pushes that were received do not add up."
    told = books.sentence.replace(", ", "; ")
    return f"{told}.{counts}{adds_up}"


def _foot(certificate: Certificate) -> str:
    market = market_of(certificate.market)
    made = market.zone.date_and_clock(certificate.made_at_ms)
    return (
        f'<footer class="muted">{escape(certificate.day_kind)} trading day, '
        f"{'still in session' if certificate.so_far else 'over'}. Made {made} {market.name} time "
        f"from {escape(certificate.source)} by hk-tick-collector {escape(certificate.version)}. "
        f"Times are {market.name}'s.</footer>"
    )


def _section(title: str, note: str, content: str) -> str:
    told = f'<p class="muted">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{told}{content}</section>\n"


def _table(columns: Sequence[str], body: Iterable[Sequence[object]], linked: frozenset[str] = frozenset()) -> str:
    """``#`` before a column's name sets its values to the right. A state colours its cell; a symbol that is among
    ``linked`` leads to its prices."""
    heads = "".join(
        f"<th{' class=num' if name.startswith('#') else ''}>{escape(name.lstrip('#'))}</th>" for name in columns
    )
    rows = [
        "".join(_table_cell(name, value, linked) for name, value in zip(columns, values, strict=True))
        for values in body
    ]
    lines = "".join(f"<tr>{cells}</tr>" for cells in rows)
    named = escape(", ".join(name.lstrip("#") for name in columns[:3]))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table of {named}"><table><thead><tr>{heads}</tr>'
        f"</thead><tbody>{lines}</tbody></table></div>"
    )


def _table_cell(name: str, value: object, linked: frozenset[str]) -> str:
    text = "-" if value is None else f"{value:,}" if isinstance(value, int) else escape(str(value))
    kinds = {"state": text, "why": "why", "name": "name"}
    if name == "symbol" and value in linked:
        text = f'<a href="#{quote(str(value))}">{text}</a>'
    kind = "num" if name.startswith("#") else kinds.get(name)
    return f"<td>{text}</td>" if kind is None else f'<td class="{kind}">{text}</td>'
