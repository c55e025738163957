"""Bars that are kept of the newest day are the bars of its file, whatever is stored, changed or exchanged."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hk_tick_collector.client.local import LocalFiles
from hk_tick_collector.client.question import Stretch
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.facts import GapFound
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.serve.api import jobs, today
from hk_tick_collector.serve.api.roots import Roots
from hk_tick_collector.serve.keys import ANONYMOUS
from hk_tick_collector.serve.problems import problem_of
from hk_tick_collector.store.layout import day_file
from hk_tick_collector.store.writer import DayFileWriter
from tests.archived_day import archive_day
from tests.nights import examples
from tests.ticks import BASE_MS, DAY, make_tick, make_ticks

UNSHRUNK = settings(  # a failure is to be told in a second, and by as many steps as it took
    max_examples=examples(15), deadline=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
DAY_MS = 86_400_000
NEXT = "20261123"


class _Clock:
    """Of a server on the evening of ``DAY``, and on the next trading day behind it."""

    now = BASE_MS + 8 * 3_600_000

    def now_ms(self) -> int:
        """UTC epoch ms."""
        return self.now


class _Out:
    def __init__(self) -> None:
        self.body = io.BytesIO()

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Nothing."""


def reader(root: Path, clock: _Clock) -> Roots:
    return Roots([(root, root / "_archive")], clock)  # type: ignore[arg-type]


def answer(roots: Roots, **asked: Any) -> Any:
    """What a reading process says; the moment of it is left out when it is compared."""
    out = _Out()
    try:
        jobs.run(roots, {"job": "bars", "limit": 10_000, "format": "json", **asked}, ANONYMOUS, out)
    except Exception as exc:
        problem = problem_of(exc)
        return problem.slug, problem.detail
    return json.loads(out.body.getvalue())


def timeless(reply: Any) -> Any:
    """An answer without the moment of it."""
    if not isinstance(reply, dict):
        return reply
    at_ms = str(reply["as_of"].pop("at_ms")).encode()
    cursor = base64.urlsafe_b64decode(reply["next"].split(".")[1] + "==") if reply["next"] else b""
    return {**reply, "next": cursor.replace(at_ms, b"")}


def without_none(question: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: str(value) if name in ("start", "end") else value for name, value in question.items() if value is not None
    }


def slowly(root: Path, clock: _Clock, **asked: Any) -> Any:
    """The same by the way of all days."""
    roots = reader(root, clock)
    roots.all[0].__dict__["today"] = _Nothing()
    return answer(roots, **asked)


class _Nothing:
    def bars(self, *_: object, is_filled: bool) -> None:
        """Nothing is kept."""

    newest = bars


