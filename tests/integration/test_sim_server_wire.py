"""What comes over the wire that should not: each costs only its own connection or request. Also JSON and encryption."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA

from hk_tick_collector.opend_sim import pb, wire
from tests.harness import Simulator, clean_env, ended, wait_until
from tests.integration.sim_client import RawClient

LEADER = "HK.00700"
OPTIONS = ["--always-open", "--rate", "1500", "--symbols", "HK.00700,HK.00005"]

SDK_PROGRAM = """
import sys, time, futu
port, key, encrypt = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "1"
if key:
    futu.SysConfig.set_init_rsa_file(key)
pushed = []
class Handler(futu.TickerHandlerBase):
    def on_recv_rsp(self, rsp_pb):
        pushed.extend(rsp_pb.s2c.tickerList)
        return 0, None
class Once(futu.OpenQuoteContext):
    pass
ctx = futu.OpenQuoteContext("127.0.0.1", port, is_encrypt=encrypt)
ctx.set_handler(Handler())
assert ctx.get_global_state()[0] == 0
assert ctx.subscribe(["HK.00700"], [futu.SubType.TICKER])[0] == 0
ret, pulled = ctx.get_rt_ticker("HK.00700", 1000)
assert ret == 0 and len(pulled) == 1000, pulled
deadline = time.monotonic() + 20
while len(pushed) < 50 and time.monotonic() < deadline:
    time.sleep(0.02)
