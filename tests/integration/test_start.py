"""The first second of the recorder: signals during the imports, too little memory, settings that lead astray."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA

from hk_tick_collector.store import layout
from tests.harness import BIN, Process, Recorder, Simulator, clean_env, ended, wait_until

RECORDER = str(BIN / "hk-tick-collector")


def settings(tmp_path: Path, **more: object) -> dict[str, str]:
    return clean_env(
        tmp_path / "home", DATA_ROOT=tmp_path / "HK", FUTU_SYMBOLS="700", FUTU_HOST="127.0.0.1", FUTU_PORT=1, **more
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["_pydantic_core", "google/_upb", "lock"])
def test_a_signal_while_it_starts_is_no_traceback(tmp_path: Path, number: signal.Signals, moment: str) -> None:
    """In the middle of the imports, and while the daemon is being put together."""
    process = subprocess.Popen(
        [RECORDER], env=settings(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def is_there() -> bool:
        if moment == "lock":
            return layout.lock_file(tmp_path / "HK").exists()
        return moment in Path(f"/proc/{process.pid}/maps").read_text()

    wait_until(is_there, moment)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert "Traceback" not in output
    assert process.returncode in (0, -number), output


def test_too_little_memory_is_a_sentence(tmp_path: Path) -> None:
    """How much is too little is the machine's affair: 60 MB of addresses always are."""
    seen = 0
    for limit_kb in (60_000, 150_000, 200_000, 250_000):
        recorder = Process(["bash", "-c", f"ulimit -v {limit_kb} && exec {RECORDER}"], settings(tmp_path))
        with ended(recorder):
            wait_until(
                lambda recorder=recorder: recorder.find("recorder_started") or recorder.proc.poll() is not None,
                "a start or an end",
            )
            if recorder.find("recorder_started"):
                break
            code = recorder.wait()
        assert "Traceback" not in recorder.output, f"{limit_kb}: {recorder.output}"
        assert code == 1, f"{limit_kb}: {recorder.output}"
        seen += "there is not enough memory (" in recorder.output
    assert seen


@pytest.mark.parametrize("name", ["/dev/zero", "/proc/self/mem", "fifo", "directory"])
def test_a_symbols_file_that_is_no_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    path = tmp_path / name  # an absolute name stays as it is
    done = check_config(tmp_path, f"@{path}")
    assert done.returncode == 78
    assert f"symbols file {path}" in done.stderr
    assert "is not a regular file" in done.stderr or "cannot be read" in done.stderr


def test_what_stands_in_a_wrong_file_is_not_told(tmp_path: Path) -> None:
    """A key or a password file that is named by mistake would stand in the journal."""
    secret = tmp_path / "id_rsa"
    secret.write_text(
        "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 5_000 + "password=hunter2\n"
    )
    done = check_config(tmp_path, f"@{secret}")
    assert done.returncode == 78
    assert "MIIEvQ" not in done.stderr
    assert "hunter2" not in done.stderr
    assert "line 1" in done.stderr
    assert len(done.stderr.splitlines()) < 30


def test_a_host_without_an_address_is_named_in_the_resolvers_words(tmp_path: Path) -> None:
    recorder = Process([RECORDER], {**settings(tmp_path), "FUTU_HOST": "opend.invalid"})
    with ended(recorder):
        recorder.wait_for(r"futu_connect_failed .*the host is not known: \w+")


def test_another_key_than_opends_is_suspected_by_name(tmp_path: Path) -> None:
    keys = [tmp_path / name for name in ("opends", "ours")]
    for path in keys:
        path.write_bytes(RSA.generate(1024).export_key("PEM", pkcs=1))
    simulator = Simulator(tmp_path / "sim", "--always-open", "--symbols", "HK.00700", "--rsa-key", keys[0])
    recorder = Recorder(tmp_path / "HK", simulator.port, "700", FUTU_RSA_KEY_FILE=keys[1])
    with ended(recorder, simulator):
        recorder.wait_for("futu_connect_failed .*is the key OpenD's rsa_private_key")


def check_config(tmp_path: Path, symbols: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RECORDER, "--check-config"], env={**settings(tmp_path), "FUTU_SYMBOLS": symbols}, capture_output=True,
        text=True, timeout=30, check=False,
    )  # fmt: skip
