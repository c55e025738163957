"""The built ``hk-tick-alert`` over a recorder that lives and dies, and a server of the test's own that is called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.called import SECRET, TOKEN, Called
from tests.harness import BIN, Process, Recorder, Simulator, clean_env, ended, wait_until
from tests.tickctl import tickctl, tickctl_json


@pytest.fixture
def called() -> Iterator[Called]:
    with Called() as called:
        yield called


def written(tmp_path: Path, called: Called, more: str = "") -> Path:
    path = tmp_path / "alerts.toml"
    path.write_text(
        f'[[targets]]\nname = "desk"\nwebhook = "{called.url}"\nsecret = "{SECRET}"\n'
        f'[deadman]\nurl = "{called.url}"\nevery_sec = 5\n[rules.recorder_down]\nfor_sec = 1\n{more}'
    )
    path.chmod(0o640)
    return path


def settings_of(tmp_path: Path, file: Path) -> dict[str, object]:
    return {"DATA_ROOT": tmp_path / "data", "ALERT_FILE": file, "ALERT_DIR": tmp_path / "alert"}


def alert(tmp_path: Path, file: Path) -> Process:
    return Process([BIN / "hk-tick-alert"], clean_env(tmp_path / "home", **settings_of(tmp_path, file)))


def test_a_recorder_that_dies_calls_somebody_once_also_over_a_restart_and_an_outage(
    tmp_path: Path, called: Called
) -> None:
    file = written(tmp_path, called)
    simulator = Simulator(tmp_path, "--symbols", "HK.00700", "--rate", "20", "--always-open")
    with ended(simulator):
        recorder = Recorder(tmp_path / "data", simulator.port, "HK.00700")
        with ended(recorder):
            recorder.wait_for("persist_summary")
            first = alert(tmp_path, file)
            with ended(first):
                wait_until(lambda: called.pings > 0, "a sign that all is well")
                called.answers = [(503, {}), (429, {"Retry-After": "1"}), (200, {})]
                recorder.proc.kill()
                wait_until(lambda: "recorder_down" in called.texts(), "the call")
                assert called.refused == 2
                first.signal(15)
                assert first.wait() == 0
            pings, letters = called.pings, len(called.letters)
            second = alert(tmp_path, file)
            with ended(second):
                second.wait_for("hk-tick-alert: ")
                again = Recorder(tmp_path / "data", simulator.port, "HK.00700")
                with ended(again):
                    wait_until(lambda: "OK HK: OVER" in called.texts(), "the call that it is over")
                    wait_until(lambda: called.pings > pings, "signs again")
                    assert again.stop() == 0
        told = [line for letter in called.letters for line in letter["text"].splitlines() if "recorder_down" in line]
        assert [line.split()[0] for line in told] == ["ALERT", "OK"]
        assert len({letter["key"] for letter in called.letters}) == len(called.letters)
        assert letters >= 1
        assert TOKEN not in first.output + second.output
        assert SECRET not in first.output + second.output
        assert TOKEN.encode() not in (tmp_path / "alert" / "outbox.db").read_bytes()


def test_the_command_tries_lists_and_mutes(tmp_path: Path, called: Called) -> None:
    (tmp_path / "data").mkdir()
    given = settings_of(tmp_path, written(tmp_path, called))
    assert tickctl_json("alert", "test", **given) == [{"target": "desk", "taken": True, "reason": None}]
    assert called.letters[0]["title"] == "hk-tick-collector HK: a test"
    called.answers = [(500, {})]
    refused = tickctl("alert", "test", **given)
    assert refused.returncode == 1
    assert refused.stdout == "desk: not taken: it answers 500\n"
    assert tickctl("alert", "test", "nobody", **given).returncode == 2
    assert tickctl("alert", "mute", "ticks_late", "--for", "2h", **given).stdout == "ticks_late: silent for 2h\n"
    assert list(tickctl_json("alert", "list", **given)["mutes"]) == ["ticks_late"]
    assert tickctl("alert", "mute", "ticks_late", "--for", "0m", **given).returncode == 0
    assert tickctl_json("alert", "list", **given)["mutes"] == {}
    for wrong in (["ticks_ltae"], ["ticks_late", "--for", "9d"], ["ticks_late", "--for", "soon"]):
        assert tickctl("alert", "mute", *wrong, **given).returncode == 2
    assert TOKEN not in refused.stdout + refused.stderr


def test_a_wrong_configuration_and_a_second_program_are_refused(tmp_path: Path, called: Called) -> None:
    (tmp_path / "data").mkdir()
    file = written(tmp_path, called, '[rules.no_such]\nfor_sec = 1\n[[targets]]\nname = "x"\nwebhook = "ftp://a"\n')
    wrong = alert(tmp_path, file)
    with ended(wrong):
        assert wrong.wait() == 78
        assert "targets.2.webhook" in wrong.output
        assert TOKEN not in wrong.output
    file = written(tmp_path, called)
    first = alert(tmp_path, file)
    with ended(first):
        first.wait_for("hk-tick-alert: ")
        second = alert(tmp_path, file)
        with ended(second):
            assert second.wait() == 1
            assert "another hk-tick-alert works in" in second.output
        first.signal(2)
        assert first.wait() == 0


def test_an_apprise_address_is_used_and_a_wrong_one_said(tmp_path: Path, called: Called) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "alerts.toml"
    port = called.server_address[1]
    file.write_text(f'[[targets]]\nname = "other"\napprise = "form://127.0.0.1:{port}/{TOKEN}"\n')
    file.chmod(0o600)
    called.answers = [(404, {})]
    tried = tickctl_json("alert", "test", code=1, **settings_of(tmp_path, file))
    assert tried == [{"target": "other", "taken": False, "reason": "it did not take it"}]
    assert called.refused == 1
    file.write_text(f'[[targets]]\nname = "wrong"\napprise = "nosuch://{TOKEN}"\n')
    wrong = alert(tmp_path, file)
    with ended(wrong):
        assert wrong.wait() == 78
        assert "targets.wrong: apprise does not know such an address" in wrong.output
        assert TOKEN not in wrong.output
