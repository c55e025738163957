"""What ``hk-tickctl export nautilus`` writes, in a backtest of the real NautilusTrader."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import Book, BookEntry, BookPush, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.writer import DayFileWriter
from tests.books import DAY, OPEN_US
from tests.harness import clean_env
from tests.tickctl import record_day, tickctl, tickctl_json
from tests.ticks import make_tick

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv/backtest/bin/python"
INSTALLED = ROOT / ".venv/backtest/.wanted"  # the environment alone may be half of it
SYMBOL, INSTRUMENT = "HK.00700", "00700.SEHK"
OPEN_MS = OPEN_US // 1000
NS_PER_MS = 1_000_000
LOST_US, BACK_US = OPEN_US + 5_000_000, OPEN_US + 7_000_000


@pytest.fixture(scope="module")
def nautilus() -> Path:
    """A Python that has it. It wants another pandas than the recorder's lock files name."""
    if not INSTALLED.exists():
        assert not (os.environ.get("CI") and platform.machine() == "x86_64"), "CI has wheels of NautilusTrader"
        pytest.skip("NautilusTrader is not installed: bash scripts/backtest_venv.sh")
    return PYTHON


def run(python: Path, catalog: Path, *buy_at_ns: int, instrument: str = INSTRUMENT) -> dict[str, Any]:
    done = subprocess.run(
        [python, ROOT / "tests/nautilus_program.py", catalog, instrument, *map(str, buy_at_ns)],
        env=clean_env(catalog.parent / "home"), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result_json: dict[str, Any] = json.loads(done.stdout)
    return result_json


def push(at_ms: int, bid: float | None, ask: float | None) -> PushEntry:
    """A book with these best prices, seen ``at_ms`` after the opening."""
    book = Book(*(() if price is None else ((price, 1000, 3), (price + step, 500, 1))
                  for price, step in ((bid, -0.2), (ask, 0.2))))  # fmt: skip
    server_ms = OPEN_MS + at_ms - 8
    return PushEntry(BookPush(SYMBOL, (OPEN_MS + at_ms) * 1000, server_ms - 5, server_ms, book))


def store_day(root: Path) -> None:
    """Nine trades and a book that is lost for two seconds; a trade in that time, one pulled later, one of odd lots."""
    entries: list[BookEntry] = [
        WatchBegan(SYMBOL, OPEN_US),
        push(100, 600.0, 600.2), push(200, 600.0, 600.2), push(1100, 600.2, 600.4), push(3000, 600.2, None),
        WatchEnded(SYMBOL, LOST_US, "connection lost"), WatchBegan(SYMBOL, BACK_US), push(7500, 601.0, 601.2),
    ]  # fmt: skip
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: OPEN_MS + 9_000)
    writer.write(DAY, entries, sum(isinstance(entry, PushEntry) for entry in entries))
    writer.close()
    ticks = [trade(number, 600.0 + number / 5, "BUY" if number % 2 else "SELL") for number in range(1, 9)]
    late = trade(9, 600.2, "NEUTRAL")._replace(recv_ts_ms=OPEN_MS + 600_000, push_type="pull", push_data_type="CACHE")
    odd = trade(10, 590.0, "BUY")._replace(tick_type="ODD_LOT")
    day = DayFileWriter(root)
    day.write([*ticks, late, odd], [])
    day.close()


