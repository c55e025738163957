"""Snapshots on a real redis-server: a stream that holds what the files hold, and the newest one of each series."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
from hk_tick_collector.store.layout import archive_dir
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


def test_large_pictures_go_in_frames_of_bounded_size(tmp_path: Path, server: RedisServer) -> None:
    root = record(tmp_path / "US", [snapshot(SPX, second, large=700_000) for second in range(40)])
    with relaying(root, settings_of(server)):
        wait_for(lambda: is_whole(root, server))
    entries = server.client.xrange(STREAM)
    sizes = [len(fields["snapshots"]) for _, fields in entries]  # type: ignore[union-attr]
    assert max(sizes) < 6 * 1024 * 1024
    assert len(sizes) >= 6


def test_the_data_root_that_has_snapshots_is_followed_once_it_has_some(tmp_path: Path, server: RedisServer) -> None:
    empty, having, second = tmp_path / "ticks", tmp_path / "gex", tmp_path / "gex2"
    for root in (empty, having):
        root.mkdir()
    stop, counts = threading.Event(), RelayCounts(relayed=SNAPSHOT_RELAY)
    roots = [(root, archive_dir(root)) for root in (empty, having, second)]
    sink = RedisSink(settings_of(server), relayed=SNAPSHOT_RELAY)
    thread = threading.Thread(target=relay_snapshots, args=(roots, sink, stop, counts, 0.05))
    thread.start()
    try:
        record(having, [snapshot(SPX, 1)])
        wait_for(lambda: counts.ticks == 1)
        record(second, [snapshot(SPX, 2)])
        record(having, [snapshot(SPX, 3)])
        wait_for(lambda: counts.ticks == 2)
    finally:
        stop.set()
        thread.join(DEADLINE_SEC)
    assert streamed(server) == recorded(having)


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
