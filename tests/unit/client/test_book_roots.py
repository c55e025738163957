"""Order books and queues of several data roots: of each symbol the one that watched it best tells, and says so."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest

import hk_tick_collector as hk
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.every import EveryDay
from hk_tick_collector.days.union import UnionCatalog
from hk_tick_collector.days.watched import Stretch, SymbolBooks, best_watched
from hk_tick_collector.market.hk import HK
from hk_tick_collector.query.engine import Engine
from hk_tick_collector.records.book import BookEntry, BookPush, BrokerPush, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import archive_dir
from tests.books import DAY, OPEN_US, lively_pushes
from tests.brokers import lively_queues

HOUR_US = 3_600_000_000
Kind = Literal["book", "broker"]
pytestmark = pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")


def record(root: Path, kind: Kind, hours: dict[str, int], pushes: int) -> None:
    """Each symbol watched for so many hours from the opening on."""
    pushed: Iterable[BookPush | BrokerPush]
    pushed = (lively_pushes if kind == "book" else lively_queues)(tuple(hours), pushes, seed=pushes)
    end_us = OPEN_US + 3 * HOUR_US
    entries: list[BookEntry] = [WatchBegan(symbol, OPEN_US) for symbol in hours]
    entries += map(PushEntry, pushed)
    entries += [WatchEnded(symbol, OPEN_US + n * HOUR_US, "connection lost") for symbol, n in hours.items()]
    states = BOOK_KIND if kind == "book" else BROKER_KIND
    with closing(BookWriter(root, SqliteOptions(), HK.trading_day, lambda: end_us // 1000, kind=states)) as writer:
        writer.write(DAY, entries, pushes)


@pytest.fixture(params=["book", "broker"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def roots(tmp_path: Path, kind: Kind) -> list[Path]:
    """HK.00700 in both, watched longer in the second one; one more symbol in each."""
    roots = [tmp_path / "first" / "HK", tmp_path / "second" / "HK"]
    record(roots[0], kind, {"HK.00700": 1, "HK.00005": 1, "HK.09988": 2}, 60)
    record(roots[1], kind, {"HK.00700": 2, "HK.00388": 1, "HK.09988": 2}, 90)
    return roots


def rows_of(place: Path | list[Path], kind: Kind, symbols: str) -> list[dict[str, Any]]:
    with hk.local(place) as recordings:
        rows: list[dict[str, Any]] = recordings.load(symbols, DAY, kind=kind).unify_dictionaries().to_pylist()
        return rows


def test_the_root_that_watched_a_symbol_best_tells_of_it(roots: list[Path], kind: Kind) -> None:
    first, second = roots
    assert rows_of(roots, kind, "700") == rows_of(second, kind, "700") != rows_of(first, kind, "700")
    assert rows_of(list(reversed(roots)), kind, "700") == rows_of(second, kind, "700")
    assert rows_of(roots, kind, "5") == rows_of(first, kind, "5")
    assert rows_of(roots, kind, "388") == rows_of(second, kind, "388")
    assert rows_of(roots, kind, "9988") == rows_of(first, kind, "9988"), "equal: the one listed first"
    with hk.local(roots) as recordings:
        table = recordings.load("all", DAY, kind=kind)
    reasons = {row.symbol: row.reason or "" for row in hk.Coverage.of(table)}
    told = {symbol for symbol, reason in reasons.items() if "of 2 data roots the one that watched it best" in reason}
    assert reasons.keys() == {"HK.00005", "HK.00388", "HK.00700", "HK.09988"}
    assert told == {"HK.00700", "HK.09988"}


def test_sql_takes_the_same_root(roots: list[Path], kind: Kind) -> None:
    every = EveryDay(UnionCatalog([Catalog(root, archive_dir(root)) for root in roots]))
    with Engine([], beside=every.beside([DAY])) as engine:
        sql = f"SELECT symbol, count(DISTINCT update_no) AS pushes FROM {kind}s GROUP BY 1"
        counted = {row["symbol"]: row["pushes"] for batch in engine.run(sql).batches for row in batch.to_pylist()}
    assert counted == {
        symbol: len({row["update_no"] for row in rows_of(roots, kind, symbol)})
        for symbol in ("HK.00005", "HK.00388", "HK.00700", "HK.09988")
    }


def test_less_blind_comes_first_then_fewer_stretches_then_the_order_listed() -> None:
    def books(watched_ms: int, blind: int) -> list[SymbolBooks]:
        return [SymbolBooks("A", watched_ms, 1000, [Stretch(0, 1, "")] * blind)]

    assert best_watched([books(900, 1), books(950, 9)]) == {"A": 1}
    assert best_watched([books(900, 2), books(900, 1)]) == {"A": 1}
    assert best_watched([books(900, 1), books(900, 1)]) == {"A": 0}
    assert best_watched([[], books(0, 1)]) == {"A": 1}
    assert best_watched([]) == {}