def trade(counter: int, price: float, direction: str) -> Tick:
    ts_ms = OPEN_MS + counter * 1000 - 500
    return make_tick(
        counter, SYMBOL, ts_ms=ts_ms, price=price, direction=direction, recv_ts_ms=ts_ms + 20, volume=500,
        turnover=price * 500, seq=(ts_ms // 1000) << 32 | counter,
    )  # fmt: skip


def test_a_backtest_trades_on_what_was_recorded(nautilus: Path, tmp_path: Path) -> None:
    store_day(tmp_path / "day")
    catalog = tmp_path / "catalog"
    exported = tickctl_json("export", "nautilus", "--python", nautilus, "-o", catalog, data_root=tmp_path / "day")
    buy_at_ms = (1_000, 2_900, 4_900, 5_400, 7_400)  # the next is a quote; one without ask; blind; a trade; a quote
    made = run(nautilus, catalog, *((OPEN_MS + at_ms) * NS_PER_MS for at_ms in buy_at_ms))

    assert made["seen"] == {"trades": len(made["trades"]), "quotes": len(made["quotes"])}
    assert exported["rows"] == sum(made["seen"].values())
    assert [row[:3] for row in made["trades"]] == [
        [pytest.approx(600.0 + n / 5), 500, "BUYER" if n % 2 else "SELLER"] for n in range(1, 9)
    ] + [[600.2, 500, "NO_AGGRESSOR"]]
    assert [int(row[3]) & 0xFFFFFFFF for row in made["trades"]] == list(range(1, 10))
    assert {row[5] - row[4] for row in made["trades"]} == {20 * NS_PER_MS}, "what was pulled has the others' latency"
    quotes = [[*row[:4], row[5] // NS_PER_MS - OPEN_MS] for row in made["quotes"]]
    assert quotes == [
        [600.0, 1000, 600.2, 1000, 100],  # and not again: nothing changed
        [600.2, 1000, 600.4, 1000, 1100],
        [600.2, 1000, 0, 0, 3000],
        [0, 0, 0, 0, 5000],
        [601.0, 1000, 601.2, 1000, 7500],
        [0, 0, 0, 0, 9000],  # the file ends
    ]
    assert made["quotes"][0][4] == (OPEN_MS + 100 - 8) * NS_PER_MS, "the later side's time at Futu's server"
    assert made["fills"] == [
        [600.4, 500.0],  # the best ask
        [pytest.approx(601.2), 500.0],  # nothing is known of the book, but to NautilusTrader a trade is a price
        [601.2, 500.0],
    ]
    assert [reason.partition(" for ")[0] for reason in made["rejected"]] == ["no market with no fills"] * 2
    told = {"proof": "unproven", "missing_ticks": 0, "blind_stretches": 4, "quotes": "books"}
    assert made["instrument"] == {"price_increment": 0.2, "lot_size": 500, "currency": "HKD", "info": {DAY: told}}

    meta = json.loads((catalog / f"hk_tick_collector/{INSTRUMENT}_{DAY}.json").read_text())
    assert meta["left_out_by_type"] == {"ODD_LOT": 1}
    assert {"from_ms": LOST_US // 1000, "until_ms": OPEN_MS + 7_500} in meta["blind"]
    assert meta["rows"] == made["seen"]


def test_days_share_a_catalog_and_a_day_can_be_replaced(nautilus: Path, tmp_path: Path) -> None:
    root, catalog = tmp_path / "day", tmp_path / "catalog"
    for day in ("20261119", DAY):
        record_day(root, day, symbols=(SYMBOL, "HK.80700"), count=40, lost=(20,) if day == DAY else ())
    where = ("export", "nautilus", "--python", nautilus, "-o", catalog)
    first = tickctl(*where, "--days", DAY, data_root=root)
    assert first.returncode == 0, first.stderr
    assert f"{DAY}: no books of HK.00700, HK.80700: trades without quotes" in first.stderr
    again = tickctl(*where, "--days", DAY, data_root=root)
    assert (again.returncode, "exist already" in again.stderr) == (1, True)
    both = tickctl_json(*where, "--force", "--latency", "constant:30", data_root=root)
    assert len(both["files"]) == 4
    made = run(nautilus, catalog)
    assert made["seen"]["trades"] == len({(row[3], row[5]) for row in made["trades"]}), "each trade once"
    assert {row[5] - row[4] for row in made["trades"]} == {30 * NS_PER_MS}
    days = made["instrument"]["info"]
    assert {day: (day_row["proof"], day_row["missing_ticks"], day_row["quotes"]) for day, day_row in days.items()} == {
        "20261119": ("proven", 0, "none"), DAY: ("missing", 1, "none"),
    }  # fmt: skip
    assert run(nautilus, catalog, instrument="80700.SEHK")["instrument"]["currency"] == "CNY"
    assert not [path.name for path in catalog.iterdir() if path.name.startswith(".")], "nothing half done is left"


# Without the library


def test_strict_refuses_what_is_not_whole(tmp_path: Path) -> None:
    store_day(tmp_path / "blind")
    record_day(tmp_path / "gap", symbols=(SYMBOL,), count=40, lost=(20,))
    for name, says in (("blind", f"{DAY} {SYMBOL}: "), ("gap", f"{DAY} {SYMBOL}: ")):
        done = tickctl("export", "nautilus", "--strict", "-o", tmp_path / "out", data_root=tmp_path / name)
        assert (done.returncode, says in done.stderr) == (1, True), done.stderr
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("nautilus", "--python", sys.executable), 1, "has no NautilusTrader (No module named 'nautilus_trader')"),
        (("nautilus", "--python", "/dev/null"), 1, "/dev/null cannot be run"),
        (("nautilus", "--python", "/bin/true"), 1, "/bin/true has no NautilusTrader (it ended without a word)"),
        (("nautilus", "--exclude-type", "AUCTION"), 2, "--type and --exclude-type are not for nautilus"),
        (("hftbacktest", "--python", sys.executable), 2, "--python is for nautilus, not for hftbacktest"),
        (("csv", "--strict"), 2, "--strict is for hftbacktest and nautilus, not for csv"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    record_day(tmp_path, symbols=(SYMBOL,), count=10)
    done = tickctl("export", *arguments, "-o", tmp_path / "out", data_root=tmp_path)
    assert (done.returncode, says in " ".join(done.stderr.split())) == (code, True), done.stderr
    assert not (tmp_path / "out").exists(), "nothing half done is left"
