"""Debian's chromium without a window, driven by Playwright, that says everything a page complained about."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect, sync_playwright

# The one that has no window at all starts and draws for a small part of what the other computes.
PROGRAMS = ("chromium-headless-shell", "chromium")
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
WAIT_MS = 60_000
expect.set_options(timeout=WAIT_MS)
# Where pictures of every page are kept, for somebody who wants to look: CI keeps them as artefacts.
PICTURES_DIR = os.environ.get("DASHBOARD_PICTURES_DIR")


@dataclass
class Seen:
    """What pages said and asked for."""

    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; AssertionError when there is none."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, f"there is no chromium: apt-get install {PROGRAMS[0]}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def page_of(browser: Browser, seen: Seen, width: int = 1440, height: int = 900, **options: object) -> Iterator[Page]:
    """A page in a session of its own; what it complains about goes into ``seen``. Nothing on it moves unless
    ``reduced_motion`` is "no-preference": each picture of a movement is computed anew."""
    options.setdefault("reduced_motion", "reduce")
    context = browser.new_context(viewport={"width": width, "height": height}, **options)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.on("console", lambda told: seen.complaints.append(told.text) if told.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("request", lambda request: seen.hosts.add(urlsplit(request.url).netloc))
    try:
        yield page
    finally:
        context.close()


def keep_picture(page: Page, name: str, *, whole: bool = False) -> None:
    """Kept when somebody asks for pictures; ``whole``: not the first screen alone."""
    if PICTURES_DIR:
        page.screenshot(path=Path(PICTURES_DIR) / f"{name}.png", full_page=whole)


def show(page: Page, url: str, name: str = "") -> None:
    """Open a page of the dashboard and wait until it shows what it has asked for."""
    page.goto(f"{url}/ui/#/{name}")
    expect(page.locator("main h1").first).to_be_visible()
