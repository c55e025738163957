"""Several data roots in one stream, on a real redis-server: each trade once, through kills, shards and twins alike."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.union import UnionCatalog
from hk_tick_collector.relay.redis_sink import COLUMNS
from hk_tick_collector.relay.settings import load_relay_settings
from hk_tick_collector.store.data_root import claim
from hk_tick_collector.store.layout import archive_dir
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import Process, wait_until
from tests.redis_server import RedisServer
from tests.unit.store_ticks import DAY, OPEN_MS, query, tick, ticks

STREAM = f"hk:ticks:{DAY}"
SYMBOLS = ("HK.00700", "HK.00005")
NAMES = ("symbol", "seq", "ts_ms", "price", "volume")
NEXT_DAY, NEXT_MS = "20261123", OPEN_MS + 3 * 86_400_000
DEADLINE_SEC = 60


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    roots_made = [tmp_path / "one", tmp_path / "two"]
    for root in roots_made:
        root.mkdir()
        claim(root, "HK")
    return roots_made


@pytest.fixture
def writers(roots: list[Path]) -> Iterator[list[DayFileWriter]]:
    made = [DayFileWriter(root) for root in roots]
    yield made
    for writer in made:
        writer.close()


class Relay(Process):
    """``hk-tick-redis`` over data roots."""

    def __init__(self, server: RedisServer, roots: Sequence[Path]) -> None:
        script = Path(sys.executable).with_name("hk-tick-redis")
        listed = ",".join(map(str, roots))
        super().__init__([script], {**os.environ, "DATA_ROOTS": listed, "REDIS_URL": server.url})

    def kill(self) -> None:
        self.proc.kill()
        self.wait(DEADLINE_SEC)


@contextmanager
def relaying(server: RedisServer, roots: Sequence[Path]) -> Iterator[Relay]:
    relay = Relay(server, roots)
    try:
        yield relay
        relay.proc.terminate()
        assert relay.wait(DEADLINE_SEC) == 0, relay.output
    finally:
        relay.end()


def streamed(server: RedisServer, stream: str = STREAM) -> Counter[tuple[Any, ...]]:
    """The trades of a stream; each entry says which one was before it."""
    streamed_rows: Counter[tuple[Any, ...]] = Counter()
    before = f"{DAY}-0"
    for entry_id, fields in server.client.xrange(stream):  # type: ignore[union-attr]
        assert fields["after"] == before
        before = entry_id
        for row in json.loads(fields["ticks"]):
            told = dict(zip(COLUMNS, row, strict=True))
            streamed_rows[tuple(told[name] for name in NAMES)] += 1
    return streamed_rows


def joined(roots: Sequence[Path]) -> Counter[tuple[Any, ...]]:
    """What the joined day says."""
    day = UnionCatalog([Catalog(root, archive_dir(root)) for root in roots]).day(DAY)
    table = day.ticks(SYMBOLS, NAMES)
    times = table.column("ts_ms").cast("int64").to_pylist()
    rows = zip(table.to_pylist(), times, strict=True)
    return Counter(
        (row["symbol"], None if row["seq"] is None else str(row["seq"]), ts_ms, row["price"], row["volume"])
        for row, ts_ms in rows
    )


def wait_until_equal(server: RedisServer, roots: Sequence[Path], stream: str = STREAM) -> None:
    wanted = joined(roots)
    wait_until(lambda: streamed(server, stream) == wanted, "the stream holds the joined day")


def test_twins_that_lose_ticks_and_a_relay_killed_in_the_middle_give_each_trade_once(
    roots: list[Path], writers: list[DayFileWriter], server: RedisServer
) -> None:
    chance = random.Random(11)
    done = dict.fromkeys(SYMBOLS, 0)
    late: list[tuple[DayFileWriter, list[Any]]] = []
    for _ in range(5):
        relay = Relay(server, roots)
        try:
            relay.wait_for("relay_started")
            for _ in range(6):
                symbol = chance.choice(SYMBOLS)
                traded = ticks(chance.randint(1, 120), first=done[symbol] + 1, symbol=symbol)
                done[symbol] += len(traded)
                for writer in chance.sample(writers, 2):
                    kept = [row for row in traded if chance.random() < 0.9]
                    writer.write(kept)
                    late.append((writer, [row for row in traded if row not in kept]))
            wait_until(lambda: server.client.exists(STREAM) == 1, "the stream begins")
            relay.kill()
        finally:
            relay.end()
    for writer, repaired in late[::2]:
        writer.write(repaired)
    with relaying(server, roots) as relay:
        wait_until_equal(server, roots)
    streamed_rows = streamed(server)
    assert set(streamed_rows.values()) == {1}
    assert len(streamed_rows) > 0.9 * sum(done.values())


def test_the_id_counts_the_rows_read_of_the_day(
    roots: list[Path], writers: list[DayFileWriter], server: RedisServer
) -> None:
    with relaying(server, roots):
        for writer in writers:
            writer.write(ticks(40))
        wait_until_equal(server, roots)
        writers[1].write([tick(100)])
        wait_until_equal(server, roots)
    stored = sum(int(str(query(root / f"{DAY}.db", "SELECT count(*) FROM ticks")[0][0])) for root in roots)
    assert server.client.xrevrange(STREAM, count=1)[0][0] == f"{DAY}-{stored}"  # type: ignore[index]
    assert stored == 81


def test_shards_are_one_stream(roots: list[Path], writers: list[DayFileWriter], server: RedisServer) -> None:
    for writer, symbol in zip(writers, SYMBOLS, strict=True):
        writer.write(ticks(250, symbol=symbol))
    with relaying(server, roots):
        wait_until_equal(server, roots)
        writers[0].write(ticks(3, first=300, symbol=SYMBOLS[0]))
        writers[1].write([tick(301, seq=None, symbol=SYMBOLS[1])])
        wait_until_equal(server, roots)
    assert sum(streamed(server).values()) == 504
    assert {server.client.hget(f"hk:last:{symbol}", "symbol") for symbol in SYMBOLS} == set(SYMBOLS)


@pytest.mark.parametrize("first", ["one root", "two roots"])
def test_another_number_of_data_roots_begins_the_day_again(
    roots: list[Path], writers: list[DayFileWriter], server: RedisServer, first: str
) -> None:
    for writer, symbol in zip(writers, SYMBOLS, strict=True):
        writer.write(ticks(30, symbol=symbol))
    before, after = (roots[:1], roots) if first == "one root" else (roots, roots[:1])
    with relaying(server, before) as relay:
        wait_until_equal(server, before)
    with relaying(server, after) as relay:
        wait_until_equal(server, after, f"{STREAM}:2")
        assert "the day begins again" in relay.output
    with relaying(server, after) as relay:
        writers[0].write(ticks(5, first=100, symbol=SYMBOLS[0]))
        wait_until_equal(server, after, f"{STREAM}:2")
    assert server.client.hget("hk:ticks:current", DAY) == f"{STREAM}:2"


def test_a_file_replaced_in_one_of_them_begins_the_day_again_with_all(
    roots: list[Path], writers: list[DayFileWriter], server: RedisServer
) -> None:
    for writer in writers:
        writer.write(ticks(30))
    writers[1].write(ticks(10, symbol=SYMBOLS[1]))
    with relaying(server, roots):
        wait_until_equal(server, roots)
    writers[0].close()
    (roots[0] / f"{DAY}.db").unlink()
    other = DayFileWriter(roots[0])
    other.write(ticks(45, first=20))
    with relaying(server, roots):
        wait_until_equal(server, roots, f"{STREAM}:2")
    assert set(streamed(server, f"{STREAM}:2").values()) == {1}
    other.close()


def test_a_file_replaced_on_a_day_that_another_one_has_left_takes_nothing_out_of_the_stream(
    roots: list[Path], writers: list[DayFileWriter], server: RedisServer
) -> None:
    for writer in writers:
        writer.write(ticks(30))
    writers[1].write(ticks(10, symbol=SYMBOLS[1]))
    with relaying(server, roots):
        wait_until_equal(server, roots)
    wanted = streamed(server)
    for writer in writers:
        writer.close()
    next_day = DayFileWriter(roots[1])
    next_day.write([tick(1, day=NEXT_DAY, ts_ms=NEXT_MS)])
    with relaying(server, roots):
        wait_until(lambda: server.client.exists(f"hk:ticks:{NEXT_DAY}") == 1, "the second one goes on")
    (roots[0] / f"{DAY}.db").unlink()
    salvaged = DayFileWriter(roots[0])
    salvaged.write(ticks(25, first=6))
    with relaying(server, roots) as relay:
        relay.wait_for("relay_day day=.*another data root has left the day")
        next_day.write([tick(2, day=NEXT_DAY, ts_ms=NEXT_MS + 1)])
        wait_until(lambda: server.client.xlen(f"hk:ticks:{NEXT_DAY}") == 2, "the newest day goes on")
    stream = server.client.hget("hk:ticks:current", DAY)
    assert streamed(server, str(stream)) == wanted
    salvaged.close()
    next_day.close()


def test_data_roots_that_contradict_each_other_are_told_in_the_stream(
    roots: list[Path], writers: list[DayFileWriter], server: RedisServer
) -> None:
    writers[0].write(ticks(80))
    with relaying(server, roots) as relay:
        wait_until(lambda: sum(streamed(server).values()) == 80, "the first one's")
        writers[1].write(ticks(80, price=1.0))
        writers[0].write(ticks(20, first=81))
        wait_until(lambda: sum(streamed(server).values()) == 100, "the first one alone is followed")
        relay.wait_for("relay_roots type=contradiction .*symbol=HK.00700 kept=0 left_out=1")
        writers[0].write([tick(101)])
        wait_until(lambda: sum(streamed(server).values()) == 101, "the frame behind it")
    told = [json.loads(fields["told"]) for _, fields in server.client.xrange(STREAM) if "told" in fields]  # type: ignore[union-attr]
    assert [
        (contradiction["symbol"], contradiction["kept"], contradiction["left_out"]) for contradiction in told[0]
    ] == [("HK.00700", 0, 1)]
    assert {trade[3] for trade in streamed(server)} == {612.5}


def test_data_roots_of_another_market_are_left_to_a_relay_of_their_own(tmp_path: Path, roots: list[Path]) -> None:
    american = tmp_path / "us"
    american.mkdir()
    claim(american, "US")
    listed = ",".join(map(str, [american, *roots]))
    chosen = load_relay_settings(None, {"DATA_ROOTS": listed, "DATA_ROOT": str(roots[1])}).roots
    assert [root for root, _ in chosen] == roots
    chosen = load_relay_settings(None, {"DATA_ROOTS": listed, "DATA_ROOT": str(tmp_path / "elsewhere")}).roots
    assert [root for root, _ in chosen] == [american]
    checked = subprocess.run(
        [Path(sys.executable).with_name("hk-tick-redis"), "--check-config"], capture_output=True, text=True, timeout=60,
        env={**os.environ, "DATA_ROOTS": listed, "DATA_ROOT": str(roots[0])}, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert f"{roots[0]}, {roots[1]} ({american} hold another market" in checked.stdout.replace("\n", " ")
