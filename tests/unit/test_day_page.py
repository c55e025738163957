"""The page of a day and the page of all days: whole in themselves, bounded, and with the prices that ``bars`` has."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from hk_tick_collector.core.facts import GapFound
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.dates import add_days
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.quality import index, page, prices
from hk_tick_collector.quality import recount as recounting
from hk_tick_collector.quality.gap_list import gap_lines
from hk_tick_collector.quality.model import Certificate
from hk_tick_collector.quality.prices import Bars, Charts
from hk_tick_collector.quality.report_file import read_head, report_file, write_certificate
from hk_tick_collector.query.bars import INPUT_COLUMNS, make_bars
from tests.tickctl import SYMBOLS, day_ticks, record_day
from tests.ticks import DAY, make_ticks
from tests.unit.test_certificate import CONFIRMED, SYMBOL, change, day_of, recounted_day, special_day, write


class Checker(HTMLParser):
    """Balanced tags, and what they load or lead to."""

    VOID = frozenset({"meta", "br", "input"})
    LOADS = ("src", "xlink:href", "srcset", "action", "poster", "data")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.links: set[str] = set()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in self.LOADS or name.startswith("on")]
        self.links |= {value or "" for name, value in attrs if name == "href"}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.loads == []
    assert not {*checker.tags} & {"link", "img", "iframe", "object", "base", "form"}
    assert "@import" not in text
    assert "url(" not in text
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawing)
    return checker


def data_of(text: str) -> Any:
    (bars,) = re.findall(r'<script type="application/json" id="bars">(.*?)</script>', text, re.DOTALL)
    return json.loads(bars)


def unpacked(data: Any, symbol: str) -> list[tuple[int, float, float, float, float, int]]:
    """As page.js reads it: minute, open, high, low, close, volume."""
    flat, scale = data["bars"][symbol], 10 ** data["decimals"]
    bars, slot, before = [], 0, 0
    for at in range(0, len(flat), 6):
        step, gap, up, down, change_, volume = flat[at : at + 6]
        slot, first = slot + step, before + gap
        close = first + change_
        values = (first, max(first, close) + up, min(first, close) - down, close)
        bars.append((slot * data["slot_minutes"], *(value / scale for value in values), volume))
        before = close
    return bars


def expected(ticks: pa.Table, minutes: int) -> dict[str, list[tuple[Any, ...]]]:
    """The same by ``make_bars``."""
    rows_of: dict[str, list[tuple[Any, ...]]] = {}
    for bar in make_bars(ticks, minutes * 60_000, HK).to_pylist():
        minute = (int(bar["start_ms"].timestamp() * 1000) - day_start_ms(DAY)) // 60_000
        row = (minute, bar["open"], bar["high"], bar["low"], bar["close"], bar["volume"])
        rows_of.setdefault(bar["symbol"], []).append(row)
    return rows_of


def test_the_page_needs_nothing_and_leads_to_its_neighbour_alone(tmp_path: Path) -> None:
    record_day(tmp_path, count=400, lost=(7, 20))
    certificate, rows = recounted_day(tmp_path)
    path = page.write_page(tmp_path, certificate, rows.plots, gap_lines(day_of(tmp_path)))
    assert path == tmp_path / "_reports" / f"{DAY}.html"
    text = path.read_text()
    checker = checked(text)
    assert checker.links == {"index.html", *(f"#{symbol}" for symbol in SYMBOLS)}
    assert checker.tags.count("script") == 2, "the data, and what draws it"
    assert page.policy() in text.replace("&#x27;", "'")
    drawings = [ElementTree.fromstring(drawing) for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    labels = [drawing.get("aria-label") for drawing in drawings]
    assert labels == [
        "ticks a minute, logarithmic scale", "lag of pushed ticks, logarithmic scale", "gaps",
        "ticks in five minutes by symbol",
    ]  # fmt: skip
    assert text.count("logarithmic scale</h2>") == 2
    assert sum(mark.get("class") == "gap open" for mark in drawings[2]) == 2
    assert certificate.sentence in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_escapes_whatever_the_file_holds(tmp_path: Path) -> None:
    bad = "HK.</script><script>alert('1')</script>&\"<!--"
    ticks = make_ticks(1, 9, symbol=bad, tick_type="<b>", direction="<i>", push_type="push")
    facts = [GapFound(bad, DAY, 20, 30, CONFIRMED, "<u>why</u>")]
    write(tmp_path, [*ticks, *make_ticks(31, 33, symbol=bad)], facts)
    change(tmp_path, "UPDATE coverage SET state = '<s>'")
    certificate, rows = recounted_day(tmp_path)
    assert certificate.problems
    text = page.page(certificate, rows.plots, gap_lines(day_of(tmp_path)))
    checker = checked(text)
    assert checker.tags.count("script") == 2
    assert not {*checker.tags} & {"i", "u", "s"}
    assert list(data_of(text)["bars"]) == [bad]
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("few", [150, 0], ids=["a minute a bar", "five minutes a bar"])
@pytest.mark.parametrize("rows_a_batch", [10_000, 23])
def test_prices_are_those_that_bars_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int, rows_a_batch: int
) -> None:
    monkeypatch.setattr(prices, "FEW_SYMBOLS", few)
    late = [tick._replace(price=0.0) for tick in make_ticks(2000, 2003)]
    write(
        tmp_path,
        [*special_day(DAY, "16:08:12"), *late, *(tick for symbol in SYMBOLS[::2] for tick in day_ticks(symbol, 300))],
    )
    day = day_of(tmp_path)
    columns = tuple(dict.fromkeys((*recounting.COLUMNS, *INPUT_COLUMNS)))
    whole = pa.Table.from_batches(day.batches(columns)).combine_chunks()
    assert whole.num_rows % 37
    mixed = whole.take(pa.array([(n * 37) % whole.num_rows for n in range(whole.num_rows)]))
    counter = recounting._Counter(HK, DAY, DayKind.WHOLE, ticks_by_symbol=day.rows_by_symbol())
    for first in range(0, mixed.num_rows, rows_a_batch):
        part = mixed.slice(first, rows_a_batch).select(list(recounting.COLUMNS)).combine_chunks()
        for batch in part.to_batches():
            counter.add(batch)
    drawn = counter.result([], None).plots
    certificate, _ = recounted_day(tmp_path)
    data = data_of(page.page(certificate, drawn, []))
    assert data["slot_minutes"] == (1 if few else 5)
    wanted = expected(whole, data["slot_minutes"])
    assert {symbol: unpacked(data, symbol) for symbol in data["bars"]} == wanted
    assert len(wanted) == 3
    assert all(bar[5] > 0 for bars in wanted.values() for bar in bars)


def test_two_thousand_symbols_make_a_page_of_a_bounded_size(tmp_path: Path) -> None:
    write(tmp_path, make_ticks(1, 3))
    certificate, rows = recounted_day(tmp_path)
    names = [f"HK.{n:05d}" for n in range(2_000)]
    (symbol,) = certificate.symbols
    slots = list(range(114, 114 + 66))
    bars = Bars(slots, *([388.2 + n / 10 for n in range(66)] for _ in range(4)), [123_400] * 66)
    many = replace(certificate, symbols=tuple(replace(symbol, symbol=name) for name in names))
    heat = {name: [9] * recounting.HEAT_SLOTS for name in names}
    drawn = replace(rows.plots, heat=heat, charts=Charts(5, dict.fromkeys(names, bars), left_out=17))
    text = page.page(many, drawn, [])
    shown = data_of(text)["bars"]
    assert len(shown) == page.PRICE_BARS // 66
    assert f"{len(shown):,} of 2,017 symbols are in this page" in text
    assert len(text) < 3_000_000
    assert checked(text)


def test_the_tables_of_prices_are_bounded_before_a_row_is_read() -> None:
    many = prices.PriceBars({f"HK.{n:05d}": n for n in range(3_000)})
    names = [f"HK.{n:05d}" for n in range(3_000)]
    codes = pa.array(range(3_000)).to_numpy()
    units = codes * 0 + 1
    many.add(names, codes, units, units, units, units * 1.0, units)
    charts = many.result()
    assert charts.slot_minutes == 5
    assert (len(charts.bars), charts.left_out) == (prices.MAX_SYMBOLS, 1_000)
    assert "HK.02999" in charts.bars, "those that trade most"
    assert "HK.00999" not in charts.bars
    assert many._traded.nbytes + many._volume.nbytes < 6_000_000


def certificate_of(certificate: Certificate, day: str, grade: str, sentence: str) -> Certificate:
    return replace(certificate, trading_day=day, grade=grade, sentence=sentence)


def test_all_days_are_a_calendar_of_grades_with_links(tmp_path: Path) -> None:
    record_day(tmp_path, count=50)
    day_certificate, rows = recounted_day(tmp_path)
    told = 'misses 3 of 600 <b>ticks</b> "é"'
    for day, grade in ((DAY, "A"), ("20261102", "D"), ("20251231", "C")):
        certificate = certificate_of(day_certificate, day, grade, told)
        write_certificate(tmp_path, certificate)
        if day != "20251231":
            page.write_page(tmp_path, certificate, rows.plots, [])
    (tmp_path / "_reports" / "20261399.html").write_text("no day")
    (tmp_path / "_reports" / "notes.html").write_text("a user's own")
    path = index.write_index(tmp_path, [DAY, "20261119"])
    text = path.read_text()
    checker = checked(text)
    assert checker.links == {f"{DAY}.html", "20261102.html"}
    assert checker.tags.count("script") == 1, "its language alone"
    assert re.findall(r"<h2>(\w+ \d{4})</h2>", text) == ["November 2026", "December 2025"]
    assert f'<a class="recorded A" href="{DAY}.html"' in text
    assert '<span class="recorded C" title="misses 3' in text
    assert "20261119: no certificate yet" in text
    assert "4 recorded days" in text
    assert read_head(report_file(tmp_path, DAY)).sentence == told  # type: ignore[union-attr]


def test_ten_years_of_days_is_a_small_page() -> None:
    calendar = TradingCalendar(HK)
    day, heads = "20160101", {}
    while day < "20261231":
        if calendar.day_kind(day) is not DayKind.CLOSED:
            heads[day] = None
        day = add_days(day, 1)
    assert len(index.index_page(heads, heads)) < 700_000


def test_a_report_whose_verdict_is_not_among_its_first_bytes_still_says_what_it_is_of(tmp_path: Path) -> None:
    record_day(tmp_path, count=20)
    certificate, _ = recounted_day(tmp_path)
    write_certificate(tmp_path, replace(certificate, sentence="x" * 5_000))
    head = read_head(report_file(tmp_path, DAY))
    assert head is not None
    assert (head.grade, head.recounted) == ("", True)


def test_nothing_traded_nothing_drawn(tmp_path: Path) -> None:
    write(tmp_path, make_ticks(1, 3, tick_type="ODD_LOT"))
    certificate, rows = recounted_day(tmp_path)
    text = page.page(certificate, rows.plots, [])
    assert rows.plots.charts.bars == {}
    assert checked(text).tags.count("script") == 1, "its language alone"
    assert 'id="prices"' not in text
    assert SYMBOL in text
