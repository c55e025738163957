"""The certificate as one HTML page that needs nothing beside it: styles and plots are inside, there is no script.

Follows the reader's preference for light or dark and prints well. Whatever comes out of a file is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from hk_tick_collector.market.registry import market_of
from hk_tick_collector.market.zone import Zone
from hk_tick_collector.quality import plots
from hk_tick_collector.quality.gap_list import GapLine
from hk_tick_collector.quality.grade import explained
from hk_tick_collector.quality.model import Certificate, RowFacts, SymbolCertificate
from hk_tick_collector.quality.recount import Plots
from hk_tick_collector.quality.report_file import report_file
from hk_tick_collector.store.atomic import write_whole
from hk_tick_collector.store.coverage import PROVEN

GAP_ROWS = 200
_STYLE = Path(__file__).with_name("page.css")


def write_page(data_root: Path, certificate: Certificate, drawn: Plots, gaps: Sequence[GapLine]) -> Path:
    """Write ``_reports/YYYYMMDD.html``, whole or not at all. OSError when the disk refuses."""
    path = report_file(data_root, certificate.trading_day, ".html")
    return write_whole(path, page(certificate, drawn, gaps))


def page(certificate: Certificate, drawn: Plots, gaps: Sequence[GapLine]) -> str:
    """The page's HTML."""
    day = certificate.trading_day
    title = f"Ticks of {day[:4]}-{day[4:6]}-{day[6:]}"
    parts = [
        _head(certificate, title),
        _tiles(certificate),
        _list("Problems", certificate.problems, "bad"),
        _list("Notes", (*certificate.notes, *certificate.evidence), "note"),
        _plots(certificate, drawn, gaps),
        _sessions(certificate),
        _kinds(certificate.rows),
        _gaps(gaps, certificate.zone),
        _symbols(certificate),
        _foot(certificate),
    ]
    style = _STYLE.read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{title}</title>\n<style>\n{style}</style></head>\n'
        f"<body><main>{''.join(part for part in parts if part)}</main></body></html>\n"
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
    if any(one.missing_at_most is not None for one in certificate.symbols):
        missing += " +"
    of = f" ({certificate.counted_symbols:,} symbols)" if certificate.uncounted_symbols else ""
    tiles = [
        ("ticks stored", f"{certificate.stored_ticks:,}", ""),
        (f"ticks expected{of}", f"{certificate.expected_ticks:,}" if certificate.counted_symbols else "-", ""),
        ("ticks missing", missing, "bad" if certificate.missing_symbols else "good"),
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


def _plots(certificate: Certificate, drawn: Plots, gaps: Sequence[GapLine]) -> str:
    market = market_of(certificate.market)
    begins_ms = market.begins_ms(certificate.trading_day)
    edges_ms = [(one.start_ms, one.end_ms) for one in certificate.sessions]
    windows = [((start_ms - begins_ms) // 60_000, (end_ms - begins_ms) // 60_000) for start_ms, end_ms in edges_ms]
    span = plots.span_of(windows, drawn.rows_a_minute, market.zone.ms_of_day(begins_ms) // 60_000)
    # Symbols that are not proven first, then the most traded ones.
    order = sorted(certificate.symbols, key=lambda one: (not one.is_missing, -one.stored_ticks))
    heat_symbols = [one.symbol for one in order]
    shown = min(plots.HEAT_SYMBOLS, len(drawn.heat))
    key = '<span class="key p50"></span> median <span class="key p99"></span> 99th percentile'
    gap_key = '<span class="key open"></span> open <span class="key closed"></span> filled later'
    figures = [
        ("Ticks a minute", "", plots.rows_plot(span, drawn.rows_a_minute)),
        ("Lag of pushed ticks, event to our clock", key, plots.lag_plot(span, drawn.lag_p50_ms, drawn.lag_p99_ms)),
        ("Gaps", gap_key, plots.gaps_plot(span, gaps, begins_ms)),
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
            one.name.replace("_", " "),
            f"{zone.minute(one.start_ms)}-{zone.minute(one.end_ms)}",
            one.rows.ticks if one.rows else None,
            zone.clock_if(one.rows.first_ts_ms if one.rows else None),
            zone.clock_if(one.rows.last_ts_ms if one.rows else None),
            prints.get(one.name),
            f"{one.confirmed_symbols:,} of {len(certificate.symbols):,}",
        )
        for one in certificate.sessions
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


def _symbols(certificate: Certificate) -> str:
    doubtful = [one for one in certificate.symbols if one.state != PROVEN]
    proven = [one for one in certificate.symbols if one.state == PROVEN]
    parts = [_symbol_table(doubtful, certificate.zone)] if doubtful else []
    if proven:
        table = _symbol_table(proven, certificate.zone)
        parts.append(f"<details><summary>{len(proven):,} proven symbols</summary>{table}</details>")
    return _section("Symbols", "The worst first.", "".join(parts)) if parts else ""


def _symbol_table(symbols: Iterable[SymbolCertificate], zone: Zone) -> str:
    columns = (
        "symbol", "state", "#stored", "#expected", "#missing", "first", "last", "confirmed", "#auctions",
        "#out of order", "#late", "why",
    )  # fmt: skip
    body = [
        (
            one.symbol,
            one.state,
            one.stored_ticks,
            one.expected_ticks,
            f"{one.missing_ticks:,}" + ("" if one.missing_at_most is None else " +"),
            zone.clock_if(one.first_ts_ms),
            zone.clock_if(one.last_ts_ms),
            zone.clock_if(one.verified_until_ms),
            (one.rows.opening_auction_ticks or 0) + (one.rows.closing_auction_ticks or 0) if one.rows else None,
            one.rows.out_of_order_ticks if one.rows else None,
            one.rows.late_ticks if one.rows else None,
            one.reason or "",
        )
        for one in symbols
    ]
    return _table(columns, body)


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


def _table(columns: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    """``#`` before a column's name sets its values to the right. A state colours its cell."""
    heads = "".join(
        f"<th{' class=num' if name.startswith('#') else ''}>{escape(name.lstrip('#'))}</th>" for name in columns
    )
    rows = []
    for values in body:
        cells = []
        for name, value in zip(columns, values, strict=True):
            text = "-" if value is None else f"{value:,}" if isinstance(value, int) else escape(str(value))
            tone = " class=num" if name.startswith("#") else f' class="{text}"' if name == "state" else ""
            cells.append(f"<td{tone}>{text}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
