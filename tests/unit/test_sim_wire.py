"""The wire codec against the SDK's own: what one writes the other reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA
from futu.common import conn_mng, sys_config, utils
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.opend_sim import pb, wire

KEY = "0123456789ABCDEF"
IV = "FEDCBA9876543210"


@pytest.fixture(scope="module")
def rsa_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key.pem"
    path.write_bytes(RSA.generate(1024).export_key(pkcs=1))
    return path


def test_the_sdk_reads_our_frame() -> None:
    keep_alive = pb.load("KeepAlive").Response()
    keep_alive.retType = 0
    keep_alive.s2c.time = 1_800_000_000
    frame = wire.encode_frame(1004, 77, keep_alive.SerializeToString())
    parsed = utils.parse_rsp(bytearray(frame), 0, False)
    assert parsed.err is utils.ParseRspErr.OK
    assert parsed.total_len == len(frame)
    assert (parsed.head_dict["proto_id"], parsed.head_dict["serial_no"]) == (1004, 77)
    assert parsed.rsp_pb.s2c.time == 1_800_000_000


def test_we_read_the_sdks_frame() -> None:
    request = pb.load("KeepAlive").Request()
    request.c2s.time = 5
    ret, _msg, data, _proto, serial = utils.pack_pb_req(request, 1004, 0)
    assert ret == 0
    header = wire.decode_header(data[: wire.HEADER_BYTES])
    body = wire.open_body(header, data[wire.HEADER_BYTES :])
    assert (header.proto_id, header.fmt, header.serial) == (1004, wire.FMT_PROTOBUF, serial)
    assert body == request.SerializeToString()


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=300), st.sampled_from([0, 1]))
def test_a_frame_comes_back_as_it_went(proto_id: int, serial: int, body: bytes, fmt: int) -> None:
    frame = wire.encode_frame(proto_id, serial, body, fmt)
    header = wire.decode_header(frame[: wire.HEADER_BYTES])
    assert header[:4] == (proto_id, fmt, serial, len(body))
    assert wire.open_body(header, frame[wire.HEADER_BYTES :]) == body


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda f: b"GE" + f[2:], "magic"),
        (lambda f: f[:6] + b"\x07" + f[7:], "body format 7"),
        (lambda f: f[:12] + (wire.MAX_REQUEST_BYTES + 1).to_bytes(4, "little") + f[16:], "over the limit"),
    ],
)
def test_a_header_that_is_none_is_refused(damage, text: str) -> None:  # type: ignore[no-untyped-def]
    frame = wire.encode_frame(1004, 1, b"body")
    with pytest.raises(wire.FrameError, match=text):
        wire.decode_header(damage(frame)[: wire.HEADER_BYTES])


def test_a_wrong_sha1_is_refused_and_can_be_made() -> None:
    frame = wire.with_bad_sha1(wire.encode_frame(1004, 1, b"body"))
    header = wire.decode_header(frame[: wire.HEADER_BYTES])
    assert frame[wire.HEADER_BYTES :] == b"body"
    with pytest.raises(wire.FrameError, match="SHA-1"):
        wire.open_body(header, b"body")


@given(st.binary(min_size=1, max_size=100))
def test_aes_cbc_is_the_sdks(plain: bytes) -> None:
    conn = {"conn_id": 41, "conn_key": KEY, "conn_iv": IV, "is_encrypt": True}
    conn_mng.FutuConnMng.add_conn(conn)
    ours = wire.AesCipher(wire.ENC_AES_CBC, KEY, IV)
    assert conn_mng.FutuConnMng.decrypt_conn_data(41, ours.encrypt(plain)) == (0, "", plain)
    _ret, _msg, theirs = conn_mng.FutuConnMng.encrypt_conn_data(41, plain)
    assert ours.decrypt(theirs) == plain


@given(st.binary(min_size=1, max_size=100))
def test_ftaes_ecb_is_the_sdks(plain: bytes) -> None:
    conn_mng.FutuConnMng.add_conn({"conn_id": 42, "conn_key": KEY, "conn_iv": None, "is_encrypt": True})
    ours = wire.AesCipher(wire.ENC_FTAES_ECB, KEY, "")
    _ret, _msg, theirs = conn_mng.FutuConnMng.encrypt_conn_data(42, plain)
    assert ours.decrypt(theirs) == plain
    assert ours.encrypt(plain) == theirs


@given(st.binary(max_size=100))
def test_aes_ecb_comes_back(plain: bytes) -> None:
    cipher = wire.AesCipher(wire.ENC_AES_ECB, KEY, "")
    assert cipher.decrypt(cipher.encrypt(plain)) == plain


@pytest.mark.parametrize("algo", [wire.ENC_FTAES_ECB, wire.ENC_AES_ECB, wire.ENC_AES_CBC])
@pytest.mark.parametrize("data", [b"", b"short", b"x" * 16, b"y" * 32, b"z" * 33])
def test_garbage_does_not_decrypt_to_a_body(algo: int, data: bytes) -> None:
    header = wire.Header(3001, 0, 1, len(data), wire.sha1_of(b"what was meant"))
    with pytest.raises(wire.FrameError):
        wire.open_body(header, data, wire.AesCipher(algo, KEY, IV))


def test_rsa_is_the_sdks(rsa_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys_config.SysConfig, "INIT_RSA_FILE", str(rsa_key))
    monkeypatch.setattr(sys_config.SysConfig, "RSA_OBJ", None)
    monkeypatch.setattr(sys_config.RsaCrypt, "CHIPPER", None)
    ours = wire.RsaCipher(rsa_key)
    plain = bytes(range(256)) * 2
    assert sys_config.RsaCrypt.decrypt(ours.encrypt(plain)) == plain
    assert ours.decrypt(sys_config.RsaCrypt.encrypt(plain)) == plain


@pytest.mark.parametrize("data", [b"plain request", b"q" * 128])
def test_what_is_not_rsa_is_a_bad_frame(rsa_key: Path, data: bytes) -> None:
    header = wire.Header(1001, 0, 1, len(data), wire.sha1_of(b"request"))
    with pytest.raises(wire.FrameError):
        wire.open_body(header, data, wire.RsaCipher(rsa_key))


def test_a_key_the_sdk_cannot_use_is_refused(tmp_path: Path) -> None:
    big, garbage = tmp_path / "big.pem", tmp_path / "garbage.pem"
    big.write_bytes(RSA.generate(2048).export_key(pkcs=1))
    garbage.write_text("no key at all")
    with pytest.raises(ConfigError, match=r"big\.pem.*1024 bits.*2048"):
        wire.RsaCipher(big)
    with pytest.raises(ConfigError, match=r"garbage\.pem"):
        wire.RsaCipher(garbage)
    with pytest.raises(ConfigError, match=r"absent\.pem"):
        wire.RsaCipher(tmp_path / "absent.pem")


def test_key_texts_are_sixteen_characters_and_differ() -> None:
    texts = {wire.new_key_text() for _ in range(20)}
    assert len(texts) == 20
    assert {len(text) for text in texts} == {16}


def test_protobuf_classes_load_without_the_sdk_and_without_home() -> None:
    code = (
        "import sys; import hk_tick_collector.opend_sim.encode; print('pandas' in sys.modules, 'futu' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], env={}, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "False"], done.stderr