print("pushed", len(pushed) >= 50)
ctx.close()
"""


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    options = [*OPTIONS, "--max-buffer-bytes", "300000"]
    simulator = Simulator(tmp_path_factory.mktemp("sim"), *options)
    with ended(simulator):
        yield simulator


def keep_alive() -> bytes:
    request = pb.load("KeepAlive").Request()
    request.c2s.time = 1
    return bytes(request.SerializeToString())


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n", "bad magic"),
        (wire.with_bad_sha1(wire.encode_frame(1004, 1, keep_alive())), "wrong SHA-1"),
        (wire.HEADER.pack(b"FT", 3001, 0, 0, 1, 100 * 1024 * 1024, b"", b""), "over the limit"),
        (wire.HEADER.pack(b"FT", 3001, 9, 0, 1, 4, b"", b""), "body format 9"),
    ],
)
def test_a_frame_that_is_none_closes_its_connection_with_a_line(simulator: Simulator, data: bytes, text: str) -> None:
    with RawClient(simulator.port) as bystander, RawClient(simulator.port) as raw:
        bystander.init()
        raw.sock.sendall(data)
        assert raw.closed()
        wait_until(lambda: simulator.find(f"bad_frame .*{text}.* action=disconnect"), "log line")
        request = pb.load("KeepAlive").Request()
        request.c2s.time = 1
        assert bystander.ask(1004, "KeepAlive", request).retType == 0


def test_half_a_frame_and_goodbye_is_no_error(simulator: Simulator) -> None:
    with RawClient(simulator.port) as raw:
        raw.sock.sendall(wire.encode_frame(1004, 1, keep_alive())[:50])
    wait_until(lambda: simulator.ctl("status")["clients"] == 0, "the client to be forgotten")
    assert "Traceback" not in simulator.output


@pytest.mark.parametrize("body", [b"\xff\xff\xff\xff", b"", b"\x0a\x00"])
def test_an_undecodable_body_gets_an_error_answer(simulator: Simulator, body: bytes) -> None:
    with RawClient(simulator.port) as raw:
        raw.init()
        serial = raw.send(3001, body)
        header, data = raw.receive()
        answer = pb.load("Qot_Sub").Response()
        answer.ParseFromString(data)
        assert (header.proto_id, header.serial, answer.retType) == (3001, serial, -1)
        assert "protocol 3001" in answer.retMsg
        assert raw.subscribe([LEADER]).retType == 0


def test_nothing_is_served_before_init_connect(simulator: Simulator) -> None:
    with RawClient(simulator.port) as raw:
        answer = raw.subscribe([LEADER])
        assert (answer.retType, answer.retMsg) == (-1, "InitConnect must be the first request of a connection")
        raw.init()
        assert raw.subscribe([LEADER]).retType == 0


def test_unknown_protocols_are_answered(simulator: Simulator) -> None:
    with RawClient(simulator.port) as raw:
        raw.init()
        for proto_id in (0, 3011, 999_999, 2**32 - 1):
            raw.send(proto_id, b"")
            header, data = raw.receive()
            answer = pb.load("KeepAlive").Response()
            answer.ParseFromString(data)
            assert header.proto_id == proto_id
            assert answer.retMsg == f"protocol {proto_id} is not simulated"


def test_requests_are_bounded(simulator: Simulator) -> None:
    with RawClient(simulator.port) as raw:
        raw.init()
        answer = raw.subscribe([f"HK.{n:05d}" for n in range(6000)])
        assert "6000 stocks in one request, at most 5000" in answer.retMsg
        assert "unknown stock" in raw.subscribe(["HK." + "9" * 5000]).retMsg
        ticker = pb.load("Qot_GetTicker").Request()
        ticker.c2s.security.market = 1
        ticker.c2s.security.code = "00700"
        ticker.c2s.maxRetNum = -5
        assert raw.subscribe([LEADER]).retType == 0
        assert "maxRetNum -5" in raw.ask(3010, "Qot_GetTicker", ticker).retMsg
        ticker.c2s.maxRetNum = 2_000_000
        assert len(raw.ask(3010, "Qot_GetTicker", ticker).s2c.tickerList) == 1000


def test_json_bodies_are_served_and_pushed(simulator: Simulator) -> None:
    with RawClient(simulator.port) as raw:
        init = {
            "c2s": {"clientVer": 300, "clientID": "json", "recvNotify": True, "packetEncAlgo": -1, "pushProtoFmt": 1}
        }
        raw.send(1001, json.dumps(init).encode(), wire.FMT_JSON)
        header, data = raw.receive()
        assert header.fmt == wire.FMT_JSON
        assert json.loads(data)["retType"] == 0
        security = {"market": 1, "code": "00700"}
        sub = {"securityList": [security], "subTypeList": [4], "isSubOrUnSub": True, "isRegOrUnRegPush": True}
        raw.send(3001, json.dumps({"c2s": sub}).encode(), wire.FMT_JSON)
        assert json.loads(raw.receive()[1])["retType"] == 0
        header, data = raw.receive()
        assert (header.proto_id, header.fmt) == (3011, wire.FMT_JSON)
        tick = json.loads(data)["s2c"]["tickerList"][0]
        assert int(tick["sequence"]) > 1 << 32
        raw.send(3001, b"{not json", wire.FMT_JSON)
        while header.proto_id != 3001:
            header, data = raw.receive()
        assert json.loads(data)["retType"] == -1


def test_a_client_that_does_not_read_is_dropped_and_costs_no_memory(simulator: Simulator) -> None:
    with RawClient(simulator.port) as raw, RawClient(simulator.port) as good:
        raw.init()
        good.init()
        assert raw.subscribe([LEADER]).retType == 0
        before = simulator.ctl("status")["clients_overflowed"]
        simulator.ctl("throttle bytes_per_sec=20")
        wait_until(lambda: simulator.ctl("status")["clients_overflowed"] > before, "overflow", timeout_sec=60)
        simulator.ctl("clear")
        simulator.wait_for(r"client_overflow .* limit_bytes=300000 action=disconnect")
        assert good.subscribe([LEADER]).retType == 0


def test_connections_are_bounded(simulator: Simulator) -> None:
    wait_until(lambda: simulator.ctl("status")["clients"] == 0, "earlier clients to be forgotten")
    clients = [RawClient(simulator.port) for _ in range(128)]
    try:
        wait_until(lambda: simulator.ctl("status")["clients"] == 128, "128 clients")
        with RawClient(simulator.port) as one_more:
            assert one_more.closed()
        simulator.wait_for("client_refused clients=128 limit=128")
    finally:
        for client in clients:
            client.sock.close()
    wait_until(lambda: simulator.ctl("status")["clients"] == 0, "all forgotten")


@pytest.fixture(scope="module")
def rsa_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key.pem"
    path.write_bytes(RSA.generate(1024).export_key(pkcs=1))
    return path


def run_sdk(tmp_path: Path, port: int, key: Path, encrypt: bool) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SDK_PROGRAM, str(port), str(key), "1" if encrypt else "0"]
    return subprocess.run(
        command, env=clean_env(tmp_path / "sdk"), capture_output=True, text=True, timeout=60, check=False
    )


def test_the_sdk_speaks_encrypted_and_plain_clients_can_choose_no_encryption(tmp_path: Path, rsa_key: Path) -> None:
    simulator = Simulator(tmp_path / "sim", *OPTIONS, "--rsa-key", rsa_key)
    with ended(simulator):
        for encrypt in (True, False):
            done = run_sdk(tmp_path, simulator.port, rsa_key, encrypt)
            assert "pushed True" in done.stdout, done.stdout + done.stderr + simulator.output
        other = tmp_path / "other.pem"
        other.write_bytes(RSA.generate(1024).export_key(pkcs=1))
        with RawClient(simulator.port) as raw:
            init = pb.load("InitConnect").Request()
            init.c2s.clientVer, init.c2s.clientID, init.c2s.packetEncAlgo = 300, "x", wire.ENC_AES_CBC
            body = init.SerializeToString()
            raw.sock.sendall(wire.encode_frame(1001, 1, body, cipher=wire.RsaCipher(other)))
            assert raw.closed()
        wait_until(lambda: simulator.find("bad_frame .*does not decrypt"), "log line")


def test_an_ftaes_client_is_understood(tmp_path: Path, rsa_key: Path) -> None:
    simulator = Simulator(tmp_path / "sim", *OPTIONS, "--rsa-key", rsa_key)
    rsa = wire.RsaCipher(rsa_key)
    with ended(simulator), RawClient(simulator.port) as raw:
        init = pb.load("InitConnect").Request()
        init.c2s.clientVer, init.c2s.clientID = 300, "old"
        raw.sock.sendall(wire.encode_frame(1001, 1, init.SerializeToString(), cipher=rsa))
        header = wire.decode_header(raw._read(wire.HEADER_BYTES))
        answer = pb.load("InitConnect").Response()
        answer.ParseFromString(wire.open_body(header, raw._read(header.body_bytes), rsa))
        assert not answer.s2c.HasField("aesCBCiv")
        aes = wire.AesCipher(wire.ENC_FTAES_ECB, answer.s2c.connAESKey, "")
        raw.sock.sendall(wire.encode_frame(1004, 2, keep_alive(), cipher=aes))
        header = wire.decode_header(raw._read(wire.HEADER_BYTES))
        alive = pb.load("KeepAlive").Response()
        alive.ParseFromString(wire.open_body(header, raw._read(header.body_bytes), aes))
        assert abs(alive.s2c.time - time.time()) < 5
