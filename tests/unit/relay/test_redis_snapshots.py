"""Snapshots on a real redis-server: a stream that holds what the files hold, and the newest one of each series."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.archive.snapshots import SnapshotDays
from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.relay.counts import RelayCounts
from hk_tick_collector.relay.kinds import SNAPSHOT_RELAY
from hk_tick_collector.relay.loop import run
from hk_tick_collector.relay.redis_sink import RedisSink
from hk_tick_collector.relay.settings import RelaySettings
from hk_tick_collector.relay.snapshots import relay_snapshots
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import archive_dir, snapshot_file
from hk_tick_collector.store.snapshot_follow import SnapshotRows
from hk_tick_collector.store.snapshot_writer import SnapshotWriter
from tests.redis_server import RedisServer
from tests.snapshots import DAY, FLOW, NDX, OPEN_SEC, SPX, filled, record, snapshot
from tests.unit.relay.test_redis_relay import DEADLINE_SEC, settings_of, wait_for

STREAM = f"hk:snapshots:{DAY}"
COLUMNS = SNAPSHOT_RELAY.columns


@contextmanager
def relaying(root: Path, settings: RelaySettings, counts: RelayCounts | None = None) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(
        target=run,
        args=(root, RedisSink(settings, relayed=SNAPSHOT_RELAY)),
        kwargs={"stop": stop, "backoff": Backoff(0.02, 0.1), "counts": counts, "relayed": SNAPSHOT_RELAY},
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(DEADLINE_SEC)
        assert not thread.is_alive()


def recorded(root: Path) -> list[dict[str, Any]]:
    """What the files hold, in their order."""
    rows: list[dict[str, Any]] = []
    follower = SnapshotRows(root, was_end=SnapshotDays(root, archive_dir(root)).was_end)
    position = None
    try:
        end = follower.end()
        position = type(end)(kind=end.kind)
        while batch := follower.read_behind(position):
            rows += [dict(zip(COLUMNS, row[1:], strict=True)) for row in batch.rows]
            position = batch.position
    finally:
        follower.close()
    return rows


def streamed(server: RedisServer, stream: str = STREAM) -> list[dict[str, Any]]:
    """What a stream holds; each entry says which one was before it."""
    rows: list[dict[str, Any]] = []
    before = f"{stream.split(':')[2]}-0"
    for entry_id, fields in server.client.xrange(stream):  # type: ignore[union-attr]
        assert fields["after"] == before
        before = entry_id
        rows += [dict(zip(COLUMNS, row, strict=True)) for row in json.loads(fields["snapshots"])]
        assert entry_id == f"{DAY}-{rows[-1]['snapshot_no']}"
    return rows


def is_whole(root: Path, server: RedisServer) -> bool:
    return bool(server.client.exists(STREAM)) and streamed(server) == recorded(root)


def test_the_stream_holds_what_the_file_holds_and_each_series_its_newest(tmp_path: Path, server: RedisServer) -> None:
    seconds = [snapshot(series, second) for second in range(300) for series in (SPX, FLOW, NDX)]
    root = record(tmp_path / "US", seconds)
    counts = RelayCounts(relayed=SNAPSHOT_RELAY)
    channel = server.client.pubsub()
    channel.subscribe("hk:gex:US.NDX")
    with relaying(root, settings_of(server, redis_snapshots_channel="hk:gex:{symbol}"), counts):
        wait_for(lambda: is_whole(root, server))
        wait_for(lambda: counts.ticks == 900)
    assert counts.newest_tick_sec == OPEN_SEC + 299
    current = server.client.hgetall("hk:snapshots:current")
    assert current == {DAY: STREAM, "columns": ",".join(COLUMNS)}
    newest = server.client.hgetall("hk:snapshot:US.SPX:classic:gex_full")
    assert newest["ts_sec"] == str(OPEN_SEC + 299)  # type: ignore[index]
    assert json.loads(newest["body"])["timestamp"] == OPEN_SEC + 299  # type: ignore[index]
    assert "zero_gamma" not in newest  # type: ignore[operator]
    assert server.client.keys("hk:snapshot:*") != []
    assert len(server.client.keys("hk:snapshot:*")) == 3  # type: ignore[arg-type]
    heard = [
        message for _ in range(302) if (message := channel.get_message(timeout=1)) and message["type"] == "message"
    ]
    assert len(heard) == 300
    assert json.loads(heard[-1]["data"])["symbol"] == "US.NDX"
    channel.close()


def test_a_copy_of_the_day_comes_later_and_does_not_go_back(tmp_path: Path, server: RedisServer) -> None:
    root = record(tmp_path / "US", [snapshot(SPX, 5), snapshot(SPX, 9)])
    settings = settings_of(server)
    with relaying(root, settings):
        wait_for(lambda: is_whole(root, server))
    record(root, filled(SPX, range(8)))
    with relaying(root, settings):  # another relay goes on behind what Redis holds
        wait_for(lambda: is_whole(root, server))
    assert len(streamed(server)) > 8
    newest = server.client.hgetall("hk:snapshot:US.SPX:classic:gex_full")
    assert newest["ts_sec"] == str(OPEN_SEC + 9)  # type: ignore[index]


def test_redis_away_and_emptied_costs_nothing(tmp_path: Path, server: RedisServer) -> None:
    root = record(tmp_path / "US", [snapshot(SPX, second) for second in range(50)])
    with relaying(root, settings_of(server)):
        wait_for(lambda: is_whole(root, server))
        server.client.flushall()
        record(root, [snapshot(SPX, second) for second in range(50, 60)])
        wait_for(lambda: is_whole(root, server))
    assert len(streamed(server)) == 60


def test_large_snapshots_go_in_frames_of_bounded_size(tmp_path: Path, server: RedisServer) -> None:
    root = record(tmp_path / "US", [snapshot(SPX, second, large=700_000) for second in range(40)])
    with relaying(root, settings_of(server)):
        wait_for(lambda: is_whole(root, server))
    entries = server.client.xrange(STREAM)
    sizes = [len(fields["snapshots"]) for _, fields in entries]  # type: ignore[union-attr]
    assert max(sizes) < 6 * 1024 * 1024
    assert len(sizes) >= 6


@contextmanager
def relaying_those_that_have(roots: Sequence[Path], settings: RelaySettings, counts: RelayCounts) -> Iterator[None]:
    stop = threading.Event()
    places = [(root, archive_dir(root)) for root in roots]
    make_sink = partial(RedisSink, settings, relayed=SNAPSHOT_RELAY)
    thread = threading.Thread(target=relay_snapshots, args=(places, make_sink, stop, counts, 0.05))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(DEADLINE_SEC)
        assert not thread.is_alive()


def in_use(server: RedisServer) -> list[dict[str, Any]]:
    """What the day's stream in use holds; each entry says which one was before it."""
    stream = server.client.hget("hk:snapshots:current", DAY)
    rows: list[dict[str, Any]] = []
    before = f"{DAY}-0"
    for entry_id, fields in server.client.xrange(stream) if stream else []:  # type: ignore[union-attr,arg-type]
        assert fields["after"] == before
        before = entry_id
        rows += [dict(zip(COLUMNS, row, strict=True)) for row in json.loads(fields["snapshots"])]
    return rows


