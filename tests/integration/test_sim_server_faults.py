"""Faults on command against a real OpenQuoteContext: each does what it says, and the market goes on underneath."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from futu import RET_ERROR, RET_OK, SubType

from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.opend_sim import control, wire
from hk_tick_collector.opend_sim.simclock import MarketTime
from hk_tick_collector.opend_sim.truth import read_truth
from tests.harness import BIN, Process, Simulator, clean_env, ended, wait_until
from tests.integration.sim_client import RawClient, SdkClient

LEADER = "HK.00700"
OPTIONS = ["--always-open", "--rate", "200", "--symbols", "HK.00700,HK.00005", "--seed", "7"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    simulator = Simulator(tmp_path_factory.mktemp("sim"), *OPTIONS)
    with ended(simulator):
        yield simulator


@pytest.fixture
def simulator(shared: Simulator) -> Iterator[Simulator]:
    yield shared
    shared.ctl("clear")


@pytest.fixture
def client(simulator: Simulator) -> Iterator[SdkClient]:
    with SdkClient(simulator.port) as client:
        client.subscribe(LEADER, first_push=False)
        wait_until(client.ticks, "ticks")
        yield client


def holes(seqs: list[int]) -> int:
    """Ticks that the counters say are missing between the first and the last."""
    counters = sorted({seq & 0xFFFFFFFF for seq in seqs})
    return counters[-1] - counters[0] + 1 - len(counters)


def test_skipped_pushes_leave_a_hole_that_a_pull_fills(simulator: Simulator, client: SdkClient) -> None:
    before = client.seqs()[-1]
    answer = simulator.ctl("skip next=5")
    assert answer == {"ok": True, "fault": "skip", "next": 5}
    wait_until(lambda: holes(client.seqs()) >= 5, "a hole of five pushes")
    wait_until(lambda: simulator.ctl("status")["active"] == {}, "the fault to end by itself")
    ret, pulled = client.ctx.get_rt_ticker(LEADER, 1000)
    assert ret == RET_OK
    assert holes([seq for seq in pulled["sequence"] if seq >= before]) == 0


def test_the_command_line_sends_the_same_commands(simulator: Simulator, tmp_path: Path) -> None:
    def ctl(*words: str) -> tuple[int, dict[str, object]]:
        done = subprocess.run(
            [BIN / "hk-opend-sim", "ctl", "--control", simulator.control, *words],
            env=clean_env(tmp_path), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout)

    assert ctl("skip", "next=5") == (0, {"ok": True, "fault": "skip", "next": 5})
    assert "skip" in simulator.ctl("status")["active"]
    code, answer = ctl("jump", "to=2020-01-01T00:00:00")
    assert (code, answer["ok"]) == (1, False)
    assert ctl("explode")[0] == 2


def test_silence_is_no_pushes_while_answers_go_on(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl("silent")
    ticks = client.wait_no_more_ticks()
    first = client.ctx.get_rt_ticker(LEADER, 1)[1]["sequence"].iloc[0]
    assert first > client.seqs()[-1]
    simulator.ctl("clear kind=silent")
    wait_until(lambda: len(client.ticks()) > ticks, "ticks again")


def test_hanging_answers_nothing_and_keeps_the_connection(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl("hang")
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(client.ctx.get_global_state()[0]))
    asking.start()
    ticks = client.wait_no_more_ticks()
    assert answers == []
    assert simulator.ctl("status")["clients"] == 1
    simulator.ctl("clear")
    asking.join(60)
    assert answers == [RET_OK]
    wait_until(lambda: len(client.ticks()) > ticks, "ticks again")


def test_losing_the_login_is_told_refused_and_undone(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl("logout")
    wait_until(lambda: ("CONN_STATUS", None, {"qot_logined": False, "trd_logined": False}) in client.notices, "notice")
    assert client.ctx.get_global_state()[1]["qot_logined"] is False
    assert client.ctx.get_rt_ticker(LEADER, 5) == (RET_ERROR, "OpenD is not logged in to the quote server")
    assert simulator.ctl("login")["ended"] == ["logout"]
    wait_until(lambda: ("CONN_STATUS", None, {"qot_logined": True, "trd_logined": True}) in client.notices, "notice")
    assert client.ctx.get_global_state()[1]["program_status_type"] == "READY"
    assert client.ctx.get_rt_ticker(LEADER, 5)[0] == RET_OK


def test_a_kick_out_is_told_as_a_gateway_event(simulator: Simulator, client: SdkClient) -> None:
    assert simulator.ctl("kick-out seconds=0.5")["notified"] == 1
    wait_until(lambda: any(n[:2] == ("GTW_EVENT", "KickedOut") for n in client.notices), "KickedOut")
    wait_until(lambda: ("PROGRAM_STATUS", "READY", "") in client.notices, "ready again")


def test_any_gateway_event_can_be_pushed(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl("gtw-event kind=NeedPhoneVerifyCode")
    wait_until(lambda: any(n[:2] == ("GTW_EVENT", "NeedPhoneVerifyCode") for n in client.notices), "event")


def test_falling_to_bmp_is_told_and_forbids_subscribing(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl("right kind=bmp")
    wait_until(lambda: any(n[0] == "QOT_RIGHT" and n[2]["hk_qot_right"] == "BMP" for n in client.notices), "QOT_RIGHT")
    ret, text = client.ctx.subscribe(["HK.00005"], [SubType.TICKER])
    assert ret == RET_ERROR
    assert "BMP" in text
    assert client.ctx.get_user_info()[1]["hk_qot_right"] == "BMP"


def test_the_next_subscriptions_fail(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl("fail-subscribe next=2")
    results = [client.ctx.subscribe(["HK.00005"], [SubType.TICKER])[0] for _ in range(3)]
    assert results == [RET_ERROR, RET_ERROR, RET_OK]


def test_the_quota_can_be_short(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl("quota limit=1")
    ret, text = client.ctx.subscribe(["HK.00005"], [SubType.TICKER])
    assert ret == RET_ERROR
    assert "quota exceeded: 1 more wanted, 0 of 1 left" in text


def test_answers_can_be_delayed(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl("delay-answers ms=1000 next=1")
    begun_sec = time.monotonic()
    assert client.ctx.get_global_state()[0] == RET_OK
    assert time.monotonic() - begun_sec > 1
    assert client.ctx.get_global_state()[0] == RET_OK
    status = simulator.ctl("status")
    assert (status["hits"]["delay-answers"], status["active"]) == (1, {})


def test_silence_over_one_symbol_s_ticks_is_silence_over_nothing_else(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl(f"keep-silent kind=ticks symbol={LEADER}")
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(client.ctx.get_rt_ticker(LEADER, 5)[0]))
    asking.start()
    assert client.ctx.subscribe(["HK.00005"], [SubType.TICKER])[0] == RET_OK
    assert client.ctx.get_rt_ticker("HK.00005", 5)[0] == RET_OK
    assert client.ctx.query_subscription()[0] == RET_OK
    asking.join(60)
    assert answers == [RET_ERROR], "the SDK waits no longer"
    assert simulator.ctl("status")["hits"]["keep-silent"] == 1
    simulator.ctl("clear")
    assert client.ctx.get_rt_ticker(LEADER, 5)[0] == RET_OK


def test_after_losing_the_server_missed_ticks_come_as_bydisconn(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl("lose-server seconds=1")
    wait_until(lambda: [t for t in client.ticks() if t.pushDataType == 2], "BYDISCONN ticks")
    missed = [t for t in client.ticks() if t.pushDataType == 2]
    assert 10 < len(missed) <= 50
    assert any(n[0] == "CONN_STATUS" and n[2]["qot_logined"] is False for n in client.notices)


def test_a_frame_with_a_bad_sha1_costs_only_itself(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl("bad-sha1 next=3")
    wait_until(lambda: simulator.ctl("status")["hits"].get("bad-sha1") == 3, "three bad frames")
    seen = len(client.ticks())
    wait_until(lambda: len(client.ticks()) > seen, "good frames after them")
    assert 3 <= holes(client.seqs()) <= 9


def test_sequences_can_be_renumbered_or_missing(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl("renumber kind=restart")
    wait_until(lambda: [s for s in client.seqs() if s & 0xFFFFFFFF < 50], "counters from 1 again")

    def pulls_renumbered() -> bool:
        ret, pulled = client.ctx.get_rt_ticker(LEADER, 3)
        assert ret == RET_OK
        return all(seq & 0xFFFFFFFF < 1_000 for seq in pulled["sequence"])

    wait_until(pulls_renumbered, "an answer of three ticks numbered anew")
    simulator.ctl("no-sequence")
    wait_until(lambda: not client.ticks()[-1].HasField("sequence"), "a tick without sequence")


def test_drop_closes_every_connection_and_the_sdk_comes_back(simulator: Simulator) -> None:
    with RawClient(simulator.port) as first, RawClient(simulator.port) as second:
        first.init()
        second.init()
        assert simulator.ctl("drop")["connections"] == 2
        assert first.closed()
        assert second.closed()
    with RawClient(simulator.port) as third:
        third.init()


def test_refusing_closes_the_port_and_keeps_connections(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl("refuse seconds=3")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", simulator.port), 5)
    assert client.ctx.get_global_state()[0] == RET_OK

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", simulator.port), 5).close()
        except ConnectionRefusedError:
            return False
        return True

    wait_until(listens, "the port to open again")


def test_a_restart_forgets_subscriptions_and_keeps_the_market(simulator: Simulator) -> None:
    with RawClient(simulator.port) as raw:
        raw.init()
        assert raw.subscribe([LEADER]).retType == 0
        assert simulator.ctl("restart seconds=0.5")["connections"] == 1
        assert raw.closed()

    def connected() -> RawClient | None:
        try:
            return RawClient(simulator.port)
        except ConnectionRefusedError:
            return None

    with wait_until(connected, "the port to open again") as raw:
        raw.init()
        assert simulator.ctl("status")["subscriptions_used"] == 0


def test_a_cut_frame_ends_in_the_middle(simulator: Simulator) -> None:
    with RawClient(simulator.port) as raw:
        raw.init()
        raw.subscribe([LEADER])
        simulator.ctl("cut")
        with pytest.raises(EOFError):
            deque(iter(raw.receive, None))


def test_an_oversize_header_is_sent(simulator: Simulator) -> None:
    with RawClient(simulator.port) as raw:
        raw.init()
        raw.subscribe([LEADER])
        simulator.ctl("oversize")
        sizes = [0]
        while sizes[-1] < wire.MAX_REQUEST_BYTES:
            header = wire.decode_header(raw._read(wire.HEADER_BYTES), max_body_bytes=1 << 30)
            sizes.append(header.body_bytes)
            if header.body_bytes < wire.MAX_REQUEST_BYTES:
                raw._read(header.body_bytes)
        assert sizes[-1] == 100 * 1024 * 1024


def test_a_control_client_may_write_rubbish(simulator: Simulator) -> None:
    host, _, port = simulator.control.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as sock:
        sock.sendall(b"\xff\xfe nonsense\n\nskip percent=400\n" + b"status\n")
        lines = sock.makefile("rb")
        answers = [json.loads(lines.readline()) for _ in range(4)]
        assert [a["ok"] for a in answers] == [False, False, False, True]
        sock.sendall(b"x" * 100_000 + b"\n")
        with contextlib.suppress(ConnectionResetError):
            assert lines.readline() == b""
    assert simulator.ctl("status")["ok"]


def test_faulted_ticks_are_in_the_truth_file_all_the_same(tmp_path: Path) -> None:
    script = tmp_path / "faults.txt"
    script.write_text("0 skip percent=50\n0 unreadable every=3\n0.3 silent seconds=0.3\n")
    simulator = Simulator(tmp_path / "sim", *OPTIONS, "--scenario", script)
    with ended(simulator):
        with SdkClient(simulator.port) as client:
            client.subscribe(LEADER)
            wait_until(lambda: simulator.ctl("status")["hits"].get("unreadable", 0) > 5, "damaged ticks")
            wait_until(lambda: "silent" in simulator.output, "the third step")
        assert simulator.stop() == 0
        counters = [t.seq & 0xFFFFFFFF for t in read_truth(simulator.truth) if t.symbol == LEADER]
        assert counters[-200:] == list(range(counters[-1] - 199, counters[-1] + 1))
        assert re.search(r"fault name=skip percent=50", simulator.output)


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_at_once_with_the_truth_complete(tmp_path: Path, signal_name: str) -> None:
    simulator = Simulator(tmp_path, *OPTIONS)
    with ended(simulator), SdkClient(simulator.port) as client:
        client.subscribe(LEADER, first_push=False)
        wait_until(lambda: len(client.ticks()) > 20, "ticks")
        simulator.ctl("hang")
        simulator.signal(getattr(signal, signal_name))
        assert simulator.wait() == 0  # "hang" has no end of its own
        assert set(client.seqs()) <= {t.seq for t in read_truth(simulator.truth)}
        assert simulator.truth.read_bytes().endswith(b"\n")
        assert "Traceback" not in simulator.output


def test_commands_go_over_a_unix_socket_too(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    command = [BIN / "hk-opend-sim", "run", "--port", "0", "--control-socket", path, "--duration", "20", *OPTIONS]
    process = Process(command, clean_env(tmp_path / "home"))
    with ended(process):
        process.wait_for("opend_sim_ready")
        ctl = [str(BIN / "hk-opend-sim"), "fault", "--control", str(path), "skip", "percent=10"]
        done = subprocess.run(ctl, capture_output=True, text=True, env=os.environ, timeout=30, check=False)
        assert (done.returncode, json.loads(done.stdout)["percent"]) == (0, 10.0)
        assert process.stop() == 0
        assert not path.exists()


def test_the_market_stands_still_jumps_and_goes_on(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    options = ["--symbols", LEADER, "--start", "2026-11-20T15:59:00", "--rate", "200", "--clock-file", clock]
    simulator = Simulator(tmp_path / "sim", *options)
    market = MarketTime(clock)
    with ended(simulator):
        stood_ms = simulator.ctl("stand")["market_time_ms"]
        status = simulator.ctl("status")
        assert status["market_time_ms"] == stood_ms == market.now_ms()
        assert simulator.ctl("jump to=2026-11-23T09:29:59.500")["market_time_ms"] == market.now_ms()
        assert hk_date(market.now_ms()) == "20261123"
        newest_ms = max(tick.ts_ms for tick in read_truth(simulator.truth))
        assert newest_ms - stood_ms > 50_000, "what traded until then is made when the answer comes"
        over = simulator.ctl("status")["ticks_arrived"]
        simulator.ctl("run")
        wait_until(lambda: simulator.ctl("status")["ticks_arrived"] > over + 100, "ticks of the next trading day")
        back = control.call(simulator.control, "jump to=2026-11-23T09:00:00")
        assert back == {"ok": False, "error": "jump to=2026-11-23T09:00:00: market time never goes back"}
    assert {hk_date(tick.ts_ms) for tick in read_truth(simulator.truth)} >= {"20261120", "20261123"}
