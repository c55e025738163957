"""The pages of days as the built commands make them, opened from the disk in a real browser, also as a phone does."""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from hk_tick_collector.core.evidence import BY_TOTAL, NO_COUNTER
from hk_tick_collector.core.facts import (
    CONFLATED,
    COUNTER_WENT_BACK,
    DOUBTS,
    NO_LOSS,
    NO_SEQUENCE,
    NO_TICK,
    NOT_COMPARED,
    NOT_COUNTING,
    PUSH_PULL_DISAGREE,
    UNREAD_TICK,
)
from hk_tick_collector.quality.model import counted_reasons
from hk_tick_collector.quality.report_file import CHINESE_FILE
from hk_tick_collector.store.verdict import Evidence, Replay, judge
from tests.browser import Seen, chromium, keep_picture, page_of
from tests.nights import by_day
from tests.serving import BEFORE, GAPPY, record_roots
from tests.tickctl import tickctl
from tests.ticks import DAY

HOSTILE = "HK.<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of a day with a gap, of one that is archived and whose file is gone, and of one with a name of a joker."""
    root = record_roots(tmp_path_factory.mktemp("pages"))
    assert not (root / f"{BEFORE}.db").exists(), "archived"
    with sqlite3.connect(root / f"{DAY}.db") as conn:
        for table in ("ticks", "coverage"):
            conn.execute(f"UPDATE {table} SET symbol = ? WHERE symbol = 'HK.09988'", (HOSTILE,))
    conn.close()
    for day, code in ((GAPPY, 1), (BEFORE, 0), (DAY, 0)):
        done = tickctl("day", day, "--html", data_root=root)
        assert done.returncode == code, done.stderr
        assert re.findall(r"written: (\S+\.html)", done.stderr) == [f"{root}/_reports/{day}.html"]
        assert f"all days: {root}/_reports/index.html" in done.stderr
    return root / "_reports"


def are_apart(page: Page, selector: str) -> bool:
    """Do the labels that are seen stand beside each other, inside of the window?"""
    boxes = [locator.bounding_box() for locator in page.locator(selector).all() if locator.is_visible()]
    edges = sorted((box["x"], box["x"] + box["width"]) for box in boxes if box is not None)
    assert len(edges) >= 3, selector
    width = page.evaluate("innerWidth")
    inside = edges[0][0] >= 0 and edges[-1][1] <= width
    return inside and all(left[1] < right[0] for left, right in pairwise(edges))


