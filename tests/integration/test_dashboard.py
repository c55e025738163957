"""The dashboard in a real browser: the built server, a recorder that writes, and a person who looks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from hk_tick_collector.serve.keys import edited
from hk_tick_collector.serve.web.files import STATIC, read_files
from tests.browser import Seen, chromium, keep_picture, page_of
from tests.harness import BIN, Process, Recorder, Simulator, clean_env, ended, wait_until
from tests.serving import BEFORE, GAPPY, add_key, record_roots
from tests.ticks import DAY

PAGES = ("", "coverage", "symbol", "days", "data", "server")
PACKED_BYTES_MAX = 120_000
SYMBOLS = "HK.00700,HK.00005,HK.00941"


class Served(Process):
    """``hk-tickctl serve`` over one data root."""

    def __init__(self, directory: Path, root: Path, port: int = 0, **settings: object) -> None:
        command = [BIN / "hk-tickctl", "serve", "--data-root", root, "--port", port]
        given = {"API_ANONYMOUS": 1, "API_WORKERS": 1, **settings}
        super().__init__([str(word) for word in command], clean_env(directory / "home", **given))
        self.url = self.wait_for(r"listening on (http://\S+)").group(1)
        self.port = int(self.url.rsplit(":", 1)[1])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_roots(tmp_path_factory.mktemp("dashboard"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"), root)
    with ended(served):
        yield served


def show(page: Page, url: str, name: str = "") -> None:
    """Open a page of the dashboard and wait until it shows what it has asked for."""
    page.goto(f"{url}/ui/#/{name}")
    expect(page.locator("main h1").first).to_be_visible()


@pytest.mark.parametrize(
    ("width", "colours", "language"), [(1440, "dark", "en-GB"), (768, "light", "en-GB"), (375, "light", "zh-HK")]
)
def test_every_page_fits_complains_about_nothing_and_asks_nobody_else(
    browser: Browser, served: Served, width: int, colours: str, language: str
) -> None:
    seen = Seen()
    with page_of(browser, seen, width, color_scheme=colours, locale=language) as page:
        for name in PAGES:
            show(page, served.url, name)
            expect(page.locator(".loading")).to_have_count(0)
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            keep_picture(page, f"{width}-{name or 'overview'}")
            found = Axe().run(page)
            grave = [one for one in found.response["violations"] if one["impact"] in ("serious", "critical")]
            assert not grave, (name, [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in grave])
    assert seen.complaints == []
    assert seen.hosts == {served.url.removeprefix("http://")}


def coverage_of(url: str, day: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    with httpx.Client(base_url=url, timeout=60) as client:
        coverage = client.get(f"/v1/days/{day}/coverage").raise_for_status().json()["data"]
        gaps = client.get(f"/v1/days/{day}/gaps?state=all").raise_for_status().json()["data"]
    return coverage, gaps


@pytest.mark.parametrize("day", [GAPPY, BEFORE, DAY])
def test_the_heat_map_is_what_coverage_and_gaps_say(browser: Browser, served: Served, day: str) -> None:
    coverage, gaps = coverage_of(served.url, day)
    with page_of(browser, Seen()) as page:
        show(page, served.url, f"coverage?day={day}")
        for state in ("proven", "missing", "unproven"):
            count = sum(one["state"] == state for one in coverage)
            told = page.locator("main .card").first.locator(".row.soft span", has=page.locator(f".state.{state}")).first
            expect(told).to_have_text(re.compile(rf"\D{count}$"))
        found = page.evaluate(
            """async ([day]) => {
              const { rowsOf } = await import("./pages/coverage.js");
              const ask = async (path) => (await (await fetch(`../v1/${path}`)).json()).data;
              const [symbols, gaps, calendar] = await Promise.all([
                ask(`days/${day}/coverage`), ask(`days/${day}/gaps?state=all`), ask(`calendar?first=${day}&days=1`)]);
              return rowsOf({ symbols, gaps, sessions: calendar[0].sessions }, Date.now() + 4e9, "", "symbol");
            }""",
            [day],
        )
    cells, rows = found["cells"], {row["symbol"]["symbol"]: row["states"] for row in found["rows"]}
    assert [cell["end_ms"] - cell["start_ms"] for cell in cells] == [300_000] * len(cells)
    assert set(rows) == {one["symbol"] for one in coverage}
    for one in coverage:
        states = rows[one["symbol"]]
        opened = [gap for gap in gaps if gap["symbol"] == one["symbol"] and gap["state"] == "open"]
        for cell, state in zip(cells, states, strict=True):
            hit = any(gap["start_ts_ms"] < cell["end_ms"] and gap["end_ts_ms"] >= cell["start_ms"] for gap in opened)
            assert (state == "missing") == hit, (one, cell, state)
            if state == "proven":
                assert one["verified_until_ms"] >= cell["start_ms"]
                assert one["state"] != "unproven"


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[tuple[Path, Recorder]]:
    simulator = Simulator(tmp_path, "--symbols", SYMBOLS, "--rate", "60", "--always-open")
    with ended(simulator):
        recorder = Recorder(tmp_path / "HK", simulator.port, SYMBOLS)
        with ended(recorder):
            recorder.wait_for("futu_subscribed symbols=3")
            yield tmp_path / "HK", recorder


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


def test_a_key_opens_it_and_a_key_that_is_revoked_closes_it(browser: Browser, tmp_path: Path, root: Path) -> None:
    keys = tmp_path / "keys.json"
    key = add_key(keys, "desk")
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
            stored.clear()
        expect(page.get_by_label("key")).to_be_visible()
        assert key not in served.output


def test_the_cookie_reads_and_does_nothing_else(tmp_path: Path, root: Path) -> None:
    keys = tmp_path / "keys.json"
    key = add_key(keys, "desk", scopes=("read", "live", "hook:ml-trade"))
    served = Served(tmp_path, root, API_ANONYMOUS=0, API_KEYS_FILE=keys, HOOKS_DIR=tmp_path / "hooks")
    with ended(served), httpx.Client(base_url=served.url, timeout=60) as client:
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
    with httpx.Client(base_url=served.url, timeout=60) as client:
        answer = client.get("/ui/app.js")
        assert answer.headers["content-encoding"] == "gzip"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert client.get("/ui/app.js", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        plain = client.get("/ui/app.js", headers={"Accept-Encoding": "identity"})
        assert plain.content == (STATIC / "app.js").read_bytes()
        assert client.get("/", follow_redirects=True).url.path == "/ui/"
        for path in ("/ui/%2e%2e/routes.py", "/ui/vendor/THIRD_PARTY.md", "/ui//etc/passwd", "/ui/app.js/"):
            assert client.get(path).status_code == 404, path
    assert sum(len(file.packed) for file in read_files().values()) <= PACKED_BYTES_MAX


def test_libraries_of_others_are_what_they_were_published_as() -> None:
    page = (STATIC / "vendor" / "THIRD_PARTY.md").read_text()
    listed = dict(re.findall(r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", page, re.MULTILINE))
    files = {path.name: path for path in (STATIC / "vendor").iterdir() if path.suffix in (".js", ".css")}
    assert set(listed) == set(files)
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == listed[name], name


def test_every_word_is_there_in_chinese(browser: Browser, served: Served) -> None:
    texts = "".join(path.read_text() for path in STATIC.rglob("*.js") if "vendor" not in path.parts)
    said = {*re.findall(r"\bt\(\"([^\"]+)\"\)", texts), *re.findall(r"\$\{Tile\} title=\"([^\"]+)\"", texts)}
    assert len(said) > 80
    with page_of(browser, Seen(), locale="zh-HK") as page:
        show(page, served.url)
        ask = "async (said) => { const { t } = await import('./text.js'); return said.filter((w) => t(w) === w); }"
        assert set(page.evaluate(ask, sorted(said))) == {"OpenD"}