def told(rows: Iterable[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Which snapshots these are, by all that makes two of them two."""
    return Counter((row["symbol"], row["package"], row["category"], row["ts_sec"], row["body"]) for row in rows)


def each_once(roots: Iterable[Path]) -> Counter[tuple[Any, ...]]:
    return Counter(dict.fromkeys(told(row for root in roots for row in recorded(root)), 1))


def test_snapshots_of_several_data_roots_are_one_stream_with_each_snapshot_once(
    tmp_path: Path, server: RedisServer
) -> None:
    of_ticks, first, second = roots = [tmp_path / name for name in ("ticks", "gex", "gex2")]
    of_ticks.mkdir()
    second.mkdir()
    record(first, [snapshot(SPX, moment) for moment in range(5)])
    counts = RelayCounts(relayed=SNAPSHOT_RELAY)
    with relaying_those_that_have(roots, settings_of(server), counts):
        wait_for(lambda: told(in_use(server)) == each_once([first]))
        # The other one has the same and more, and tells one second otherwise.
        record(second, [*(snapshot(SPX, moment) for moment in range(1, 7)), snapshot(NDX, 3)])
        record(second, [snapshot(SPX, 2, says="otherwise")])
        wait_for(lambda: told(in_use(server)) == each_once([first, second]))
        record(first, [snapshot(SPX, moment) for moment in range(5, 9)])
        record(second, [snapshot(SPX, moment) for moment in range(7, 10)])
        wait_for(lambda: told(in_use(server)) == each_once([first, second]))
    assert len(in_use(server)) == 12
    with relaying_those_that_have(roots, settings_of(server), counts):  # another relay goes on where Redis stands
        record(first, [snapshot(FLOW, 1)])
        wait_for(lambda: told(in_use(server)) == each_once([first, second]))
    assert server.client.hget("hk:snapshots:current", DAY) == f"{STREAM}:2", (
        "begun again once, with the other data root"
    )
    newest = server.client.hgetall("hk:snapshot:US.SPX:classic:gex_full")
    assert newest["ts_sec"] == str(OPEN_SEC + 9)  # type: ignore[index]


def test_large_snapshots_of_several_data_roots_share_the_size_of_a_frame(tmp_path: Path, server: RedisServer) -> None:
    roots = [tmp_path / name for name in ("gex", "gex2", "gex3")]
    for number, root in enumerate(roots):
        record(root, [snapshot(SPX, 3 * second + number, large=700_000) for second in range(8)])
    with relaying_those_that_have(roots, settings_of(server), RelayCounts(relayed=SNAPSHOT_RELAY)):
        wait_for(lambda: len(in_use(server)) == 24)
    sizes = [len(fields["snapshots"]) for _, fields in server.client.xrange(STREAM)]  # type: ignore[union-attr]
    assert max(sizes) < 7 * 1024 * 1024, "4 MB, and the snapshot of each that passes its share"


def test_a_data_root_whose_snapshots_cannot_be_read_holds_up_no_other(
    tmp_path: Path, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    first, broken = tmp_path / "gex", tmp_path / "gex2"
    record(first, [snapshot(SPX, 1)])
    record(broken, [snapshot(SPX, 1)])
    file = snapshot_file(broken, DAY)
    whole = file.read_bytes()
    file.write_bytes(b"no database" * 1000)
    with relaying_those_that_have([first, broken], settings_of(server), RelayCounts(relayed=SNAPSHOT_RELAY)):
        wait_for(lambda: len(in_use(server)) == 1)
        record(first, [snapshot(SPX, 2)])
        wait_for(lambda: len(in_use(server)) == 2)
        wait_for(lambda: "relay_roots unreadable=1" in caplog.text)
        file.with_name("whole").write_bytes(whole)
        file.with_name("whole").replace(file)
        record(broken, [snapshot(NDX, 4)])
        wait_for(lambda: told(in_use(server)) == each_once([first, broken]))


def test_a_data_root_that_cannot_be_read_at_the_start_does_not_begin_the_day_again(
    tmp_path: Path, server: RedisServer
) -> None:
    roots = [record(tmp_path / name, [snapshot(SPX, second)]) for second, name in enumerate(("gex", "gex2"))]
    settings, counts = settings_of(server), RelayCounts(relayed=SNAPSHOT_RELAY)
    with relaying_those_that_have(roots, settings, counts):
        wait_for(lambda: told(in_use(server)) == each_once(roots))
    away = snapshot_file(roots[1], DAY).parent
    away.rename(tmp_path / "away")
    away.touch()  # cannot be listed, whoever asks
    record(roots[0], [snapshot(SPX, 5)])
    with relaying_those_that_have(roots, settings, counts):
        wait_for(lambda: len(in_use(server)) == 3)
        away.unlink()
        (tmp_path / "away").rename(away)
        record(roots[1], [snapshot(SPX, 6)])
        wait_for(lambda: told(in_use(server)) == each_once(roots))
    assert server.client.hget("hk:snapshots:current", DAY) == STREAM


def test_a_relay_of_several_data_roots_killed_in_the_middle_gives_each_snapshot_once(
    tmp_path: Path, server: RedisServer
) -> None:
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        record(root, [snapshot(SPX, 0)])
    writers = [SnapshotWriter(root, SqliteOptions(), lambda: (OPEN_SEC + 90_000) * 1000) for root in roots]
    command = [sys.executable, "-m", "hk_tick_collector.relay.main"]
    env = {
        **os.environ, "DATA_ROOTS": ",".join(map(str, roots)), "REDIS_URL": server.url, "HOME": str(tmp_path),
        "HOOKS_DIR": "",
    }  # fmt: skip
    chance = random.Random(7)
    process = None
    try:
        for turn in range(3):
            process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for second in range(turn * 60 + 1, turn * 60 + 61):
                for writer in chance.sample(writers, chance.choice((1, 2, 2))):
                    writer.write([snapshot(SPX, second, large=2000)], [])
            wait_for(lambda: len(in_use(server)) > turn * 60 + 20)  # noqa: B023
            process.kill()
            process.wait(DEADLINE_SEC)
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for(lambda: told(in_use(server)) == each_once(roots))
    finally:
        for writer in writers:
            writer.close()
        if process is not None:
            process.kill()
            process.wait()
    assert len(in_use(server)) == 181


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_the_console_script_killed_in_the_middle_loses_and_doubles_nothing(
    tmp_path: Path, server: RedisServer, blow: signal.Signals
) -> None:
    root = record(tmp_path / "US", [snapshot(SPX, 0)])
    command = [sys.executable, "-m", "hk_tick_collector.relay.main"]
    env = {**os.environ, "DATA_ROOT": str(root), "REDIS_URL": server.url, "HOME": str(tmp_path), "HOOKS_DIR": ""}
    writer = SnapshotWriter(root, SqliteOptions(), lambda: (OPEN_SEC + 90_000) * 1000)
    process = None
    try:
        for turn in range(4):
            process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for second in range(turn * 100 + 1, turn * 100 + 101):
                writer.write([snapshot(SPX, second, large=2000)], [])
            seen = turn * 100 + 20
            wait_for(lambda: server.client.exists(STREAM) and len(streamed(server)) >= seen)  # noqa: B023
            process.send_signal(blow)
            process.wait(DEADLINE_SEC)
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for(lambda: is_whole(root, server))
    finally:
        writer.close()
        if process is not None:
            process.kill()
            process.wait()
    assert len(streamed(server)) == 401