@pytest.mark.parametrize(
    ("width", "colours"), by_day([(1440, "dark"), (768, "light"), (375, "light")], lambda case: case[0] != 768)
)
def test_pages_fit_and_ask_nobody(browser: Browser, reports: Path, width: int, colours: str) -> None:
    seen = Seen()
    with page_of(browser, seen, width, color_scheme=colours) as page:
        page.goto((reports / "index.html").as_uri())
        keep_picture(page, f"{width}-all-days")
        page.get_by_role("link", name="2026-11-18").click()
        expect(page.locator("h1")).to_have_text("Ticks of 2026-11-18")
        expect(page.locator("#chart path.line")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for number in range(page.locator(".plot").count()):
            assert are_apart(page, f".plot >> nth={number} >> .x"), number
            size = page.locator(f".plot >> nth={number} >> .x").first.evaluate("e => getComputedStyle(e).fontSize")
            assert size == "11px"
        assert are_apart(page, "#chart text[text-anchor=middle]")
        keep_picture(page, f"{width}-day", whole=True)
        if width == 375:  # where most has to scroll
            violations = Axe().run(page).response["violations"]
            grave = [fault for fault in violations if fault["impact"] in ("serious", "critical")]
            assert not grave, [(fault["id"], [node["html"] for node in fault["nodes"]][:3]) for fault in grave]
    assert seen.complaints == []
    assert seen.hosts == {""}, "files alone"


def test_a_symbol_is_chosen_by_its_number_by_a_link_and_by_pointing(browser: Browser, reports: Path) -> None:
    with page_of(browser, Seen(), 768) as page:
        page.goto((reports / f"{GAPPY}.html").as_uri())
        box, chart = page.get_by_label("Symbol", exact=True), page.locator("#chart svg")
        box.fill("5")
        box.press("Enter")
        expect(chart).to_have_attribute("aria-label", "price and volume of HK.00005")
        page.locator("summary").click()
        page.get_by_role("link", name="HK.09988").click()
        expect(chart).to_have_attribute("aria-label", "price and volume of HK.09988")
        expect(box).to_have_value("HK.09988")
        whole = page.get_by_role("status").inner_text()
        assert whole.startswith("open ")
        chart.hover(position={"x": 300, "y": 100})
        expect(page.get_by_role("status")).to_have_text(re.compile(r"^\d\d:\d\d: open .* volume [\d,]+$"))
        box.fill("12345")
        box.press("Enter")
        expect(page.get_by_role("status")).to_have_text("no prices of 12345 are in this page")


# What a page in Chinese may leave in Latin letters: codes, OpenD's words, names of programs and of places.
LATIN = re.compile(r"HK\.[\w<>= ().]+|OpenD|[A-Z][A-Z_]+|hk-tick[\w-]+( \w+)?|--\w+|/\S+|English|\d+\.\d+\.\d+\S*")


def left_in_english(page: Page) -> list[str]:
    texts = page.evaluate(
        """() => {
          const found = [], walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
          while (walker.nextNode()) found.push(walker.currentNode.data);
          for (const name of ["title", "aria-label"])
            document.querySelectorAll(`[${name}]`).forEach((element) => found.push(element.getAttribute(name)));
          return [document.title, ...found];
        }"""
    )
    return sorted({text for text in texts if re.search("[a-z]{3}", LATIN.sub("", text))})


def test_it_speaks_chinese_to_those_who_want_it_and_keeps_the_choice(browser: Browser, reports: Path) -> None:
    seen = Seen()
    with page_of(browser, seen, 375, locale="zh-HK") as page:
        for name in ("index", GAPPY, BEFORE):
            page.goto((reports / f"{name}.html").as_uri())
            assert page.locator("html").get_attribute("lang") == "zh-Hant-HK"
            left = left_in_english(page)
            assert left == [], (name, left)
            assert page.evaluate("document.documentElement.scrollWidth") <= 375
        page.get_by_role("button", name="English").click()
        expect(page.get_by_role("status")).to_have_text(re.compile("^open .*, high "))
        expect(page.locator("h1")).to_have_text("Ticks of 2026-11-19")
        page.get_by_role("link", name="All days").click()
        expect(page.locator("h1")).to_have_text("Recorded days")
        page.get_by_role("button", name="中文").click()
        expect(page.locator("h1")).to_have_text("已記錄的交易日")
    assert seen.complaints == []


def test_the_archived_day_shows_what_its_file_showed_and_a_joker_is_text(browser: Browser, reports: Path) -> None:
    seen = Seen()
    with page_of(browser, seen, 375) as page:
        page.goto((reports / f"{BEFORE}.html").as_uri())
        expect(page.locator("#chart path.line")).to_be_visible()
        expect(page.locator("footer")).to_contain_text("ticks.parquet")
        page.goto((reports / f"{DAY}.html").as_uri())
        page.get_by_label("Symbol", exact=True).fill(HOSTILE)
        page.get_by_label("Symbol", exact=True).press("Enter")
        expect(page.locator("#chart svg")).to_have_attribute("aria-label", f"price and volume of {HOSTILE}")
        assert page.locator("img").count() == 0
        page.goto(f"{(reports / f'{DAY}.html').as_uri()}#%E0%A4%A")
        expect(page.locator("#chart path.line")).to_be_visible()
    assert seen.complaints == []


def doubts() -> set[str]:
    """Why days of all kinds are not proven, for one doubt and for several: by the rule itself."""
    told = [
        None,
        PUSH_PULL_DISAGREE,
        NO_SEQUENCE,
        NOT_COUNTING,
        *DOUBTS,
        *NO_LOSS,
        f"{COUNTER_WENT_BACK}; {UNREAD_TICK}",
    ]
    told += [NO_COUNTER, f"{NO_COUNTER}; {BY_TOTAL}", f"{NO_COUNTER}; {CONFLATED}"]
    days = itertools.product(
        ([], [(37, 136)], [(37, 50), (60, 136)]), (0, 3, -2), (0, 5), (0, 1), ([],), (None, 1, 36),
        (None, "not subscribed: no connection to OpenD"), (None, 2, 37), (None, NO_TICK, 136, 140), told, (False, True),
    )  # fmt: skip
    verdicts = [judge(Evidence(*day)) for day in days]
    copies = [Replay("", "", ticks, "", 1, last_ms) for ticks in (NOT_COMPARED, 3, 200, 100) for last_ms in (1, 2)]
    verdicts += [judge(Evidence([(37, 136)], distrust=NO_COUNTER, replay=copy)) for copy in copies]
    return {verdict.reason for verdict in verdicts if verdict.reason is not None}


def test_every_reason_is_there_in_chinese(browser: Browser) -> None:
    """Each part of it, and as certificates sum up those of many symbols."""
    reasons = sorted(doubts() | set(counted_reasons(doubts())))
    assert len({part for reason in reasons for part in reason.split("; ")}) > 40
    with page_of(browser, Seen()) as page:
        page.add_script_tag(content=CHINESE_FILE.read_text())
        told = page.evaluate("reasons => reasons.map(inChinese)", reasons)
    left = [pair for pair in zip(reasons, told, strict=True) if re.search("[a-z]{2}|;", pair[1].replace("OpenD", ""))]
    assert not left
