"""The dashboard in a real browser: the built server, a recorder that writes, and a person who looks."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from hk_tick_collector.alert.events import Event
from hk_tick_collector.alert.outbox import Outbox
from hk_tick_collector.core.complaint import Code, Level
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import Book, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.serve.keys import edited
from hk_tick_collector.serve.web.files import STATIC, read_files
from hk_tick_collector.store.book_reader import states
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.data_root import claim
from hk_tick_collector.store.layout import book_file
from hk_tick_collector.store.writer import DayFileWriter
from tests import nights
from tests.books import record_books
from tests.browser import Seen, chromium, keep_picture, page_of, show
from tests.harness import Recorder, Simulator, ended, wait_until
from tests.nights import by_day
from tests.serving import BEFORE, GAPPY, Served, add_key, record_roots
from tests.snapshots import DAY as SNAPSHOT_DAY
from tests.snapshots import FLOW, OPEN_SEC, SPX, record, snapshot
from tests.ticks import DAY, make_tick, make_ticks

PAGES = ("", "coverage", "symbol", "days", "data", "sql", "alerts", "sources", "server")
JUDGED_AT = (375, 1440)
PACKED_BYTES_MAX = 120_000
FIRST_PAGE_BYTES_MAX = 50_000
SYMBOLS = "HK.00700,HK.00005,HK.00941"
JOKER = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = record_roots(tmp_path_factory.mktemp("dashboard"))
    record_books(root)
    return root


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"), root)
    with ended(served):
        yield served


def test_the_first_page_waits_for_no_code_of_another_one(browser: Browser, served: Served) -> None:
    """A library of charts is half of the bytes; it comes once the first page shows, and so do the other pages."""
    asked: list[str] = []
    with page_of(browser, Seen()) as page:
        page.on("request", lambda request: asked.append(urlsplit(request.url).path.rpartition("/ui/")[2]))
        with page.expect_request("**/pages/symbol.js*"):
            show(page, served.url)
    before = asked[: asked.index("pages/symbol.js")]
    assert {"pages/overview.js", "chinese.js"} <= set(before)
    assert "vendor/lightweight-charts.js" not in before
    files = read_files()
    assert sum(len(files[path].packed) for path in set(before) & set(files)) <= FIRST_PAGE_BYTES_MAX


def test_a_page_whose_code_does_not_come_is_asked_for_again(browser: Browser, served: Served) -> None:
    refused: list[str] = []

    def refuse_twice(route: Route) -> None:
        if len(refused) < 2:
            refused.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    with page_of(browser, Seen()) as page:
        page.route("**/pages/days.js*", refuse_twice)
        show(page, served.url, "days")
    assert len(refused) == 2


@pytest.mark.parametrize(
    ("width", "colours", "language"),
    by_day(
        [(1440, "dark", "en-GB"), (768, "light", "en-GB"), (375, "light", "zh-HK")], lambda case: case[0] in JUDGED_AT
    ),
)
def test_every_page_fits_complains_about_nothing_and_asks_nobody_else(
    browser: Browser, served: Served, width: int, colours: str, language: str
) -> None:
    """A check asks axe about each page once, at the widest and the narrowest in turns, and lets the narrowest move; the
    widest, where least is in the way, shows those pages alone that it asks about there."""
    seen = Seen()
    motion = "no-preference" if nights.every_test() or width == 375 else "reduce"
    with page_of(browser, seen, width, color_scheme=colours, locale=language, reduced_motion=motion) as page:
        for n, name in enumerate(PAGES):
            is_judged = nights.every_test() or width == JUDGED_AT[n % 2]
            if not is_judged and width == max(JUDGED_AT):
                continue
            show(page, served.url, name)
            expect(page.locator(".loading")).to_have_count(0)
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            keep_picture(page, f"{width}-{name or 'overview'}")
            found = Axe().run(page).response["violations"] if is_judged else []
            grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
            assert not grave, (name, [(fault["id"], [node["html"] for node in fault["nodes"]][:3]) for fault in grave])
    assert seen.complaints == []
    assert seen.hosts == {served.url.removeprefix("http://")}


@pytest.mark.parametrize(
    ("language", "title"), by_day([("en-GB", "Order book"), ("zh-HK", "買賣盤")], lambda case: case[0] == "zh-HK")
)
def test_the_symbol_page_shows_the_newest_book(
    browser: Browser, served: Served, root: Path, language: str, title: str
) -> None:
    newest = [state for state in states(book_file(root, DAY), ["HK.00700"]) if state.book is not None][-1].book
    assert newest is not None
    with page_of(browser, Seen(), locale=language) as page:
        show(page, served.url, "symbol/HK.00700")
        ladder = page.get_by_role("region", name=title)
        cells = ladder.locator("tbody tr").first.locator("td")
        (bid, bid_shares, bid_orders), (ask, ask_shares, ask_orders) = newest.bids[0], newest.asks[0]
        told = [str(bid_orders), f"{bid_shares:,}", bid, ask, f"{ask_shares:,}", str(ask_orders)]
        expect(cells).to_have_count(6)
        shown = cells.all_inner_texts()
        assert [float(cell) if isinstance(own, float) else cell for cell, own in zip(shown, told, strict=True)] == told
        expect(ladder.locator("tbody tr")).to_have_count(10)
        show(page, served.url, "symbol/HK.09988")  # whose books nobody records
        expect(page.get_by_role("region", name=title)).to_have_count(0)


def test_the_ladder_moves_with_every_push_and_says_when_nobody_watches(browser: Browser, tmp_path: Path) -> None:
    """From the live channel: after the first answer, no question for the book is let through."""
    pushes = record_books(tmp_path / "live", symbols=("HK.00700",))
    served = Served(tmp_path, tmp_path / "live")
    asked: list[str] = []

    def only_once(route: Route) -> None:
        asked.append(route.request.url)
        route.continue_() if len(asked) == 1 else route.abort()

    with ended(served), page_of(browser, Seen()) as page:
        page.route("**/v1/books/latest*", only_once)
        with page.expect_websocket(lambda socket: "ticket" in socket.url):
            show(page, served.url, "symbol/HK.00700")
        ladder = page.locator(".ladder")
        expect(ladder).to_contain_text("not watched now")
        later_us = pushes[-1].recv_ts_us + 1_000_000
        writer = BookWriter(tmp_path / "live", SqliteOptions(), HK.trading_day, lambda: later_us // 1000)
        book = Book(((321.2, 1200, 3),), ((321.4, 3400, 5),))
        push = pushes[-1]._replace(recv_ts_us=later_us, book=book)
        writer.write(DAY, [WatchBegan("HK.00700", later_us - 1), PushEntry(push)], 1)
        expect(ladder.locator("tbody tr")).to_have_count(1)
        expect(ladder.locator("tbody tr")).to_have_text(re.compile(r"3\s*1,200\s*321\.20*\s*321\.40*\s*3,400\s*5"))
        expect(ladder).not_to_contain_text("not watched now")
        writer.write(DAY, [WatchEnded("HK.00700", later_us + 1, "a test")], 0)
        expect(ladder).to_contain_text("not watched now")
        expect(ladder.locator("tbody tr")).to_have_count(1)  # the last book that was known
        writer.close()
        assert len(asked) > 1  # when it is live the page asks once more, and then seldom


def test_a_page_that_is_left_at_once_complains_about_nothing(browser: Browser, served: Served) -> None:
    """Also where its connections of ticks and books are only on their way."""
    seen = Seen()
    with page_of(browser, seen) as page:
        page.add_init_script("""
            const Real = WebSocket;
            window.made = 0;
            window.WebSocket = class extends Real {
                constructor(...words) { super(...words); window.made += 1; location.hash = "/"; }
            };
        """)
        for n in range(1, 4):
            page.goto(f"{served.url}/ui/#/symbol/HK.00700")
            wait_until(lambda: page.wait_for_timeout(20) or page.evaluate("window.made") >= n, "a connection")  # noqa: B023
            expect(page.get_by_text("symbols subscribed").or_(page.locator("main h1")).first).to_be_visible()
            page.wait_for_load_state("networkidle")
    assert seen.complaints == []


@pytest.mark.parametrize("name", ["days", "coverage", "symbol"])
def test_a_page_claims_nothing_before_its_answer_came(browser: Browser, served: Served, name: str) -> None:
    with page_of(browser, Seen()) as page:
        held: list[Route] = []
        released: list[bool] = []
        page.route(re.compile(r"/v1/days"), lambda route: route.continue_() if released else held.append(route))
        show(page, served.url, name)
        wait_until(lambda: page.wait_for_timeout(20) or held, "a question")
        expect(page.locator("main .loading")).to_be_visible()
        expect(page.locator("main")).not_to_contain_text("0 days")
        expect(page.locator("main")).not_to_contain_text("recorded here yet")
        released.append(True)
        for route in held:
            route.continue_()
        expect(page.locator("main .loading")).to_have_count(0)


def test_where_nothing_is_recorded_pages_say_so_in_the_readers_language(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "HK").mkdir()
    with ended(server := Served(tmp_path, tmp_path / "HK")), page_of(browser, Seen(), 375, locale="zh-HK") as page:
        for name in ("coverage", "symbol"):
            show(page, server.url, name)
            expect(page.locator("main")).to_contain_text("尚未有任何記錄")
            expect(page.locator("main")).not_to_contain_text("recorded")


@pytest.mark.parametrize(
    ("language", "title"), by_day([("en-GB", "Snapshots"), ("zh-HK", "快照")], lambda case: case[0] == "en-GB")
)
def test_a_data_root_of_snapshots_shows_levels_and_the_profile_by_strike(
    browser: Browser, tmp_path: Path, language: str, title: str
) -> None:
    body = json.dumps({"ticker": "SPX", "strikes": [[5000, 600.5, 1, []], [5010, -300, 1, []]]})
    newest = snapshot(SPX, 40)._replace(zero_gamma=4987.5, body=body)
    root = record(tmp_path / "US", [*map(partial(snapshot, SPX), range(30, 40)), newest, snapshot(FLOW, 39)])
    seen = Seen()
    with ended(served := Served(tmp_path, root)), page_of(browser, seen, locale=language) as page:
        show(page, served.url)
        page.get_by_role("link", name=title).click()
        cells = page.get_by_role("region", name=title).locator("tbody tr", has_text="gex_full").locator("td")
        expect(cells).to_have_count(6)
        told = cells.all_inner_texts()
        assert told[:1] + [float(text.replace(",", "")) for text in told[2:4]] == [str(SPX), 5040, 4987.5]
        strikes = page.locator("section", has=page.get_by_role("heading", name=str(SPX))).locator("tbody tr")
        prices = strikes.locator("td:first-child").all_inner_texts()
        assert [float(text.replace(",", "")) for text in prices] == [5010, 5000]
        bars = [
            [float(bar.get_attribute(name) or "") for name in ("x", "width")] for bar in strikes.locator("rect").all()
        ]
        assert bars == [[pytest.approx(-25, 0.01), pytest.approx(25, 0.01)], [0, 50]]
        expect(page.get_by_role("navigation").get_by_role("link")).to_have_count(5)  # of ticks there is nothing to show
    assert seen.complaints == []


@pytest.mark.parametrize("first", ["ticks", "levels"])
def test_ticks_and_snapshots_of_one_market_are_on_one_dashboard(browser: Browser, tmp_path: Path, first: str) -> None:
    ticks, levels = tmp_path / "ticks", record(tmp_path / "levels", [snapshot(SPX, second) for second in range(10)])
    ticks.mkdir()
    claim(ticks, "US")
    open_ms = OPEN_SEC * 1000
    with closing(DayFileWriter(ticks)) as writer:
        writer.write(
            [make_tick(n, "US.AAPL", ts_ms=open_ms + n, trading_day=SNAPSHOT_DAY, seq=open_ms + n) for n in range(40)]
        )
    roots = sorted((ticks, levels), key=lambda root: root.name != first)
    seen = Seen()
    with ended(served := Served(tmp_path, None, DATA_ROOTS=",".join(map(str, roots)))), page_of(browser, seen) as page:
        show(page, served.url)
        for words in ("ticks", "levels", "40 ticks", "10 snapshots"):
            expect(page.locator("main")).to_contain_text(words)
        expect(page.get_by_label("market")).to_have_count(0)  # there is one
        navigation = page.get_by_role("navigation")
        navigation.get_by_role("link", name="Snapshots").click()
        expect(page.get_by_role("region", name="Snapshots").locator("tbody tr")).to_contain_text([str(SPX)])
        navigation.get_by_role("link", name="Symbol").click()
        expect(page.get_by_role("region", name="Tape").locator("tbody tr")).to_have_count(40)
        for name, words in (
            ("coverage", "US.AAPL"),
            ("days", "2026-11-27"),
            ("sources", "levels"),
            ("sources", "ticks"),
        ):
            show(page, served.url, name)
            expect(page.locator("main")).to_contain_text(words)
    assert seen.complaints == []


def coverage_of(url: str, day: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    with httpx.Client(base_url=url, timeout=60, verify=False) as client:
        coverage = client.get(f"/v1/days/{day}/coverage").raise_for_status().json()["data"]
        gaps = client.get(f"/v1/days/{day}/gaps?state=all").raise_for_status().json()["data"]
    return coverage, gaps


@pytest.mark.parametrize("day", by_day([GAPPY, BEFORE, DAY], lambda day: day != BEFORE))
def test_the_heat_map_is_what_coverage_and_gaps_say(browser: Browser, served: Served, day: str) -> None:
    coverage, gaps = coverage_of(served.url, day)
    with page_of(browser, Seen()) as page:
        show(page, served.url, f"coverage?day={day}")
        for state in ("proven", "missing", "unproven"):
            count = sum(coverage_row["state"] == state for coverage_row in coverage)
            told = page.locator("main .card").first.locator(".row.soft span", has=page.locator(f".state.{state}")).first
            expect(told).to_have_text(re.compile(rf"\D{count}$"))
        shown = page.evaluate(
            """async ([day]) => {
              const { rowsOf } = await import("./pages/coverage.js");
              const ask = async (path) => (await (await fetch(`../v1/${path}`)).json()).data;
              const [symbols, gaps, calendar] = await Promise.all([
                ask(`days/${day}/coverage`), ask(`days/${day}/gaps?state=all`), ask(`calendar?first=${day}&days=1`)]);
              return rowsOf({ symbols, gaps, sessions: calendar[0].sessions }, Date.now() + 4e9, "", "symbol");
            }""",
            [day],
        )
    cells, rows = shown["cells"], {row["symbol"]["symbol"]: row["states"] for row in shown["rows"]}
    assert [cell["end_ms"] - cell["start_ms"] for cell in cells] == [300_000] * len(cells)
    assert set(rows) == {coverage_row["symbol"] for coverage_row in coverage}
    for coverage_row in coverage:
        states = rows[coverage_row["symbol"]]
        opened = [gap for gap in gaps if gap["symbol"] == coverage_row["symbol"] and gap["state"] == "open"]
        for cell, state in zip(cells, states, strict=True):
            here = [
                gap for gap in opened if gap["start_ts_ms"] < cell["end_ms"] and gap["end_ts_ms"] >= cell["start_ms"]
            ]
            is_loss = any(gap["missing_ticks"] is not None for gap in here)
            assert (state == "missing") == is_loss, (coverage_row, cell, state)
            if here and not is_loss and not coverage_row.get("not_subscribed"):
                assert state == "unproven", "nobody knows whether there was any tick"
            if state == "proven":
                assert coverage_row["verified_until_ms"] >= cell["start_ms"]
                assert coverage_row["state"] != "unproven"


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[tuple[Path, Recorder]]:
    simulator = Simulator(tmp_path, "--symbols", SYMBOLS, "--rate", "60", "--always-open")
    with ended(simulator):
        recorder = Recorder(tmp_path / "live", simulator.port, SYMBOLS, RESTARTS_DIR=tmp_path / "restarts")
        with ended(recorder):
            recorder.wait_for("futu_subscribed symbols=3")
            yield tmp_path / "live", recorder


def rows_told(page: Page) -> int:
    text = page.locator("main section .num").first.inner_text()
    return int(re.sub(r"\D", "", text))


def test_it_moves_with_the_market_and_goes_on_when_the_server_was_killed(
    browser: Browser, tmp_path: Path, recorded: tuple[Path, Recorder]
) -> None:
    root, _ = recorded
    served = Served(tmp_path, root)
    with ended(served), page_of(browser, Seen()) as page:
        show(page, served.url)
        expect(page.get_by_text("symbols subscribed").locator("xpath=..")).to_contain_text("3 of 3")
        before = rows_told(page)
        wait_until(lambda: rows_told(page) > before, "more rows on the overview")
        show(page, served.url, "symbol/HK.00700")
        expect(page.get_by_role("status")).to_have_text("live")
        newest = page.locator("tbody tr td time").first
        first_ms = newest.get_attribute("datetime")
        wait_until(lambda: newest.get_attribute("datetime") != first_ms, "a newer tick on the tape")
        served.proc.kill()
        served.proc.wait(30)
        expect(page.get_by_role("alert").first).to_contain_text("trying again")
        again = Served(tmp_path, root, served.port)
        with ended(again):
            expect(page.get_by_role("status")).to_have_text("live")
            expect(page.get_by_role("alert")).to_have_count(0)
            was = newest.get_attribute("datetime")
            wait_until(lambda: newest.get_attribute("datetime") != was, "ticks after the server came back")


def test_all_sources_are_on_one_page_and_a_feed_is_restarted_from_it(
    browser: Browser, tmp_path: Path, root: Path, recorded: tuple[Path, Recorder]
) -> None:
    live, recorder = recorded
    file = tmp_path / "keys.json"
    desk, night = add_key(file, "desk"), add_key(file, "night", scopes=("read", "restart"))
    narrow = add_key(file, "narrow", scopes=("read", "restart"), symbols=("HK.00700",))
    given = {"API_ANONYMOUS": 0, "API_KEYS_FILE": file, "RESTARTS_DIR": tmp_path / "restarts"}
    served = Served(tmp_path, None, DATA_ROOTS=f"{live},{root}", **given)
    with ended(served), page_of(browser, Seen(), 375) as page:
        page.goto(f"{served.url}/ui/#/sources")
        page.get_by_label("key").fill(desk)
        page.get_by_role("button", name="Log in").click()
        rows = page.locator("tbody tr")
        expect(rows).to_have_count(2)
        expect(rows.nth(0)).to_contain_text("OpenD ready")
        expect(rows.nth(0)).to_contain_text("3 of 3")
        expect(rows.nth(1)).to_contain_text("no recorder runs on this data root")
        expect(page.locator("select[name=source] option")).to_have_text([live.name])  # who listens
        button, key = (
            page.get_by_role("button", name="Restart the feed"),
            page.get_by_label("key with the scope restart"),
        )
        for wrong, told in ((desk, "no scope restart"), (narrow, "may not read every symbol"), ("", "A key is needed")):
            key.fill(wrong)
            button.click()
            expect(page.get_by_role("alert")).to_contain_text(told)
        assert "feed_restart" not in recorder.output
        key.fill(night)
        button.click()
        expect(page.get_by_role("status")).to_contain_text("restarted and connected again", timeout=30_000)
        expect(key).to_have_value("")
        expect(rows.nth(0)).to_contain_text("night (")
        recorder.wait_for(r'feed_restart by="night \(\w{8}\)"')
        recorder.wait_for(r'futu_disconnected reason="rebuild asked: asked by night')
        recorder.wait_for("futu_connected .*connection=2")
        before = recorder.rows()
        wait_until(lambda: recorder.rows() > before, "ticks after the restart")
        assert served.output.count("feed_restart_asked") == 1
        key.fill(night)
        button.click()
        expect(page.get_by_role("alert")).to_contain_text("less than a minute ago")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        assert night not in page.content()


@pytest.mark.parametrize(
    ("body", "status"),
    [({"source": "nowhere"}, 400), ({"source": ""}, 400), ({}, 400), ({"source": "x", "by": "me"}, 400)],
)
def test_what_is_no_restart_restarts_nothing(keyed: Keyed, body: dict[str, Any], status: int) -> None:
    with keyed.client("operator") as client:
        assert client.post("/v1/sources/restart", json=body).status_code == status
        nobody = client.post(
            "/v1/sources/restart", json={"source": client.get("/v1/status").json()["roots"][0]["data_root"]}
        )
        assert (nobody.status_code, nobody.json()["type"]) == (409, "/problems/not-listening")


def test_a_key_opens_it_and_a_key_that_is_revoked_closes_it(browser: Browser, tmp_path: Path, root: Path) -> None:
    keys = tmp_path / "keys.json"
    key, other = add_key(keys, "desk"), add_key(keys, "other")
    served = Served(tmp_path, root, API_ANONYMOUS=0, API_KEYS_FILE=keys)
    with ended(served), page_of(browser, Seen()) as page:
        page.goto(f"{served.url}/ui/")
        page.get_by_label("key").fill("hktk_abcdefgh_" + "A" * 43)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("not known")
        page.get_by_label("key").fill(key)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        assert key not in page.content()
        assert page.evaluate("document.cookie") == ""
        page.reload()
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        with edited(keys) as stored:
            stored[0] = replace(stored[0], key=replace(stored[0].key, expires_at_ms=1))
        expect(page.get_by_label("key")).to_be_visible()
        expect(page.locator("form")).to_contain_text("has expired or was revoked")
        page.get_by_label("key").fill(other)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        with edited(keys) as stored:
            stored.clear()
        expect(page.get_by_label("key")).to_be_visible()
        assert key not in served.output


def test_the_cookie_reads_and_does_nothing_else(tmp_path: Path, root: Path) -> None:
    keys = tmp_path / "keys.json"
    key = add_key(keys, "desk", scopes=("read", "live", "hook:ml-trade"))
    served = Served(tmp_path, root, API_ANONYMOUS=0, API_KEYS_FILE=keys, HOOKS_DIR=tmp_path / "hooks")
    with ended(served), httpx.Client(base_url=served.url, timeout=60, verify=False) as client:
        assert client.get("/v1/days").status_code == 401
        answer = client.post("/v1/session", json={"key": key})
        assert answer.status_code == 200
        assert key not in answer.text
        cookie = answer.headers["set-cookie"]
        for word in ("HttpOnly", "SameSite=strict", "Path=/v1", "Max-Age=43200"):
            assert word in cookie
        assert client.get("/v1/days").status_code == 200
        assert client.post("/v1/live/ticket").status_code == 200
        signal = {"symbol": "HK.00700", "side": "BUY"}
        assert client.post("/ml-trade", json=signal).status_code == 401
        assert client.get("/v1/hooks/ml-trade").status_code == 401
        assert client.get("/v1/days", headers={"Sec-Fetch-Site": "same-site"}).status_code == 401
        assert client.get("/v1/days", headers={"Origin": "http://evil.example"}).status_code == 403
        assert client.get("/v1/days", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.delete("/v1/session").status_code == 204
        assert client.get("/v1/days").status_code == 401


def test_files_are_packed_bounded_and_of_their_own_place(served: Served) -> None:
    with httpx.Client(base_url=served.url, timeout=60, verify=False) as client:
        answer = client.get("/ui/app.js")
        assert answer.headers["content-encoding"] == "gzip"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert client.get("/ui/app.js", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        plain = client.get("/ui/app.js", headers={"Accept-Encoding": "identity"})
        assert plain.content == (STATIC / "app.js").read_bytes()
        assert client.get("/", follow_redirects=True).url.path == "/ui/"
        for path in ("/", "/ui", "/ui/", "/ui/pages/symbol.js"):
            whole, head = client.get(path), client.head(path)
            assert (head.status_code, head.content) == (whole.status_code, b""), path
            assert head.headers["content-length"] == whole.headers["content-length"]
            assert head.headers.get("etag") == whole.headers.get("etag")
        assert client.head("/ui/nothing.js").status_code == 404
        for path in ("/ui/%2e%2e/routes.py", "/ui/vendor/THIRD_PARTY.md", "/ui//etc/passwd", "/ui/app.js/"):
            assert client.get(path).status_code == 404, path
    assert sum(len(file.packed) for file in read_files().values()) <= PACKED_BYTES_MAX


def test_packed_files_lack_nothing_but_lines_of_comments() -> None:
    """And keep their other lines where they are: an error in a browser names the line of the file."""
    for name, file in read_files().items():
        packed, whole = gzip.decompress(file.packed).splitlines(), file.body.splitlines()
        assert len(packed) == len(whole), name
        left_out = [line.lstrip() for line, sent in zip(whole, packed, strict=True) if sent != line]
        assert all(line.startswith((b"//", b"/**", b"* ", b"*/")) for line in left_out), name
        assert not (left_out and name.startswith("vendor/")), "others' libraries go out as they were published"


def test_libraries_of_others_are_what_they_were_published_as() -> None:
    page = (STATIC / "vendor" / "THIRD_PARTY.md").read_text()
    listed = dict(re.findall(r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", page, re.MULTILINE))
    files = {path.name: path for path in (STATIC / "vendor").iterdir() if path.suffix in (".js", ".css")}
    assert set(listed) == set(files)
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == listed[name], name


PUT_TOGETHER = (  # of parts, each in a place of its own
    ("day_not_archived", "20261120 is over for hours and is not archived; days before it are"),
    ("hook_silent", "no signal of alpha for 20 minutes of trading (none came yet)"),
    ("copy_behind", "hk-tick-ship says nothing any more (pid 7)"),
    ("copy_behind", "1,000 ticks wait for ClickHouse, the oldest for 400 s: connection refused"),
    ("ticks_missing", "20261120: 1 symbol misses 5 ticks: hk-tickctl gaps"),
    ("ticks_missing", "20261120: 12 symbols miss 1,300 ticks: hk-tickctl gaps"),
    ("copy_unequal", "the copy in ClickHouse cannot be made equal: 20261120 is read-only there"),
)


def sentences() -> Iterator[tuple[str, str]]:
    """Each complaint of the package with its code: ``Code.X, Level.Y, sentence`` in a call or a tuple; what stands for
    a value is 7."""
    package = STATIC.parents[2]
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            given = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
            codes = [arg for arg in given if isinstance(arg, ast.Attribute) and ast.unparse(arg).startswith("Code.")]
            if not codes or path.name == "complaint.py":
                continue
            for arg in given[given.index(codes[0]) + 1 :]:
                text = arg.values if isinstance(arg, ast.JoinedStr) else [arg] if isinstance(arg, ast.Constant) else []
                parts = [str(part.value) if isinstance(part, ast.Constant) else "7" for part in text]
                if " " in "".join(parts):
                    yield Code[codes[0].attr].value, "".join(parts)


def test_every_complaint_is_there_in_chinese(browser: Browser, served: Served) -> None:
    joined = ("ticks_missing", "7: 7 7: hk-tickctl gaps")  # its parts are in PUT_TOGETHER
    all_sentences = sorted({*sentences(), *PUT_TOGETHER} - {joined})
    assert len(all_sentences) > 35
    assert {code for code, _ in all_sentences} >= {"no_ticks", "recorder_down", "disk_full", "spill_growing"}
    with page_of(browser, Seen(), locale="zh-HK") as page:
        show(page, served.url)
        ask = (
            "async (all) => { const { complaint } = await import('./text.js');"
            " return all.map(([code, sentence]) => complaint({ code, sentence })); }"
        )
        told = page.evaluate(ask, [*all_sentences, *((code.value, "in words of a later version") for code in Code)])
        prefixed = page.evaluate(
            ask, [["no_ticks", "the recorder raises an alert: market is open and no tick came for 300 s"]]
        )
    assert prefixed == ["市場開市\uff0c但 300 秒來沒有收到成交"]
    english = [
        (sentence, text)
        for (_, sentence), text in zip(all_sentences, told, strict=False)
        if sentence in text or not re.search(r"[\u4e00-\u9fff]", text)
    ]
    assert not english
    for text in told[len(all_sentences) :]:
        assert re.fullmatch(".*[\u4e00-\u9fff]+\uff1ain words of a later version", text), "what it is about leads"


def test_every_word_is_there_in_chinese(browser: Browser, served: Served) -> None:
    texts = "".join(path.read_text() for path in STATIC.rglob("*.js") if "vendor" not in path.parts)
    words = {*re.findall(r"\bt\(\"([^\"]+)\"\)", texts), *re.findall(r"\$\{Tile\} title=\"([^\"]+)\"", texts)}
    assert len(words) > 80
    with page_of(browser, Seen(), locale="zh-HK") as page:
        show(page, served.url)
        ask = "async (said) => { const { t } = await import('./text.js'); return said.filter((w) => t(w) === w); }"
        assert page.evaluate(ask, sorted(words)) == []


@dataclass
class Keyed:
    """A server that wants keys, and knows an outbox."""

    served: Served
    outbox: Path
    keys: dict[str, str]

    def client(self, name: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.keys[name]}"} if name else {}
        return httpx.Client(base_url=self.served.url, timeout=60, headers=headers, verify=False)

    def log_in(self, page: Page, name: str) -> None:
        page.get_by_label("key").fill(self.keys[name])
        page.get_by_role("button", name="Log in").click()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Keyed]:
    place = tmp_path_factory.mktemp("keyed")
    tell(place / "alert")
    file, rights = place / "keys.json", {"scopes": ("read", "live", "sql")}
    keys = {
        "desk": add_key(file, "desk"),
        "research": add_key(file, "research", **rights),
        "narrow": add_key(file, "narrow", symbols=("HK.00700",)),
        "operator": add_key(file, "operator", scopes=("read", "admin")),
        "night": add_key(file, "night", scopes=("read", "mute")),
    }
    served = Served(place, root, API_ANONYMOUS=0, API_KEYS_FILE=file, ALERT_DIR=place / "alert")
    with ended(served):
        yield Keyed(served, place / "alert", keys)


def tell(directory: Path) -> None:
    """An outbox with a letter that was sent, one that waits, something that is wrong, and a mute."""
    outbox, now_ms = Outbox(directory), int(time.time() * 1000)
    lines = ["the recorder is gone", f"{JOKER} of /data/sqlite/HK"]
    outbox.add("phone", Level.ALERT, lines, now_ms - 60_000)
    sent = outbox.due("phone", now_ms)
    assert sent is not None
    outbox.sent(sent, now_ms)
    outbox.add("mail", Level.WARN, ["ticks are late"], now_ms - 50_000)
    waiting = outbox.due("mail", now_ms)
    assert waiting is not None
    outbox.failed(waiting, "the other side is away", now_ms)
    event = Event("ticks_late", "ticks_late", "", Level.WARN, "Ticks are 9 s late.", now_ms, now_ms, fired_ms=now_ms)
    outbox.keep_events([event, replace(event, key="disk", code="disk_full", sentence="it was full", is_over=True)])
    outbox.mute("disk_full", now_ms + 3_600_000)
    outbox.close()


def test_sql_is_for_keys_that_may(browser: Browser, keyed: Keyed) -> None:
    with page_of(browser, Seen()) as page:
        page.goto(f"{keyed.served.url}/ui/#/sql")
        keyed.log_in(page, "desk")
        page.get_by_role("button", name="Run").click()
        expect(page.get_by_role("alert")).to_contain_text("has no scope sql")
        expect(page.locator("pre").first).to_have_text("hk-tickctl keys add NAME --scopes read,live,sql")
        page.get_by_role("button", name="Log out").click()
        keyed.log_in(page, "research")
        sql = f"SELECT symbol, count(*) AS n, '{JOKER}' AS joke FROM ticks GROUP BY 1 ORDER BY 1"
        page.locator("textarea").fill(sql)
        page.get_by_role("button", name="Run").click()
        expect(page.locator("tbody tr").first.locator("td")).to_have_text(["HK.00005", "1,000", JOKER])
        assert page.locator("main img").count() == 0
        page.locator("textarea").fill("SELECT nothing FROM ticks")
        page.get_by_role("button", name="Run").click()
        expect(page.get_by_role("alert")).to_contain_text("nothing")
        expect(page.locator("tbody")).to_have_count(0)


def test_alerts_are_those_of_the_outbox(browser: Browser, keyed: Keyed) -> None:
    before = {path: path.read_bytes() for path in keyed.outbox.iterdir()}
    with keyed.client("desk") as client:
        assert "/data/sqlite" not in client.get("/v1/alerts").raise_for_status().text
    for name, status in (("narrow", 403), (None, 401)):
        with keyed.client(name) as client:
            assert client.get("/v1/alerts").status_code == status
    with page_of(browser, Seen()) as page:
        page.goto(f"{keyed.served.url}/ui/#/alerts")
        keyed.log_in(page, "desk")
        expect(page.locator("tbody tr")).to_have_count(2)
        expect(page.locator("tbody tr").first).to_contain_text("the other side is away")
        expect(page.locator("tbody tr").last).to_contain_text(JOKER)
        expect(page.locator("ul.plain").first).to_contain_text("Ticks are 9 s late.")
        expect(page.locator("ul.plain").last).to_contain_text("disk_full")
        expect(page.locator("main")).not_to_contain_text("it was full")
        assert page.locator("main img").count() == 0
    assert {path: path.read_bytes() for path in keyed.outbox.iterdir()} == before, "it is read, and nothing else"


def test_a_rule_is_muted_with_a_key_of_its_own_and_told_again(browser: Browser, keyed: Keyed) -> None:
    with page_of(browser, Seen(), 375) as page:
        page.goto(f"{keyed.served.url}/ui/#/alerts")
        keyed.log_in(page, "desk")
        page.get_by_label("rule").fill("ticks_late")
        page.get_by_role("button", name="Mute").click()
        expect(page.get_by_role("alert")).to_contain_text("key"), "the cookie of the page changes nothing"
        page.get_by_label("key with the scope mute").fill(keyed.keys["desk"])
        page.get_by_role("button", name="Mute").click()
        expect(page.get_by_role("alert")).to_contain_text("has no scope mute")
        page.get_by_label("key with the scope mute").fill(keyed.keys["night"])
        page.get_by_role("button", name="Mute").click()
        muted = page.locator("ul.plain").last
        expect(muted).to_contain_text("ticks_late")
        assert keyed.keys["night"] not in page.content()
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        mutes = read_mutes(keyed)
        assert 0 < mutes["ticks_late"] - time.time() * 1000 <= 1800_000
        page.get_by_label("rule").fill("ticks_late")
        page.get_by_label("key with the scope mute").fill(keyed.keys["night"])
        page.get_by_role("button", name="Tell again").click()
        expect(muted).not_to_contain_text("ticks_late")
    assert "ticks_late" not in read_mutes(keyed), "where hk-tick-alert reads it"


def read_mutes(keyed: Keyed) -> dict[str, int]:
    outbox = Outbox(keyed.outbox, read_only=True)
    try:
        return outbox.mutes(int(time.time() * 1000))
    finally:
        outbox.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"code": "no_such_rule"}, 400), ({"code": "ticks_late", "for_sec": 604_801}, 400), ({"code": "x" * 41}, 400),
        ({"code": "ticks_late", "for_sec": -1}, 400), ({}, 400), ({"code": "ticks_late", "who": "me"}, 400),
    ],
)  # fmt: skip
def test_what_is_no_mute_mutes_nothing(keyed: Keyed, body: dict[str, Any], status: int) -> None:
    before = read_mutes(keyed)
    with keyed.client("night") as client:
        assert client.post("/v1/alerts/mutes", json=body).status_code == status
    assert read_mutes(keyed) == before


def test_an_outbox_that_cannot_be_read_is_said_and_stops_nothing(tmp_path: Path, keyed: Keyed) -> None:
    good = keyed.outbox / "outbox.db"
    with keyed.client("desk") as client:
        aside = good.rename(tmp_path / "aside.db")
        assert client.get("/v1/alerts").json()["is_on"] is False, "there is none yet"
        good.write_bytes(b"no database at all" * 100)
        answer = client.get("/v1/alerts")
        assert answer.json()["type"] == "/problems/store-damaged"
        assert str(good) not in answer.text
        aside.replace(good)
        assert client.get("/v1/alerts").json()["is_on"] is True


def test_without_an_outbox_it_says_how_to_be_called(browser: Browser, served: Served) -> None:
    with page_of(browser, Seen()) as page:
        show(page, served.url, "alerts")
        expect(page.locator("main")).to_contain_text("set ALERT_FILE and ALERT_DIR")


def test_the_server_page_shows_latency_and_who_listens(browser: Browser, served: Served) -> None:
    with page_of(browser, Seen()) as page, page_of(browser, Seen()) as listener:
        show(listener, served.url, "symbol/HK.00700")
        expect(listener.get_by_role("status")).to_have_text("live")
        show(page, served.url, "server")
        expect(page.get_by_text("the slowest five minutes")).to_contain_text("p99")
        expect(page.get_by_role("region", name="Live readers").locator("tbody tr").first).to_contain_text("anonymous")
    with httpx.Client(base_url=served.url, timeout=60, verify=False) as client:
        lines = client.get(f"/v1/days/{DAY}/latency").raise_for_status().json()["data"]
        rows = client.get(f"/v1/days/{DAY}/symbols").raise_for_status().json()["data"]
    assert sum(line["ticks"] for line in lines) == sum(row["rows"] for row in rows)
    assert all(55 <= line["source_p50_ms"] <= line["source_p99_ms"] <= 65 for line in lines), "60 ms, to 6.5 %"


def test_a_reader_sees_its_own_connections_and_an_admin_all(keyed: Keyed) -> None:
    def seen_by(name: str) -> list[str]:
        with keyed.client(name) as client:
            readers = client.get("/v1/live/readers").raise_for_status().json()["data"]
            return [reader["name"] for reader in readers]

    with keyed.client() as client:
        assert client.get("/v1/live/readers").status_code == 401
    with keyed.client("desk") as client, client.stream("GET", "/v1/live/events?symbols=700") as stream:
        pieces = stream.iter_raw()  # let go, it would end the connection
        next(pieces)
        assert seen_by("desk") == seen_by("operator") == ["desk"]
        assert seen_by("research") == []
    wait_until(lambda: seen_by("operator") == [], "the reader that left to be gone")


def test_nothing_recorded_and_a_day_that_is_not_there(browser: Browser, tmp_path: Path, served: Served) -> None:
    (tmp_path / "HK").mkdir()
    empty, seen = Served(tmp_path, tmp_path / "HK"), Seen()
    with ended(empty), page_of(browser, seen, 375) as page:
        for name in PAGES:
            show(page, empty.url, name)
            page.wait_for_load_state("networkidle")
            expect(page.locator(".loading")).to_have_count(0)
    broken = [told for told in seen.complaints if "status of 404" not in told]
    assert broken == [], "what is not there is 404, and nothing else goes wrong"
    with page_of(browser, Seen()) as page:
        show(page, served.url, "coverage?day=20260102")
        expect(page.get_by_role("alert")).to_contain_text("20260102")
        show(page, served.url, "symbol/HK.%3Cimg%20src=x%20onerror=alert(1)%3E")
        expect(page.get_by_role("alert").first).to_be_visible()
        assert page.locator("main img").count() == 0


def test_two_thousand_symbols_with_a_joker_among_them(browser: Browser, tmp_path: Path) -> None:
    writer = DayFileWriter(tmp_path / "HK")
    writer.write([tick for n in range(2_000) for tick in make_ticks(1, 2, symbol=f"HK.{n:05d}")])
    writer.write(make_ticks(1, 2, symbol=f"HK.{JOKER}"))
    writer.close()
    served, seen = Served(tmp_path, tmp_path / "HK"), Seen()
    with ended(served), page_of(browser, seen) as page:
        show(page, served.url, f"coverage?day={DAY}")
        expect(page.locator("canvas")).to_be_visible()
        assert page.locator("tbody tr").count() <= 1_000, "tables are bounded"
        page.get_by_label("filter").fill("<IMG")
        page.get_by_label("filter").fill("1999")
        expect(page.locator("tbody tr").first).to_contain_text("HK.01999")
        show(page, served.url, "symbol/HK.01999")
        expect(page.locator("h1")).to_have_text("HK.01999")
        expect(page.locator("datalist option")).to_have_count(2_001)
        assert page.locator("main img").count() == 0
    assert seen.complaints == []
