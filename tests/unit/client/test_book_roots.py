"""Order books and queues of several data roots: of each symbol the one that watched it best tells, and says so."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import hk_tick_collector as hk
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.every import EveryDay
from hk_tick_collector.days.union import UnionCatalog
from hk_tick_collector.days.watched import Stretch, SymbolBooks, best_watched
from hk_tick_collector.export.backtest import Options
from hk_tick_collector.export.hftbacktest import export_hftbacktest
from hk_tick_collector.export.rows import DayPart, Selection
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.quality.book_certificate import books_of
from hk_tick_collector.quality.model import BookCertificate
from hk_tick_collector.query.engine import Engine
from hk_tick_collector.records.book import BookEntry, BookPush, BrokerPush, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.serve.api import jobs
from hk_tick_collector.serve.api.roots import Roots
from hk_tick_collector.serve.keys import ANONYMOUS
from hk_tick_collector.serve.problems import Problem
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import archive_dir
from tests.books import DAY, OPEN_US, lively_pushes
from tests.brokers import lively_queues
from tests.clock import ManualClock
from tests.tickctl import record_day

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


def test_the_certificate_tells_of_the_same_root(roots: list[Path], kind: Kind) -> None:
    states = BOOK_KIND if kind == "book" else BROKER_KIND
    now_ms = OPEN_US // 1000 + 3 * HOUR_US // 1000
    for root in roots:
        record_day(root, symbols=("HK.00700",), count=5)

    def told(days: list[Path], *, deep: bool) -> BookCertificate:
        day = UnionCatalog([Catalog(root, archive_dir(root)) for root in days]).day(DAY)
        books = books_of(day, DayKind.WHOLE, now_ms, states, read_pushes=deep)
        assert books is not None
        return books

    for deep in (False, True):
        books = told(roots, deep=deep)
        of_first, of_second = ({row.symbol: row for row in told([root], deep=deep).symbols} for root in roots)
        assert {row.symbol: row for row in books.symbols} == {
            "HK.00005": of_first["HK.00005"], "HK.00388": of_second["HK.00388"],
            "HK.00700": of_second["HK.00700"], "HK.09988": of_first["HK.09988"],
        }  # fmt: skip
        assert "the one of 2 data roots that watched it best" in books.sentence
    file = states.file_of(roots[0], DAY)
    file.write_bytes(b"no database" * 1000)
    books = told(roots, deep=False)
    assert {row.symbol for row in books.symbols} == {"HK.00388", "HK.00700", "HK.09988"}
    assert f"{file}: they cannot be read" in books.sentence


def test_a_backtest_gets_the_books_of_the_same_root(tmp_path: Path) -> None:
    roots = [tmp_path / "first" / "HK", tmp_path / "second" / "HK"]
    symbols = ("HK.00700", "HK.00005", "HK.09988")
    for root, watched in zip(roots, ({"HK.00700": 1, "HK.00005": 1}, {"HK.00700": 2, "HK.09988": 1}), strict=True):
        record_day(root, symbols=symbols, count=20)
        record(root, "book", watched, 80 if root is roots[0] else 90)

    def exported(days: list[Path]) -> dict[str, Any]:
        out = days[0].parent / f"out{len(days)}"
        part = DayPart(UnionCatalog([Catalog(root, archive_dir(root)) for root in days]).day(DAY), Selection())
        list(export_hftbacktest([part], out, Options(), lambda _: {}, print, force=False, advance=lambda _: None))
        return {path.name[:8]: np.load(path)["data"].tolist() for path in out.glob(f"*_{DAY}.npz")}

    joined, first, second = exported(roots), exported(roots[:1]), exported(roots[1:])
    assert joined.keys() == set(symbols)
    assert first["HK.00700"] != second["HK.00700"]
    assert joined == {"HK.00700": second["HK.00700"], "HK.00005": first["HK.00005"], "HK.09988": second["HK.09988"]}


def test_less_blind_comes_first_then_fewer_stretches_then_the_order_listed() -> None:
    def books(watched_ms: int, blind: int) -> list[SymbolBooks]:
        return [SymbolBooks("A", watched_ms, 1000, [Stretch(0, 1, "")] * blind)]

    assert best_watched([books(900, 1), books(950, 9)]) == {"A": 1}
    assert best_watched([books(900, 2), books(900, 1)]) == {"A": 1}
    assert best_watched([books(900, 1), books(900, 1)]) == {"A": 0}
    assert best_watched([[], books(0, 1)]) == {"A": 1}
    assert best_watched([]) == {}


class Answer:
    """What a reading process would send."""

    def __init__(self) -> None:
        self.body: Any = io.BytesIO()

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        assert status == 200

    def json(self) -> Any:
        return json.loads(self.body.getvalue())


def asked(roots: list[Path], job: str, now_ms: int, **more: Any) -> Any:
    answer = Answer()
    served = Roots([(root, archive_dir(root)) for root in roots], clock=ManualClock(now_ms))
    jobs.run(served, {"job": job, **more}, ANONYMOUS, answer)
    return answer.json()


def test_pages_end_when_another_root_tells_by_now(roots: list[Path], kind: Kind) -> None:
    """The first one watched the symbol as long as the other one; then that one watches on."""
    now_ms = (OPEN_US + 5 * HOUR_US) // 1000
    question = {"job": f"{kind}s", "form": "wide", "depth": 5, "symbols": "9988", "day": DAY, "limit": 5}
    first = asked(roots, now_ms=now_ms, **question)
    second = asked(roots, now_ms=now_ms, **question, cursor=first["next"])
    assert [*first["data"], *second["data"]] == asked(roots, now_ms=now_ms, **{**question, "limit": 10})["data"]
    record(roots[1], kind, {"HK.00005": 1}, 3)
    assert asked(roots, now_ms=now_ms, **question, cursor=first["next"])["data"] == second["data"], "of another symbol"
    states = BOOK_KIND if kind == "book" else BROKER_KIND
    end_us = OPEN_US + 4 * HOUR_US
    with closing(BookWriter(roots[1], SqliteOptions(), HK.trading_day, lambda: end_us // 1000, kind=states)) as writer:
        watch = [WatchBegan("HK.09988", OPEN_US + 2 * HOUR_US), WatchEnded("HK.09988", end_us, "a stop")]
        writer.write(DAY, watch, 0)
    with pytest.raises(Problem) as raised:
        asked(roots, now_ms=now_ms, **question, cursor=first["next"])
    assert raised.value.slug == "cursor-gone"


def test_the_newest_book_is_that_of_who_watches_or_heard_of_it_last(tmp_path: Path) -> None:
    """Whichever is listed first; the first root's recorder stopped an hour in."""
    roots = [tmp_path / "first" / "HK", tmp_path / "second" / "HK"]
    for root, pushes in zip(roots, (60, 90), strict=True):
        record(root, "book", {"HK.00700": 1}, pushes)
    asking = {"symbols": "700", "levels": 5, "now_ms": (OPEN_US + 2 * HOUR_US) // 1000}
    first, second = (asked([root], "books_latest", **asking)["data"] for root in roots)
    assert first[0]["recv_ts_us"] < second[0]["recv_ts_us"]
    for listed in (roots, roots[::-1]):
        assert asked(listed, "books_latest", **asking)["data"] == second
    now_us = OPEN_US + HOUR_US
    with closing(BookWriter(roots[0], SqliteOptions(), HK.trading_day, lambda: now_us // 1000)) as writer:
        writer.write(DAY, [WatchBegan("HK.00700", now_us)], 0)
        asking["now_ms"] = now_us // 1000
        assert asked(roots, "books_latest", **asking)["data"][0]["recv_ts_us"] == first[0]["recv_ts_us"]
