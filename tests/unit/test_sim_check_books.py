"""Recorded books against the truth: what is untrue, out of order or not counted is found, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hk_tick_collector.market.hk import HK
from hk_tick_collector.opend_sim.check_books import BookDiff, check_books
from hk_tick_collector.opend_sim.cli import main
from hk_tick_collector.opend_sim.depth import Depth, Level
from hk_tick_collector.opend_sim.depth_feed import DepthState
from hk_tick_collector.opend_sim.depth_truth import LOST, MERGED, SENT, DepthTruthWriter, Fated
from hk_tick_collector.records.book import Book, BookEntry, BookPush, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from tests.books import DAY, OPEN_US

SYMBOL = "HK.00700"
OPEN_MS = OPEN_US // 1000


def state(number: int) -> DepthState:
    depth = Depth((Level(600.0 + number, 100, 1),), (Level(700.0, 300, 2),))
    return DepthState(SYMBOL, number, depth, OPEN_MS + number, OPEN_MS)


def entry(number: int, merged: int = 0) -> BookEntry:
    sent = state(number)
    book = Book(tuple(map(tuple, sent.depth.bids)), tuple(map(tuple, sent.depth.asks)))  # type: ignore[arg-type]
    return PushEntry(BookPush(SYMBOL, OPEN_US + number * 1000, sent.bid_ts_ms, sent.ask_ts_ms, book), merged)


CACHED = PushEntry(BookPush(SYMBOL, OPEN_US, None, None, Book(((599.0, 100, 1),), ())))
BEGAN, ENDED = WatchBegan(SYMBOL, OPEN_US), WatchEnded(SYMBOL, OPEN_US + 5_000, "connection lost")


def check(root: Path, *entries: BookEntry) -> BookDiff:
    """Against a truth of twenty states, of which the 4th was merged and the 5th lost by a fault."""
    truth = DepthTruthWriter(root / "truth")
    fates = {4: MERGED, 5: LOST}
    truth.write(Fated(state(number), fates.get(number, SENT)) for number in range(1, 21))
    truth.close()
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: OPEN_MS)
    writer.write(DAY, [BEGAN, *entries], sum(1 + e.merged for e in entries if isinstance(e, PushEntry)))
    writer.close()
    report = check_books(root / "truth", root)
    assert report.exit_code == (0 if report.symbols[SYMBOL].clean else 1)
    return report.symbols[SYMBOL]


def test_what_was_sent_is_true_with_a_first_push_merged_books_and_a_break(tmp_path: Path) -> None:
    numbers = [1, 2, 3, 6, 7]
    entries = [CACHED, *map(entry, numbers), entry(10, merged=2), ENDED, BEGAN, CACHED, entry(15), entry(16)]
    assert check(tmp_path, *entries) == BookDiff(
        sent=18, stored=10, cached=2, merged=2, breaks=2
    )  # the last: it stopped


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ((entry(1), entry(3)), {"unaccounted": 1}),
        ((entry(1), entry(2, merged=1)), {"unaccounted": 1}),
        ((entry(2), entry(1)), {"disordered": 1}),
        ((entry(3), entry(4)), {"untrue": 1}),  # it was never sent
        ((entry(99),), {"untrue": 1}),
    ],
)
def test_what_is_not_true_is_found(tmp_path: Path, entries: tuple[BookEntry, ...], expected: dict[str, int]) -> None:
    diff = check(tmp_path, *entries)
    assert {name: getattr(diff, name) for name in ("untrue", "disordered", "unaccounted")} == {
        "untrue": 0, "disordered": 0, "unaccounted": 0, **expected,
    }  # fmt: skip


def test_the_command_says_it_in_words_and_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["check-books", "--truth", str(tmp_path / "truth"), "--data-root", str(tmp_path)]
    assert main(arguments) == 2  # no such file
    check(tmp_path, entry(1), entry(3))
    capsys.readouterr()
    assert main(arguments) == 1
    assert "DIFFERENCES\n" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["symbols"][SYMBOL]["unaccounted"] == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main([*arguments[:-1], str(empty)]) == 3
    assert "NO DATA" in capsys.readouterr().out
