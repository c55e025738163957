"""The relay against a real redis-server: what the streams hold equals what the day files hold, whatever happens."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.relay import redis_sink
from hk_tick_collector.relay.counts import RelayCounts
from hk_tick_collector.relay.loop import run
from hk_tick_collector.relay.main import main
from hk_tick_collector.relay.metrics import MetricsServer
from hk_tick_collector.relay.redis_sink import COLUMNS, RedisSink, address_of
from hk_tick_collector.relay.settings import RelaySettings, load_relay_settings
from hk_tick_collector.relay.signals import relay_signals
from hk_tick_collector.relay.sink import SinkAway, SinkMoved
from hk_tick_collector.store.follow import Follower
from hk_tick_collector.store.position import Position
from hk_tick_collector.store.signals import Signal, SignalStore, read_signals
from hk_tick_collector.store.writer import DayFileWriter
from tests.redis_server import RedisServer, free_port
from tests.unit.store_ticks import DAY, query, tick, ticks

BEFORE, AFTER = "20261119", "20261121"
SEQ = COLUMNS.index("seq")
STREAM = f"hk:ticks:{DAY}"
DEADLINE_SEC = 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "HK").mkdir()
    return tmp_path / "HK"


@pytest.fixture
def writer(root: Path) -> Iterator[DayFileWriter]:
    writer = DayFileWriter(root)
    yield writer
    writer.close()


def settings_of(server: RedisServer, **changes: Any) -> RelaySettings:
    return RelaySettings(redis_url=server.url, **changes)


@contextmanager
def relaying(root: Path, settings: RelaySettings, counts: RelayCounts | None = None) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(
        target=run,
        args=(root, RedisSink(settings)),
        kwargs={"stop": stop, "backoff": Backoff(0.02, 0.1), "counts": counts},
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(DEADLINE_SEC)
        assert not thread.is_alive()


def wait_for(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SEC
    while time.monotonic() < deadline:
        if is_true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come true")


def stored(root: Path, day: str = DAY) -> list[object]:
    """The sequences of a day file in its order."""
    return [str(row[0]) for row in query(root / f"{day}.db", "SELECT seq FROM ticks ORDER BY rowid")]


def streamed(server: RedisServer, stream: str = STREAM) -> list[object]:
    """The sequences of a stream in its order; each entry says which one was before it."""
    seqs: list[object] = []
    before = f"{stream.split(':')[2]}-0"
    for entry_id, fields in server.client.xrange(stream):  # type: ignore[union-attr]
        assert fields["after"] == before
        before = entry_id
        seqs += [row[SEQ] for row in json.loads(fields["ticks"])]
    return seqs


def is_whole(root: Path, server: RedisServer, stream: str = STREAM) -> bool:
    return streamed(server, stream) == stored(root)


def test_streams_hold_what_the_day_files_hold(root: Path, writer: DayFileWriter, server: RedisServer) -> None:
    writer.write(ticks(250))
    with relaying(root, settings_of(server)):
        wait_for(lambda: is_whole(root, server))
        writer.write([tick(251, seq=None, symbol="HK.00005"), *ticks(3, first=300)])
        writer.write([tick(1, day=AFTER)])
        writer.write([tick(900), *ticks(2, first=901)])  # of the day before, late
        wait_for(lambda: len(streamed(server)) == 257 and len(streamed(server, f"hk:ticks:{AFTER}")) == 1)
    client = server.client
    assert client.hgetall("hk:ticks:current") == {
        DAY: STREAM, AFTER: f"hk:ticks:{AFTER}", "columns": ",".join(COLUMNS),
    }  # fmt: skip
    entries = client.xrange(STREAM)
    assert entries[-1][0] == f"{DAY}-257"
    rows = query(root / f"{DAY}.db", f"SELECT {','.join(COLUMNS)} FROM ticks ORDER BY rowid")
    given = [[*row[:SEQ], row[SEQ] and str(row[SEQ]), *row[SEQ + 1 :]] for row in rows]
    assert [row for _, fields in entries for row in json.loads(fields["ticks"])] == given
    assert RedisSink(settings_of(server)).where() is not None


def test_redis_killed_and_the_relay_restarted_in_the_middle_lose_and_double_nothing(
    root: Path, writer: DayFileWriter, server: RedisServer
) -> None:
    random.seed(7)
    done = 0
    for round_number in range(6):
        with relaying(root, settings_of(server)):
            for _ in range(8):
                count = random.randint(1, 150)
                writer.write(ticks(count, first=done + 1))
                done += count
            if round_number % 2:
                server.kill()
                writer.write(ticks(40, first=done + 1))
                done += 40
                server.start()
            wait_for(lambda: bool(streamed(server)))
    with relaying(root, settings_of(server)):
        wait_for(lambda: len(streamed(server)) == done)
        assert is_whole(root, server)


@pytest.mark.parametrize("how", ["flushall", "restarted empty", "stream deleted"])
def test_a_redis_that_was_emptied_gets_the_day_again_from_its_start(
    root: Path, writer: DayFileWriter, server: RedisServer, how: str
) -> None:
    writer.write(ticks(150))
    with relaying(root, settings_of(server)):
        wait_for(lambda: is_whole(root, server))
        if how == "flushall":
            server.client.flushall()
        elif how == "stream deleted":
            server.client.delete(STREAM)
        else:
            server.kill()
            server.start(is_empty=True)
        writer.write(ticks(20, first=500))
        wait_for(lambda: is_whole(root, server))


def test_a_replaced_day_file_begins_a_stream_of_its_own(root: Path, writer: DayFileWriter, server: RedisServer) -> None:
    writer.write(ticks(30))
    with relaying(root, settings_of(server)):
        wait_for(lambda: is_whole(root, server))
    writer.close()
    (root / f"{DAY}.db").unlink()
    other = DayFileWriter(root)
    other.write(ticks(40, first=100))
    with relaying(root, settings_of(server)):
        wait_for(lambda: server.client.hget("hk:ticks:current", DAY) == f"{STREAM}:2")
        wait_for(lambda: is_whole(root, server, f"{STREAM}:2"))
    assert len(streamed(server)) == 30
    with relaying(root, settings_of(server)):
        other.write(ticks(5, first=200))
        wait_for(lambda: is_whole(root, server, f"{STREAM}:2"))
    other.close()


def test_a_relay_killed_behind_begin_again_begins_that_day_again(
    root: Path, writer: DayFileWriter, server: RedisServer
) -> None:
    writer.write(ticks(30))
    sink = RedisSink(settings_of(server))
    with relaying(root, settings_of(server)):
        wait_for(lambda: is_whole(root, server))
    sink.where()
    sink.begin_again(DAY)
    assert RedisSink(settings_of(server)).where() == Position.at_start_of(DAY)
    with relaying(root, settings_of(server)):
        wait_for(lambda: is_whole(root, server, f"{STREAM}:2"))


def test_the_last_tick_is_the_newest_one_and_not_the_one_that_came_last(
    root: Path, writer: DayFileWriter, server: RedisServer
) -> None:
    writer.write([tick(50, price=1.5), tick(7, symbol="HK.00005", price=9.0)])
    with relaying(root, settings_of(server)):
        wait_for(lambda: is_whole(root, server))
    writer.write([tick(3, price=2.5)])  # repaired later
    with relaying(root, settings_of(server)):
        wait_for(lambda: is_whole(root, server))
    last = server.client.hgetall("hk:last:HK.00700")
    assert (last["price"], last["symbol"]) == ("1.5", "HK.00700")  # type: ignore[index]
    assert server.client.hget("hk:last:HK.00005", "price") == "9.0"


def test_keys_and_messages_can_be_those_of_another_pipeline(
    root: Path, writer: DayFileWriter, server: RedisServer
) -> None:
    settings = settings_of(
        server, redis_stream="market:{day}", redis_current="market", redis_last="last:{symbol}",
        redis_channel="market_data:futu:trades",
    )  # fmt: skip
    listening = server.client.pubsub(ignore_subscribe_messages=True)
    listening.subscribe("market_data:futu:trades")
    listening.get_message(timeout=1)
    writer.write([tick(9, symbol="HK.00005", price=40.25, volume=400)])
    with relaying(root, settings):
        wait_for(lambda: bool(server.client.exists(f"market:{DAY}")))
    messages = []
    wait_for(lambda: messages.append(listening.get_message(timeout=1)) or messages[-1] is not None)
    message = json.loads(messages[-1]["data"])
    assert message["symbol"] == "HK.00005"
    assert (message["price"], message["size"], message["ts_ms"]) == (40.25, 400, tick(9).ts_ms)
    assert message["timestamp"] == "2026-11-20T01:30:00.009+00:00"
    assert message["seq"] == str(tick(9).seq)
    assert sorted(server.client.keys()) == ["last:HK.00005", "market", f"market:{DAY}"]  # type: ignore[type-var]
    listening.close()


def test_streams_of_old_days_go(root: Path, writer: DayFileWriter, server: RedisServer) -> None:
    with relaying(root, settings_of(server)):
        for day in (BEFORE, DAY, AFTER):
            writer.write([tick(1, day=day)])
            wait_for(lambda day=day: bool(server.client.exists(f"hk:ticks:{day}")))
    assert sorted(server.client.keys("hk:ticks:2*")) == [STREAM, f"hk:ticks:{AFTER}"]  # type: ignore[type-var]
    assert not server.client.hexists("hk:ticks:current", BEFORE)


def break_by(server: RedisServer, how: str) -> None:
    client = server.client
    if how == "no auth":
        client.config_set("requirepass", "secret")
    elif how == "full":
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
    elif how == "no permission":
        client.execute_command("ACL", "SETUSER", "default", "-xadd")
    elif how == "a replica":
        client.replicaof("127.0.0.1", free_port())
    elif how == "cannot save":
        client.config_set("save", "3600 1000000")
        (server.directory / "dump.rdb").mkdir()
        client.bgsave()
        wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    elif how == "without replicas":
        client.config_set("min-replicas-to-write", 1)
    elif how == "stopped":
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
    elif how == "wrong type of the hash":
        client.set("hk:ticks:current", "mine")
    elif how == "wrong type of a stream":
        client.set(STREAM, "mine")
    else:
        client.set("hk:last:HK.00700", "mine")


def mend(server: RedisServer, how: str) -> None:
    if how == "no auth":
        redis.Redis(port=server.port, password="secret").config_set("requirepass", "")
    elif how == "full":
        server.client.config_set("maxmemory", 0)
    elif how == "no permission":
        server.client.execute_command("ACL", "SETUSER", "default", "+@all")
    elif how == "a replica":
        server.client.replicaof("no", "one")
    elif how == "cannot save":
        (server.directory / "dump.rdb").rmdir()
        server.client.config_set("save", "")
    elif how == "without replicas":
        server.client.config_set("min-replicas-to-write", 0)
    elif how == "stopped":
        assert server.process is not None
        server.process.send_signal(signal.SIGCONT)
    else:
        server.client.delete("hk:ticks:current", STREAM, "hk:last:HK.00700")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no auth", "put user and password into REDIS_URL"),
        ("full", "is full (maxmemory)"),
        ("no permission", "who may read and write the relay's keys"),
        ("a replica", "name its primary in REDIS_URL"),
        ("cannot save", "takes no writes because it cannot save to its disk"),
        ("without replicas", "its replicas are away"),
        ("stopped", "does not answer"),
        ("wrong type of the hash", "holds something else under one of the relay's keys"),
        ("wrong type of a stream", "does not name: remove it"),
        ("wrong type of a last tick", "holds something else under one of the relay's keys"),
    ],
)
def test_what_redis_refuses_is_said_once_and_waited_for(
    root: Path,
    writer: DayFileWriter,
    server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    words: str,
) -> None:
    monkeypatch.setattr(redis_sink, "TIMEOUT_SEC", 0.5)
    writer.write(ticks(120))
    break_by(server, how)
    with relaying(root, settings_of(server)):
        wait_for(lambda: words in caplog.text)
        time.sleep(0.4)  # several attempts
        mend(server, how)
        wait_for(lambda: is_whole(root, server))
    assert len([record for record in caplog.records if "relay_waits" in record.message]) == 1
    assert "secret" not in caplog.text


def test_a_password_is_in_no_text(root: Path, server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    url = f"redis://someone:planted@127.0.0.1:{server.port}/0"
    sink = RedisSink(RelaySettings(redis_url=url))
    with pytest.raises(SinkAway, match="does not let the relay in") as caught:
        sink.where()
    assert "planted" not in str(caught.value)
    assert address_of(url) == f"redis://127.0.0.1:{server.port}/0"
    assert "planted" not in repr(RelaySettings(redis_url=url))


def test_a_second_relay_on_the_same_stream_is_found_out(root: Path, writer: DayFileWriter, server: RedisServer) -> None:
    writer.write(ticks(10))
    first, second = (RedisSink(settings_of(server)) for _ in range(2))
    assert first.where() is None
    assert second.where() is None
    with Follower(root) as follower:
        batch = follower.read_behind(Position())
        assert batch is not None
        first.put([batch])
        writer.write(ticks(5, first=50))
        assert first.where() == second.where() == batch.position
        more = follower.read_behind(batch.position)
        assert more is not None
        first.put([more])
        with pytest.raises(SinkMoved, match="two relays must not have the same REDIS_STREAM"):
            second.put([more])
    assert is_whole(root, server)


def test_a_damaged_newest_entry_is_named(server: RedisServer) -> None:
    server.client.hset("hk:ticks:current", DAY, STREAM)
    server.client.xadd(STREAM, {"position": "nonsense"})
    with pytest.raises(SinkAway, match="none of this relay's"):
        RedisSink(settings_of(server)).where()


def test_signals_come_to_their_stream_once(tmp_path: Path, server: RedisServer) -> None:
    hooks = tmp_path / "_hooks"
    store = SignalStore(hooks)
    for n in range(3):
        store.add("ml-trade", "HK.00700", {"symbol": "700", "n": n}, recv_ts_ms=n, cursor="v1~x", sender="k")
    for round_number in range(2):
        stop = threading.Event()
        thread = threading.Thread(target=relay_signals, args=(hooks, RedisSink(settings_of(server)), stop, 0.01))
        thread.start()
        wait_for(lambda count=3 + round_number: server.client.xlen("hk:signals") == count)
        stop.set()
        thread.join(DEADLINE_SEC)
        store.add("ml-trade", "HK.00700", {"symbol": "700", "n": 9}, recv_ts_ms=9, cursor=None, sender="k")
    entries = server.client.xrange("hk:signals")
    assert [entry_id for entry_id, _ in entries] == ["1-0", "2-0", "3-0", "4-0"]  # type: ignore[union-attr]
    assert json.loads(entries[0][1]["payload"]) == read_signals(hooks)[0].payload  # type: ignore[index]
    store.close()


def test_signals_can_have_the_keys_of_another_pipeline(server: RedisServer) -> None:
    settings = settings_of(
        server, redis_signals="trade:ml-bot", redis_signals_last="trade:ml-bot:latest",
        redis_signals_channel="trade:ml-bot:stream",
    )  # fmt: skip
    listening = server.client.pubsub(ignore_subscribe_messages=True)
    listening.subscribe("trade:ml-bot:stream")
    listening.get_message(timeout=1)
    signals = [Signal(n, "ml-trade", n, "v1~x", "HK.00700", {"symbol": "700", "action": "buy", "n": n}) for n in (1, 2)]
    RedisSink(settings).put_signals(signals)
    published: list[Any] = []
    wait_for(lambda: published.append(listening.get_message(timeout=1)) or len(list(filter(None, published))) == 2)
    newest = {
        "symbol": "HK.00700", "action": "buy", "n": 2,
        "signal": {"number": 2, "name": "ml-trade", "recv_ts_ms": 2, "cursor": "v1~x"},
    }  # fmt: skip
    assert json.loads(list(filter(None, published))[1]["data"]) == newest
    assert json.loads(str(server.client.get("trade:ml-bot:latest"))) == newest
    assert server.client.xlen("trade:ml-bot") == 2
    listening.close()


def test_signals_whose_file_begins_anew_are_not_passed_over_in_silence(
    tmp_path: Path, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = tmp_path / "_hooks"
    store = SignalStore(hooks)
    store.add("ml-trade", "HK.00700", {"symbol": "700"}, recv_ts_ms=1, cursor=None, sender="k")
    server.client.xadd("hk:signals", {"number": 7}, id="7-0")
    stop = threading.Event()
    thread = threading.Thread(target=relay_signals, args=(hooks, RedisSink(settings_of(server)), stop, 0.01))
    thread.start()
    wait_for(lambda: "begins anew; remove the stream" in caplog.text)
    server.client.delete("hk:signals")
    wait_for(lambda: bool(server.client.xlen("hk:signals")))
    stop.set()
    thread.join(DEADLINE_SEC)
    store.close()


def metrics_of(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE_SEC) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_metrics_tell_what_was_put_and_that_it_waits(
    root: Path, writer: DayFileWriter, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    writer.write(ticks(250))
    counts = RelayCounts()
    endpoint = MetricsServer(counts, 0, RelayCounts())
    with relaying(root, settings_of(server), counts):
        wait_for(lambda: is_whole(root, server) and counts.ticks == 250)
        metrics = metrics_of(endpoint.port)
        assert metrics["hk_redis_frames_total"] == 3
        assert metrics["hk_redis_newest_tick_timestamp_seconds"] == ticks(250)[-1].ts_ms / 1000
        assert (metrics["hk_redis_waiting"], metrics["hk_redis_waits_total"]) == (0, 0)
        assert metrics["hk_redis_last_put_timestamp_seconds"] > 0
        server.client.config_set("min-replicas-to-write", 1)
        writer.write(ticks(5, first=251))
        wait_for(lambda: metrics_of(endpoint.port)["hk_redis_waiting"] == 1)
        server.client.config_set("min-replicas-to-write", 0)
        wait_for(lambda: metrics_of(endpoint.port)["hk_redis_waiting"] == 0)
    MetricsServer(counts, endpoint.port, RelayCounts()).close()
    assert f"REDIS_METRICS_PORT={endpoint.port}: it cannot be opened" in caplog.text
    endpoint.close()


def test_the_console_script_relays_and_stops_as_asked(
    root: Path, writer: DayFileWriter, server: RedisServer, tmp_path: Path
) -> None:
    writer.write(ticks(150))
    script = Path(sys.executable).with_name("hk-tick-redis")
    environ = {**os.environ, "DATA_ROOT": str(root), "REDIS_URL": server.url}
    for how in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen([script], env=environ, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        wait_for(lambda: is_whole(root, server))
        process.send_signal(how)
        assert process.wait(DEADLINE_SEC) == (0 if how == signal.SIGTERM else -how)
        process.communicate()
        writer.write(ticks(5, first=1000 + how))
    server.client.flushall()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("REDIS_URL", "127.0.0.1:6379", "not an address of Redis"),
        ("REDIS_STREAM", "ticks", "needs {day}"),
        ("REDIS_LAST", "last:{day}", "other words in braces"),
        ("REDIS_URI", "redis://localhost", "did you mean REDIS_URL"),
        ("REDIS_CHANNEL", "a{b", "other words in braces"),
    ],
)
def test_wrong_settings_end_with_78(
    tmp_path: Path,
    key: str,
    value: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(f"{key}={value}\nAPI_PORT=1\n")
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert main(["--env-file", str(env_file)]) == 78
    assert words in capsys.readouterr().err


def test_settings_are_found_in_the_recorders_file(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(f"DATA_ROOT={tmp_path}\nREDIS_LAST=last:{{symbol}}\nFUTU_SYMBOLS=HK.00700\n")
    settings = load_relay_settings(env_file, {})
    assert (settings.data_root, settings.redis_last) == (tmp_path, "last:{symbol}")


def test_a_day_that_was_put_away_before_it_was_relayed_is_named(
    root: Path, writer: DayFileWriter, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    writer.write(ticks(5))
    with relaying(root, settings_of(server)):
        wait_for(lambda: is_whole(root, server))
    assert "relay_day" not in caplog.text
    manifests = root / "_archive" / "manifests"
    manifests.mkdir(parents=True)
    for day in (DAY, "20261123"):  # the first one has its day file still
        (manifests / f"{day}.json").write_text("{}")
    with relaying(root, settings_of(server)):
        wait_for(lambda: "relay_day day=20261123" in caplog.text)
    assert "hk-tickctl restore 20261123" in caplog.text
    assert f"relay_day day={DAY}" not in caplog.text


def test_the_reader_of_the_documents_misses_nothing(root: Path, writer: DayFileWriter, server: RedisServer) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/redis.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert "redis.Redis(" in code
    assert "block=5000" in code
    code = code.replace("redis.Redis(", f"redis.Redis(port={server.port}, ").replace("block=5000", "block=200")
    writer.write(ticks(330))
    with relaying(root, settings_of(server)):
        wait_for(lambda: is_whole(root, server))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout.splitlines()) == 330