def told(n: int, kind: str) -> list[Tick]:
    """A trade, told in one of the ways in which a source tells it."""
    ts_ms = BASE_MS + n * 700
    tick = make_tick(n, "HK.00700" if n % 3 else "HK.00005", ts_ms=ts_ms, seq=ts_ms // 1000 << 32 | n)
    tick = tick._replace(
        price=100.2 + n % 7 * 0.2, volume=100 * (1 + n % 4), turnover=None if n % 5 == 0 else 38.125 * n
    )
    coarse = ts_ms - ts_ms % 1000
    return {
        "in full": [tick],
        "odd lot": [tick._replace(tick_type="ODD_LOT")],
        "auction": [tick._replace(tick_type="AUCTION", direction="NEUTRAL")],
        "no price": [tick._replace(price=0.0)],
        "no volume": [tick._replace(volume=0)],
        "sells": [tick._replace(direction="SELL")],
        "to the second": [tick._replace(ts_ms=coarse)],
        "without sequence": [tick._replace(seq=None)],
        "next day": [tick._replace(ts_ms=ts_ms + 3 * DAY_MS, trading_day=NEXT)],
    }[kind]


KINDS = ("in full", "in full", "odd lot", "auction", "no price", "no volume", "sells", "to the second")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 9), st.sampled_from(KINDS)),
        st.tuples(st.integers(1, 60), st.sampled_from(("without sequence", "next day"))),
        st.sampled_from(["many", "close", "exchange", "a gap"]),
    ),
    min_size=4,
    max_size=16,
)
QUESTIONS = st.lists(
    st.fixed_dictionaries(
        {
            "symbols": st.sampled_from(["700", "5,700", "5"]),
            "interval": st.sampled_from(["1s", "7s", "1m", "24h"]),
            "odd_lots": st.booleans(),
            "auctions": st.booleans(),
            "limit": st.sampled_from([2, 10_000]),
            "fill": st.sampled_from(["none", "none", "session"]),
            "start": st.sampled_from(
                [None, None, None, BASE_MS, BASE_MS + 7_300, BASE_MS + 3 * DAY_MS, "20261119", "20261120"]
            ),
            "end": st.sampled_from([None, None, BASE_MS + 20_000, BASE_MS + DAY_MS]),
            "as_of_ms": st.sampled_from([None, None, BASE_MS - DAY_MS, 1 << 50]),
        }
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=examples(15), deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(steps=STEPS, questions=QUESTIONS)
def test_kept_bars_are_those_of_the_file(tmp_path: Path, steps: list[Any], questions: list[Any]) -> None:
    root = tmp_path / "HK"
    shutil.rmtree(root, ignore_errors=True)
    clock = _Clock()
    kept = reader(root, clock)
    writer = DayFileWriter(root)
    writer.write([make_tick(1, "HK.00700", ts_ms=BASE_MS), make_tick(1, "HK.00005", ts_ms=BASE_MS)], [])
    moment = 0
    for number, step in enumerate(steps):
        writer = _took(step, root, writer, clock)
        moment = SystemClock().now_ms() if number <= len(steps) // 2 else moment
        for question in map(without_none, questions):
            if "as_of_ms" in question:
                question["as_of_ms"] = min(moment, question["as_of_ms"])
            assert timeless(answer(kept, **question)) == timeless(slowly(root, clock, **question))
    writer.close()


def _took(step: Any, root: Path, writer: DayFileWriter, clock: _Clock) -> DayFileWriter:
    if isinstance(step, tuple):
        writer.write(told(*step), [])
        if step[1] == "next day":
            clock.now = BASE_MS + 3 * DAY_MS + 8 * 3_600_000
        return writer
    if step == "many":
        writer.write([tick for n in range(100, 160) for tick in told(n, "in full")], [])
        return writer
    if step == "a gap":
        writer.write([], [GapFound("HK.00700", DAY, 300, 301, BASE_MS, "lost")])
        return writer
    writer.close()
    if step == "exchange":
        for path in root.glob("*.db"):
            _exchange(path)
    return DayFileWriter(root)


def _exchange(path: Path) -> None:
    """For a file with the same rows but for their prices."""
    other = path.with_name(f".{path.name}.other")
    shutil.copy(path, other)
    with closing(sqlite3.connect(other, isolation_level=None)) as conn:
        conn.execute("UPDATE ticks SET price = price + 0.2")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.replace(other, path)  # noqa: PTH105


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many ticks bars were made of, each time."""
    counts: list[int] = []
    real = today.make_bars

    def counted(ticks: Any, *rest: Any) -> Any:
        counts.append(ticks.num_rows)
        return real(ticks, *rest)

    monkeypatch.setattr(today, "make_bars", counted)
    return counts


def test_only_bars_with_new_ticks_are_made_again(tmp_path: Path, made: list[int]) -> None:
    clock = _Clock()
    kept = reader(tmp_path, clock)
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write([make_tick(n, ts_ms=BASE_MS + n * 1001) for n in range(1, 301)], [])
        answer(kept, symbols="700", interval="1m")
        answer(kept, symbols="700", interval="1m")
        assert made == [300]
        writer.write([make_tick(301, ts_ms=BASE_MS + 301 * 1001)], [])
        answer(kept, symbols="700", interval="1m")
        assert made[0] == 300
        assert made[1] <= 61
        asked = {"symbols": "700", "interval": "1m"}
        assert timeless(answer(kept, **asked)) == timeless(slowly(tmp_path, clock, **asked))


def test_what_is_kept_is_bounded_and_the_rest_is_read_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(today, "KEPT_ROWS", 500)
    clock = _Clock()
    kept = reader(tmp_path, clock)
    with closing(DayFileWriter(tmp_path)) as writer:
        for number in (1, 2, 3, 4):
            writer.write(make_ticks(1, 200, f"HK.{number:05d}"), [])
        writer.write(make_ticks(1, 600, "HK.00005"), [])
        for symbols in ("1", "2", "3", "4", "1,2,3,4", "5", "1"):
            asked = {"symbols": symbols, "interval": "1m"}
            assert timeless(answer(kept, **asked)) == timeless(slowly(tmp_path, clock, **asked))
            assert kept.all[0].today.kept_rows <= 500
        assert kept.all[0].today.kept_rows > 0


@pytest.mark.parametrize(
    ("more", "is_kept"),
    [
        ({"start": str(BASE_MS + 60_000)}, True),
        ({"start": str(BASE_MS + 60_000), "end": str(BASE_MS + 90_000)}, True),
        ({"start": DAY, "end": "20261121", "fill": "session"}, True),
        ({"day": DAY, "fill": "session"}, True),
        ({"end": str(BASE_MS + 90_000)}, False),
        ({"start": "20261119"}, True),
        ({"start": "20261119", "end": str(BASE_MS + 90_000), "fill": "session"}, True),
        ({"start": "20261119", "as_of_ms": BASE_MS + 90_000}, False),
        ({"as_of_ms": BASE_MS + 90_000}, True),
    ],
)
def test_a_part_of_the_newest_day_is_made_of_what_is_kept(tmp_path: Path, more: dict[str, Any], is_kept: bool) -> None:
    clock = _Clock()
    kept = reader(tmp_path, clock)
    asked = {"symbols": "700,5", "interval": "10s", **more}
    with closing(DayFileWriter(tmp_path)) as writer:
        for symbol in ("HK.00700", "HK.00005"):
            writer.write([make_tick(n, symbol, ts_ms=BASE_MS + n * 1700) for n in range(1, 200)], [])
        for _ in range(2):
            assert timeless(answer(kept, **asked)) == timeless(slowly(tmp_path, clock, **asked))
            writer.write(told(300, "in full"), [])
        assert (kept.all[0].today.kept_rows > 0) is is_kept


def test_bars_of_archived_days_are_made_once_and_those_of_today_as_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock()
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write(make_ticks(1, 90), [])
        writer.write([make_tick(n, "HK.00005") for n in range(1, 50)], [])
    archive_day(tmp_path, tmp_path / "_archive", DAY)
    clock.now += 3 * DAY_MS
    kept = reader(tmp_path, clock)
    asked = {"symbols": "700", "interval": "10s", "start": "20261119"}
    made: list[str] = []
    real = LocalFiles.bars_of

    def counted(files: LocalFiles, plan: Any, question: Any) -> Any:
        made.extend(read.day.trading_day for read in plan.reads)
        return real(files, plan, question)

    with closing(DayFileWriter(tmp_path)) as writer:
        for n in (1, 2, 3):
            writer.write(told(n, "next day"), [])
            writer.write([tick._replace(symbol="HK.00700") for tick in told(100 + n, "next day")], [])
            monkeypatch.setattr(LocalFiles, "bars_of", counted)
            answers = [answer(kept, **asked, **more) for more in ({}, {"limit": 3}, {"fill": "session"})]
            monkeypatch.setattr(LocalFiles, "bars_of", real)
            for reply, more in zip(answers, ({}, {"limit": 3}, {"fill": "session"}), strict=True):
                assert timeless(reply) == timeless(slowly(tmp_path, clock, **asked, **more))
    assert made == [DAY] * 2, "as it is, and with bars between"


def test_a_page_that_was_kept_is_followed_by_pages_of_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock()
    kept = reader(tmp_path, clock)
    asked = {"symbols": "700,5", "interval": "1s"}
    with closing(DayFileWriter(tmp_path)) as writer:
        for symbol in ("HK.00700", "HK.00005"):
            writer.write([make_tick(n, symbol, ts_ms=BASE_MS + n * 400) for n in range(1, 60)], [])
        whole = answer(kept, **asked)["data"]
        monkeypatch.setattr(LocalFiles, "bars_of", None)  # pages are cut from what the first one was cut from
        rows: list[Any] = []
        page = answer(kept, **asked, limit=7)
        while page["next"] is not None:
            rows += page["data"]
            writer.write(told(len(rows) + 100, "in full"), [])  # between two pages
            page = answer(kept, **asked, limit=7, cursor=page["next"])
        rows += page["data"]
    assert rows == whole


def test_a_day_that_is_over_archived_or_of_another_time_is_not_kept(tmp_path: Path) -> None:
    clock = _Clock()
    kept = reader(tmp_path, clock)

    def is_kept(day: str | None) -> bool:
        rule = today.TradeRule(kept.all[0].market.trade_types)
        return kept.all[0].today.bars(Stretch(("700",), day), ["HK.00700"], 60_000, rule) is not None

    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write(make_ticks(1, 9), [])
        assert [is_kept(day) for day in (None, "last", "today", DAY)] == [True] * 4
        assert [is_kept(day) for day in ("20261119", "yesterday", f"{DAY}..{DAY}")] == [False] * 3
        clock.now += DAY_MS
        assert [is_kept(day) for day in (None, "today")] == [True, False]
    assert not is_kept(DAY), "closed"
    archive_day(tmp_path, tmp_path / "_archive", DAY)
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write(make_ticks(10, 12), [])
        assert not is_kept(DAY), "an archive is there, too"


def test_a_symbol_without_sequences_is_read_as_ever(tmp_path: Path) -> None:
    clock = _Clock()
    kept = reader(tmp_path, clock)
    asked = {"symbols": "700", "interval": "1s"}
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write(make_ticks(1, 9), [])
        answer(kept, **asked)
        assert kept.all[0].today.kept_rows > 0
        writer.write([make_tick(20, seq=None)], [])
        assert timeless(answer(kept, **asked)) == timeless(slowly(tmp_path, clock, **asked))
        assert kept.all[0].today.kept_rows == 0


def test_what_cannot_be_kept_is_not_read_for_it_at_each_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(today, "LOOSE_ROWS", 5)
    read: list[str] = []
    real = today._Source.rows_of

    def counted(source: Any, symbol: str) -> Any:
        read.append(symbol)
        return real(source, symbol)

    monkeypatch.setattr(today._Source, "rows_of", counted)
    clock = _Clock()
    kept = reader(tmp_path, clock)
    with closing(DayFileWriter(tmp_path)) as writer:
        for n in range(1, 20):
            writer.write(told(n, "to the second"), [])
            asked = {"symbols": "700", "interval": "1s"}
            assert timeless(answer(kept, **asked)) == timeless(slowly(tmp_path, clock, **asked))
    assert len(read) == 2, "while there were few of them, and once since"


def test_a_row_that_gets_its_finer_time_later_may_be_the_last_of_its_bar(tmp_path: Path) -> None:
    clock = _Clock()
    kept = reader(tmp_path, clock)
    asked = {"symbols": "700", "interval": "1s"}
    with closing(DayFileWriter(tmp_path)) as writer:
        late = make_tick(1, ts_ms=BASE_MS + 900, price=101.0)
        writer.write([make_tick(2, ts_ms=BASE_MS + 500), late._replace(ts_ms=BASE_MS)], [])
        assert answer(kept, **asked)["data"][0]["close"] != 101.0
        writer.write([late], [])
        reply = answer(kept, **asked)
        assert reply["data"][0]["close"] == 101.0
        assert kept.all[0].today.kept_rows > 0
        assert timeless(reply) == timeless(slowly(tmp_path, clock, **asked))


def test_errors_are_those_of_the_way_of_all_days(tmp_path: Path) -> None:
    clock = _Clock()
    kept = reader(tmp_path, clock)
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write(make_ticks(1, 9), [])
        writer.write([], [GapFound("HK.00700", DAY, 10, 11, BASE_MS, "lost")])
        for asked in ({"symbols": "99"}, {"symbols": "700,99"}, {"symbols": "no such"}, {"symbols": "all"},
                      {"symbols": "700", "require": "proven"}, {"symbols": "700", "day": "20261119"}):  # fmt: skip
            given = {"interval": "1m", **asked}
            assert timeless(answer(kept, **given)) == timeless(slowly(tmp_path, clock, **given)), asked
        day_file(tmp_path, NEXT).write_bytes(b"no database" * 1000)
        clock.now += 3 * DAY_MS
        given = {"symbols": "700", "interval": "1m"}
        assert timeless(answer(kept, **given)) == timeless(slowly(tmp_path, clock, **given))
