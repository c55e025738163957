"""What the server keeps of newest ticks is what the files hold, whatever is committed, changed or exchanged."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from hk_tick_collector.records.columns import NAMES
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.serve.api import latest
from hk_tick_collector.serve.api.latest import Latest, Newest, tick_of
from hk_tick_collector.serve.api.roots import Root
from hk_tick_collector.store.layout import day_file
from hk_tick_collector.store.read_only import open_read_only, select_list
from hk_tick_collector.store.writer import DayFileWriter
from tests.nights import examples
from tests.ticks import BASE_MS, DAY, make_tick, make_ticks

NEXT = "20261123"
SYMBOLS = ("HK.00700", "HK.00005", "HK.09999")


class _Clock:
    """Of a server on the second of two days."""

    def now_ms(self) -> int:
        """UTC epoch ms."""
        return BASE_MS + 3 * 86_400_000 + 3_600_000


def looker(root: Path, monotonic: Callable[[], float] = lambda: 0.0) -> Newest:
    return Newest(Root(0, root, root / "_archive", _Clock(), root.name), monotonic)  # type: ignore[arg-type]


def newest(looking: Newest, count: int = 5, symbols: tuple[str, ...] = SYMBOLS) -> Latest:
    return asyncio.run(looking.ask(symbols, count))


def shown(answer: Latest) -> Any:
    tails = {symbol: (tail.rows, orjson.loads(b"[" + tail.json + b"]")) for symbol, tail in answer.tails.items()}
    return tails, answer.coverage, answer.position, answer.day


def stored(root: Path, symbol: str, day: str) -> list[dict[str, Any]]:
    """All ticks of a symbol, in order."""
    path = day_file(root, day)
    with closing(open_read_only(path)) as conn:
        sql = f"SELECT {select_list(conn, NAMES)} FROM ticks WHERE symbol = ? ORDER BY ts_ms, seq IS NULL, seq"
        return [tick_of(row) for row in conn.execute(sql, (symbol,))]


def variants(counter: int, kind: str) -> list[Tick]:
    """A tick, or the same trade told in another way."""
    tick = make_tick(counter, symbol=SYMBOLS[counter % 2])
    coarse = tick.ts_ms - tick.ts_ms % 1000
    return {
        "with sequence": [tick],
        "without": [tick._replace(seq=None)],
        "to the second": [tick._replace(ts_ms=coarse)],
        "without, to the second": [tick._replace(seq=None, ts_ms=coarse)],
        "next day": [tick._replace(ts_ms=tick.ts_ms + 3 * 86_400_000, trading_day=NEXT)],
    }[kind]


KINDS = ("with sequence", "without", "to the second", "without, to the second", "next day")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 12), st.sampled_from(KINDS)),
        st.sampled_from(["close the files", "exchange the file", "a second passes"]),
    ),
    min_size=3,
    max_size=14,
)


# Nothing asks an older day's file for anything before its ticks, so that opening it is what finds it exchanged.
EXCHANGED_BEHIND_ANOTHER: list[Any] = ["exchange the file", (11, "next day"), "close the files", "exchange the file"]


@example(steps=EXCHANGED_BEHIND_ANOTHER, count=1000)
@settings(
    max_examples=examples(25),
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(steps=STEPS, count=st.sampled_from([1, 3, 1000]))
def test_what_is_kept_is_what_a_new_server_reads(tmp_path: Path, steps: list[Any], count: int) -> None:
    root = tmp_path / "HK"
    shutil.rmtree(root, ignore_errors=True)
    now_sec = 0.0
    kept = looker(root, lambda: now_sec)
    writer = DayFileWriter(root)
    writer.write([make_tick(1)], [])
    for step in steps:
        if step == "close the files":
            writer.close()
            writer = DayFileWriter(root)
        elif step == "exchange the file":
            _exchange(root, writer)
            writer = DayFileWriter(root)
            now_sec += latest.KEEP_SEC
        elif step == "a second passes":
            now_sec += latest.KEEP_SEC
        else:
            writer.write(variants(*step), [])
            if step[1] == "next day":  # a new day file is met within KEEP_SEC
                now_sec += latest.KEEP_SEC
        new = looker(root)
        assert shown(newest(kept, count)) == shown(newest(new, count))
        new.close()
    writer.close()
    kept.close()


def _exchange(root: Path, writer: DayFileWriter) -> None:
    """Another file with the same rowids, times and sequences, and other prices."""
    writer.close()
    for path in sorted(root.glob("*.db")):
        other = root / f".{path.name}.other"
        shutil.copy(path, other)
        with closing(sqlite3.connect(other, isolation_level=None)) as conn:
            conn.execute("UPDATE ticks SET price = price + 0.2")
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.replace(other, path)  # noqa: PTH105


def test_newest_ticks_are_those_stored_last_and_fill_up_from_the_day_before(tmp_path: Path) -> None:
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write(make_ticks(1, 20), [])
        later = {"ts_ms": BASE_MS + 3 * 86_400_000, "trading_day": NEXT}
        writer.write([make_tick(n, **later) for n in (1, 2)], [])
        answer = newest(looker(tmp_path), 5)
        wanted = stored(tmp_path, "HK.00700", DAY)[-3:] + stored(tmp_path, "HK.00700", NEXT)
        assert shown(answer)[0]["HK.00700"] == (5, wanted)
        assert answer.lacking == ["HK.00005", "HK.09999"]


def test_rows_are_read_again_only_when_they_are_other_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = latest._newest

    def noted(conn: sqlite3.Connection, columns: str, symbol: str, count: int) -> list[tuple[Any, ...]]:
        read.append(symbol)
        return real(conn, columns, symbol, count)

    monkeypatch.setattr(latest, "_newest", noted)
    looking = looker(tmp_path)
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write([*make_ticks(1, 3), *make_ticks(1, 3, "HK.00005")], [])
        for counter in range(4, 8):
            newest(looking, symbols=("HK.00700",))
            writer.write([make_tick(counter, "HK.00005")], [])
        assert read == ["HK.00700"]
        writer.write([make_tick(4)], [])
        newest(looking, symbols=("HK.00700",))
        assert read == ["HK.00700"] * 2


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latest, "KEPT_BYTES", 5000)
    looking = looker(tmp_path)
    with closing(DayFileWriter(tmp_path)) as writer:
        for number in range(30):
            writer.write(make_ticks(1, 3, f"HK.{number + 1:05d}"), [])
        for number in range(30):
            newest(looking, symbols=(f"HK.{number + 1:05d}",))
        (file,) = looking._files
        assert sum(len(tail.json) for tail in file._tails.values()) == file._kept_bytes <= 5000
        assert len(file._tails) > 1


def test_questions_that_wait_are_answered_together(tmp_path: Path) -> None:
    looking = looker(tmp_path)
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write(make_ticks(1, 3), [])

    async def all_at_once() -> list[Any]:
        asked = [looking.ask(("HK.00700",), count) for count in (1, 2, 3) * 10]
        gone = asyncio.ensure_future(looking.ask(("HK.00700",), 2))
        gone.cancel()
        return await asyncio.gather(*asked)

    assert [answer.tails["HK.00700"].rows for answer in asyncio.run(all_at_once())] == [1, 2, 3] * 10


def test_an_error_is_everybodys_who_asked_for_it(tmp_path: Path) -> None:
    day_file(tmp_path, DAY).write_bytes(b"no database" * 1000)
    looking = looker(tmp_path)

    async def both() -> list[Any]:
        return await asyncio.gather(*(looking.ask(SYMBOLS, 1) for _ in range(2)), return_exceptions=True)

    assert {type(error).__name__ for error in asyncio.run(both())} == {"StoreCorrupt"}
