"""The page of all days: ``DATA_ROOT/_reports/index.html``, a calendar of grades with a link to each day's page.

It is made again by whatever makes a day's page, from the first bytes of each certificate: some 0.1 ms a day. A day that
is recorded and has no certificate is there too, without a grade.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from hk_tick_collector.quality.page import INDEX_PAGE, document
from hk_tick_collector.quality.report_file import Head, read_head, report_file
from hk_tick_collector.store import layout
from hk_tick_collector.store.atomic import write_whole

NEWEST_DAYS = 60  # with their sentence


def write_index(data_root: Path, recorded: Iterable[str]) -> Path:
    """Write the page. ``recorded``: days with a day file or an archive (``Catalog.days``). OSError when the disk
    refuses."""
    directory = layout.reports_dir(data_root)
    pages, reports = _days_of(directory, ".html"), _days_of(directory, ".json")
    heads = {day: read_head(report_file(data_root, day)) for day in sorted({*recorded, *reports, *pages})}
    return write_whole(directory / INDEX_PAGE, index_page(heads, pages))


def _days_of(directory: Path, suffix: str) -> set[str]:
    names = [entry.name for entry in directory.iterdir() if entry.suffix == suffix]
    return {day for name in names if (day := layout.parse_day(Path(name).with_suffix(".db"))) is not None}


def index_page(heads: Mapping[str, Head | None], pages: Iterable[str]) -> str:
    """The page's HTML. ``heads``: what certificates say of recorded days, None where there is none; ``pages``: days
    that have a page."""
    linked = frozenset(pages)
    months = [
        _month(month, {day: heads[day] for day in days}, linked)
        for month, days in groupby(sorted(heads, reverse=True), key=lambda day: day[:6])
    ]
    count = f"{len(heads):,} recorded day{'' if len(heads) == 1 else 's'}"
    newest = sorted(heads, reverse=True)[:NEWEST_DAYS]
    body = [
        f"<header><div><h1>Recorded days</h1><p class=muted>{count}. A letter is the grade of a day's certificate; a "
        "day without one has none yet: hk-tickctl day YYYYMMDD --html makes it.</p></div></header>\n",
        f"<section>{''.join(months)}</section>\n" if months else "",
        _table(newest, heads, linked) if newest else "",
    ]
    return document("Recorded days", "".join(body))


def _month(month: str, heads: Mapping[str, Head | None], pages: frozenset[str]) -> str:
    """One month, Monday first."""
    year, number = int(month[:4]), int(month[4:])
    cells = [f"<span>{name}</span>" for name in ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")]
    before, length = calendar.monthrange(year, number)
    cells += ["<span></span>"] * before
    cells += [_cell(f"{month}{day:02d}", day, heads, pages) for day in range(1, length + 1)]
    title = f"{calendar.month_name[number]} {year}"
    return f'<div class="month"><h2>{title}</h2><div class="days">{"".join(cells)}</div></div>'


def _cell(day: str, number: int, heads: Mapping[str, Head | None], pages: frozenset[str]) -> str:
    if day not in heads:
        return f"<span>{number}</span>"
    head = heads[day]
    grade = head.grade if head is not None else ""
    told = escape(head.sentence if head is not None else f"{day}: no certificate yet")
    inside = f"{number}<b>{escape(grade) or '?'}</b>"
    if day in pages:
        return f'<a class="recorded {escape(grade)}" href="{day}.html" title="{told}">{inside}</a>'
    return f'<span class="recorded {escape(grade)}" title="{told}">{inside}</span>'


def _table(days: Sequence[str], heads: Mapping[str, Head | None], pages: frozenset[str]) -> str:
    rows = []
    for day in days:
        head = heads[day]
        name = f"{day[:4]}-{day[4:6]}-{day[6:]}"
        name = f'<a href="{day}.html">{name}</a>' if day in pages else name
        grade = escape(head.grade) if head is not None else ""
        told = escape(head.sentence) if head is not None else "no certificate yet"
        rows.append(
            f'<tr><td class="num">{name}</td><td class="{grade}"><b>{grade or "-"}</b></td><td>{told}</td></tr>'
        )
    return (
        '<section><h2>Newest days</h2><div class="scroll" tabindex="0" role="region" aria-label="newest days"><table>'
        f"<thead><tr><th>day</th><th>grade</th><th>certificate</th></tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div></section>\n"
    )
