"""What ``hk-tickctl export hftbacktest`` writes, loaded by the real HftBacktest."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import BookEntry, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.writer import DayFileWriter
from tests.books import DAY, OPEN_US, lively_pushes, record_books
from tests.harness import clean_env
from tests.tickctl import record_day, tickctl, tickctl_json
from tests.ticks import make_tick

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv/backtest/bin/python"
INSTALLED = ROOT / ".venv/backtest/.wanted"  # the environment alone may be half of it
SYMBOL = "HK.00700"
CLOSE_US = OPEN_US + 32_000_000  # every step of a backtest up to here is a call from Python


@pytest.fixture(scope="module")
def hftbacktest() -> Path:
    """A Python that has it. It wants another numpy than the recorder's lock files name."""
    if not INSTALLED.exists():
        assert not (os.environ.get("CI") and platform.machine() == "x86_64"), "CI has wheels of HftBacktest"
        pytest.skip("HftBacktest is not installed: bash scripts/backtest_venv.sh")
    return PYTHON


def run(python: Path, buy_at: float, *stems: Path) -> list[dict[str, Any]]:
    """What it made of each export, in one process: compiling takes it most of its time."""
    files = [[f"{stem}{end}" for end in (".npz", "_latency.npz", "_meta.json")] for stem in stems]
    words = [word for some in files for word in (*some, str(buy_at))]
    done = subprocess.run(
        [python, ROOT / "tests/hftbacktest_program.py", *words],
        env=clean_env(stems[0].parent / "home"), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def store_books(root: Path, entries: list[BookEntry]) -> None:
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: CLOSE_US // 1000)
    writer.write(DAY, entries, sum(isinstance(entry, PushEntry) for entry in entries))
    writer.close()


def test_a_backtest_sees_the_books_that_were_pushed(hftbacktest: Path, tmp_path: Path) -> None:
    pushes = list(lively_pushes((SYMBOL,), 3000, step_us=10_000))
    store_books(tmp_path, [WatchBegan(SYMBOL, OPEN_US), *map(PushEntry, pushes)])
    record_day(tmp_path, symbols=(SYMBOL,), count=200)
    exported = tickctl_json("export", "hftbacktest", "-o", tmp_path / "out", data_root=tmp_path)
    assert exported["format"] == "hftbacktest"
    last = pushes[-1].book
    (made,) = run(hftbacktest, pushes[0].book.asks[0][0] + 5, tmp_path / "out" / f"{SYMBOL}_{DAY}")
    assert made["events"] == exported["rows"]
    assert made["book"] == pytest.approx([*last.bids[0][:2], *last.asks[0][:2]])
    assert made["steps_with_book"] > 20, "until the book ends, with a clear"
    assert made["position"] == 100, "an order through the best ask is filled"


def test_trades_alone_do_what_the_warnings_say(hftbacktest: Path, tmp_path: Path) -> None:
    def trade(counter: int, price: float, direction: str) -> Tick:
        ts_ms = OPEN_US // 1000 + counter * 1000
        return make_tick(
            counter, SYMBOL, ts_ms=ts_ms, price=price, direction=direction, recv_ts_ms=ts_ms + 50, volume=500,
            turnover=price * 500, seq=(ts_ms // 1000) << 32 | counter,
        )  # fmt: skip

    sides = {"sold": "SELL", "neutral": "NEUTRAL"}
    for name, side in sides.items():
        root = tmp_path / name
        writer = DayFileWriter(root)
        writer.write(
            [trade(1, 600.4, "BUY"), trade(2, 600.0, side), *(trade(n, 600.4, "BUY") for n in range(3, 9))], []
        )
        writer.close()
        done = tickctl("export", "hftbacktest", "--trades-only", "-o", root / "out", data_root=root)
        assert done.returncode == 0, done.stderr
        assert "fills orders at once, which no market does" in done.stderr
    sold, neutral = run(hftbacktest, 600.0, *(tmp_path / name / "out" / f"{SYMBOL}_{DAY}_trades" for name in sides))
    assert sold["position"] == 500, "filled at once: no queue before it"
    assert neutral["position"] == 0, "a trade without side fills nothing"
    assert sold["steps_with_book"] == 0, "there is no book"
    meta = json.loads((tmp_path / "sold/out" / f"{SYMBOL}_{DAY}_trades_meta.json").read_text())
    assert (meta["depth"], meta["tick_size"], meta["lot_size"]) == ("none", 0.4, 500)
    assert "fills" in meta["limits"]


# Without the library


def test_gaps_and_blind_stretches_are_said_and_strict_refuses_them(tmp_path: Path) -> None:
    pushes = list(lively_pushes((SYMBOL, "HK.00005"), 300))
    cut = [WatchEnded(SYMBOL, OPEN_US + 200_000, "connection lost"), WatchBegan(SYMBOL, OPEN_US + 250_000)]
    entries: list[BookEntry] = [WatchBegan(name, OPEN_US) for name in (SYMBOL, "HK.00005")]
    entries += [*map(PushEntry, pushes[:200]), *cut, *map(PushEntry, pushes[260:])]
    store_books(tmp_path, entries)
    record_day(tmp_path, symbols=(SYMBOL, "HK.09988"), count=200, lost=(50,))
    out = tmp_path / "out"
    done = tickctl("export", "hftbacktest", "-o", out, data_root=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no books of HK.09988: left out" in done.stderr
    meta = json.loads((out / f"{SYMBOL}_{DAY}_meta.json").read_text())
    assert (meta["proof"]["state"], meta["proof"]["missing_ticks"]) == ("missing", 1)
    assert [gap["missing_ticks"] for gap in meta["proof"]["gaps"]] == [1]
    lost = next(stretch for stretch in meta["blind"] if stretch["from_ms"] == OPEN_US // 1000 + 200)
    assert OPEN_US // 1000 + 250 < lost["until_ms"] < OPEN_US // 1000 + 300
    assert json.loads((out / f"HK.00005_{DAY}_meta.json").read_text())["proof"]["state"] == "unproven"
    strict = tickctl("export", "hftbacktest", "--strict", "-o", tmp_path / "strict", data_root=tmp_path)
    assert strict.returncode == 1
    assert f"{DAY} {SYMBOL}: " in strict.stderr
    assert not (tmp_path / "strict").exists()
    again = tickctl("export", "hftbacktest", "-o", out, data_root=tmp_path)
    assert (again.returncode, "exist already" in again.stderr) == (1, True)


def test_a_book_is_exported_without_a_single_trade(tmp_path: Path) -> None:
    """A stock that nobody traded has a book all the same, also when it is asked for alone."""
    record_day(tmp_path, DAY, symbols=(SYMBOL,), count=10)
    record_books(tmp_path, symbols=("HK.00005",))
    words = "export", "hftbacktest", "--symbols", "HK.00005"
    done = tickctl(*words, "-o", tmp_path / "out", data_root=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / f"HK.00005_{DAY}.npz").exists()
    trades = tickctl(*words, "--trades-only", "-o", tmp_path / "trades", data_root=tmp_path)
    assert (trades.returncode, trades.stdout) == (3, "")
    assert "has ticks of HK.00005" in trades.stderr


def test_the_same_day_makes_the_same_bytes(tmp_path: Path) -> None:
    record_day(tmp_path, symbols=(SYMBOL,), count=200)
    for name in ("a", "b"):
        arguments = ("--trades-only", "--latency", "lognormal:20:5", "--seed", "3", "-o", tmp_path / name)
        assert tickctl("export", "hftbacktest", *arguments, data_root=tmp_path).returncode == 0
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 3
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    data = np.load(tmp_path / "a" / f"{SYMBOL}_{DAY}_trades.npz")["data"]
    assert data.dtype.itemsize == 64


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("hftbacktest",), 3, "--trades-only exports the trades alone"),
        (("hftbacktest", "--latency", "constant:-1"), 2, "is not a latency"),
        (("hftbacktest", "--latency", "lognormal:20"), 2, "is not a latency"),
        (("hftbacktest", "--type", "AUCTION"), 2, "--type and --exclude-type are not for hftbacktest"),
        (("csv", "--strict"), 2, "--strict is for hftbacktest and nautilus"),
    ],
)
def test_usage(tmp_path: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    record_day(tmp_path, symbols=(SYMBOL,), count=10)
    done = tickctl("export", *arguments, "-o", tmp_path / "out", data_root=tmp_path)
    assert (done.returncode, says in " ".join(done.stderr.split())) == (code, True), done.stderr
