"""``hk-tickctl`` on a server: what it says of the real service, its journal and its files, and to whom."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from tests.systemd.machine import wait_until
from tests.systemd.server import DATA_ROOT, PREFIX, UNIT, Server

TICKCTL = f"{PREFIX}/venv/bin/hk-tickctl"
ENV_FILE = f"--env-file {PREFIX}/.env"
ON_DATA = f"--data-root {DATA_ROOT}"
ROOT = ""
SERVICE_USER = f"runuser -u {UNIT} -- env HOME=/var/lib/{UNIT}"
NOBODY = "runuser -u nobody -- env HOME=/nonexistent"


def member_of(group: str) -> str:
    """An ordinary user who is in one more group."""
    return f"setpriv --reuid=nobody --regid=nogroup --groups={group} env HOME=/nonexistent"


def tickctl(
    server: Server, command: str, *, user: str = ROOT, where: str = ENV_FILE
) -> subprocess.CompletedProcess[str]:
    """One command from an arbitrary directory; standard error after standard output."""
    return server.machine.run(
        f"cd / && {user} {TICKCTL} {command} {where} 2>/tmp/said; code=$?; cat /tmp/said; exit $code", check=False
    )


def as_json(server: Server, command: str, *, user: str = ROOT, where: str = ENV_FILE) -> tuple[int, dict[str, Any]]:
    """Exit code and document."""
    done = server.machine.run(f"cd / && {user} {TICKCTL} {command} --json {where} 2>/tmp/said", check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        stderr = server.machine.run("cat /tmp/said").stdout
        raise AssertionError(f"exit code {done.returncode}: {done.stdout}{stderr}") from None
    return done.returncode, answer


def settled(server: Server) -> dict[str, Any]:
    """The status once the recorder has written one with which all is fine."""
    seen: list[tuple[int, dict[str, Any]]] = []

    def is_fine() -> bool:
        seen[:] = [as_json(server, "status")]
        return seen[0][0] == 0 and seen[0][1]["recorder"]["opend_state"] == "ready"

    try:
        wait_until(is_fine, "hk-tickctl status ends with 0")
    except AssertionError as exc:
        raise AssertionError(f"{exc}: {seen}") from None
    return seen[0][1]


def check_of(answer: dict[str, Any], name: str) -> dict[str, str]:
    (named_check,) = [check for check in answer["checks"] if check["name"] == name]
    return named_check


# --- status ---------------------------------------------------------------------------------------------------------


def test_status_of_a_service_that_runs(server: Server) -> None:
    answer = settled(server)
    pid = server.pid()
    assert (answer["verdict"], answer["running"], answer["problems"]) == ("fine", True, [])
    assert answer["process"]["pid"] == answer["recorder"]["pid"] == answer["service"]["main_pid"] == pid
    assert answer["process"]["is_stopped"] is False
    assert answer["service"]["user"] == UNIT
    assert answer["status_age_sec"] < 10
    done = tickctl(server, "status")
    assert done.returncode == 0
    assert re.search(rf"^recorder +\w+, running since .* \(pid {pid}, version ", done.stdout, re.MULTILINE)
    assert re.search(r"^service +active \(running\), enabled", done.stdout, re.MULTILINE)
    assert re.search(r"^OpenD +ready, 2 of 2 symbols", done.stdout, re.MULTILINE)
    assert "problem" not in done.stdout
    assert server.pid() == pid


@pytest.mark.parametrize("user", [SERVICE_USER, member_of(UNIT)], ids=["service user", "member of its group"])
def test_status_for_those_who_may_read(server: Server, user: str) -> None:
    """Files are 0640 and directories 0750: the group may look at everything, the newest rows included."""
    settled(server)
    code, answer = as_json(server, "status", user=user)
    assert (code, answer["verdict"], answer["problems"]) == (0, "fine", [])
    assert answer["process"]["pid"] == server.pid()
    assert answer["day"]["error"] is None
    assert answer["day"]["rows"] > 0


def test_status_of_a_service_that_was_stopped(server: Server) -> None:
    run = server.machine.run
    settled(server)
    run(f"systemctl stop {UNIT}")
    done = tickctl(server, "status")
    assert done.returncode == 1, done.stdout
    assert re.search(r"^recorder +not running$", done.stdout, re.MULTILINE)
    assert re.search(r"^service +inactive \(dead\), enabled$", done.stdout, re.MULTILINE)
    assert f"the recorder was stopped (asked to stop); start it: sudo systemctl start {UNIT}" in done.stdout
    run("rm -rf /tmp/nothing; mkdir /tmp/nothing")
    empty = tickctl(server, "status", where="--data-root /tmp/nothing")
    assert empty.returncode == 3, "nothing is recorded and nothing runs"
    assert tickctl(server, "status", where="--data-root /tmp/none").returncode == 3
    run(f"systemctl start {UNIT}")
    elsewhere = tickctl(server, "status", where="--data-root /tmp/nothing")
    assert elsewhere.returncode == 1
    assert f"the service {UNIT} runs, but on another data root" in elsewhere.stdout
    settled(server)


def test_status_of_a_service_that_was_killed_or_frozen(server: Server) -> None:
    run = server.machine.run
    server.drop_in("[Service]\nRestart=no\n")
    run(f"systemctl restart {UNIT}")
    server.wait_recording()
    settled(server)
    pid = server.pid()
    run(f"kill -STOP {pid}")
    frozen = tickctl(server, "status")
    assert frozen.returncode == 1
    assert f"(pid {pid}) was stopped by a signal and does nothing: kill -CONT {pid}" in frozen.stdout
    run(f"kill -CONT {pid}; kill -9 {pid}")
    wait_until(lambda: server.machine.show("ActiveState") == "failed", "systemd sees it")
    killed = tickctl(server, "status")
    assert killed.returncode == 1
    assert f"the recorder (pid {pid}) ended without an ordered stop" in killed.stdout
    assert f"the service {UNIT} has failed: killed by signal 9" in killed.stdout
    code, answer = as_json(server, "doctor --offline")
    assert (code, answer["failed"]) == (1, ["unit"])
    assert check_of(answer, "unit")["found"] == f"{UNIT} is failed (failed), enabled; killed by signal 9"


def test_status_and_doctor_of_a_service_whose_settings_are_wrong(server: Server) -> None:
    server.write_settings(FUTU_SYMBOLS="NONSENSE")
    server.machine.run(f"systemctl restart {UNIT}", check=False)
    status = tickctl(server, "status", where=ON_DATA)
    assert status.returncode == 1
    wrong = "the configuration is wrong, so the recorder does not start (exit code 78): hk-tickctl config says what"
    assert wrong in status.stdout
    status = tickctl(server, "status")
    assert status.returncode == 1, "a wrong list of symbols hides no data"
    assert wrong in status.stdout
    code, answer = as_json(server, "doctor --offline")
    assert (code, answer["failed"]) == (1, ["configuration", "unit"])
    assert "NONSENSE" in check_of(answer, "configuration")["found"]
    assert check_of(answer, "unit")["found"].endswith("exit code 78")
    assert check_of(answer, "unit")["advice"] == "hk-tickctl logs says why"


# --- doctor ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", [ROOT, SERVICE_USER], ids=["root", "service user"])
def test_doctor_beside_the_service(server: Server, user: str) -> None:
    pid = server.pid()
    settled(server)
    code, answer = as_json(server, "doctor", user=user)
    assert (code, answer["failed"], answer["skipped"]) == (0, [], []), answer
    assert check_of(answer, "unit") == {
        "name": "unit", "result": "ok", "found": f"{UNIT} is active (running), enabled", "advice": "",
    }  # fmt: skip
    directory = f"{DATA_ROOT} is writable; recorder pid {pid} uses it"  # root tries it with the service user's rights
    assert check_of(answer, "data_directory")["found"] == directory
    assert check_of(answer, "home")["result"] == "ok"
    server.wait_recording()
    assert server.pid() == pid
    owners = server.machine.run(f"find {DATA_ROOT} /var/lib/{UNIT} -not -user {UNIT}").stdout
    assert owners == "", "root leaves nothing behind that the service could not write"


def test_doctor_names_what_is_wrong_with_the_unit(server: Server) -> None:
    run = server.machine.run

    def unit() -> tuple[int, str, str, str]:
        code, answer = as_json(server, "doctor --offline")
        check = check_of(answer, "unit")
        return code, check["result"], check["found"], check["advice"]

    run(f"systemctl disable {UNIT}")
    try:
        advice = f"sudo systemctl enable {UNIT}"
        assert unit() == (0, "warn", f"{UNIT} is active (running), disabled: it does not start at boot", advice)
        assert f"the service does not start at boot: {advice}" in settled(server)["notes"]
    finally:
        run(f"systemctl enable {UNIT}")
    run(f"sleep 1; touch /etc/systemd/system/{UNIT}.service")
    advice = "sudo systemctl daemon-reload"
    assert unit() == (0, "warn", f"{UNIT} is active (running), enabled; its file has changed", advice)
    run("systemctl daemon-reload")
    run(f"systemctl stop {UNIT}")
    assert unit() == (0, "warn", f"{UNIT} is inactive (dead), enabled", f"sudo systemctl start {UNIT}")
    code, answer = as_json(server, "doctor --offline --unit no-such-thing")
    assert check_of(answer, "unit")["found"] == "there is no unit no-such-thing"
    run(f"chmod 0550 {DATA_ROOT}")
    try:
        code, answer = as_json(server, "doctor --offline")
        assert (code, answer["failed"]) == (1, ["data_directory"])
        assert check_of(answer, "data_directory")["found"].endswith(f"not writable for the service's user {UNIT}")
    finally:
        run(f"chmod 0750 {DATA_ROOT}")


# --- logs -----------------------------------------------------------------------------------------------------------


def logs(server: Server, options: str, *, user: str = ROOT) -> list[str]:
    """The messages that it shows, without their time and level."""
    done = tickctl(server, f"logs {options}", user=user, where="")
    assert done.returncode == 0, done.stdout
    return [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ ", "", line) for line in done.stdout.splitlines()]


def utc_now(server: Server) -> str:
    """To the second, by the clock of the machine, as ``journalctl`` takes it."""
    return server.machine.run("date -u +'%F %T'").stdout.strip()


def test_logs_are_the_services_lines(server: Server) -> None:
    cursor = server.cursor()
    server.wait_said("persist_summary", cursor)
    newest = logs(server, "-n 5")
    health = logs(server, "--word health -n 3")
    both = logs(server, "--word health --word persist_summary --since 1m")
    named = logs(server, "--symbol 700 --since 3d")
    journal = set(server.machine.journal().splitlines())
    assert (len(newest), len(health)) == (5, 3)
    for line in (*newest, *health, *both, *named):
        assert line in journal
    assert all(line.startswith("health connected=") for line in health)
    assert {line.split()[0] for line in both} == {"health", "persist_summary"}
    assert all("HK.00700" in line for line in named)


def test_logs_between_two_moments(server: Server) -> None:
    """As journalctl has them, neither more nor less: with systemd's word of the start."""
    run = server.machine.run
    run(f"systemctl stop {UNIT}; sleep 1.1")
    since = utc_now(server)
    run(f"systemctl start {UNIT}")
    settled(server)
    run("sleep 1")
    until = utc_now(server)
    run("sleep 1.5")
    wanted = server.machine.journal(arguments=f"--since '{since} UTC' --until '{until} UTC'").splitlines()
    times = f"--since {since.replace(' ', 'T')}Z --until {until.replace(' ', 'T')}Z"
    assert logs(server, times) == wanted
    assert any(line.startswith("futu_connected ") for line in wanted)
    assert any(line.startswith("Started ") for line in wanted)
    shown = tickctl(server, f"logs {times} --word futu_connected --json", where="").stdout.splitlines()
    (entry,) = map(json.loads, shown)
    assert (entry["word"], entry["level"]) == ("futu_connected", "INFO")
    assert f"{since.replace(' ', 'T')}" <= entry["at"] <= f"{until.replace(' ', 'T')}"


def test_logs_by_level_and_when_nothing_fits(server: Server) -> None:
    server.machine.run(f"kill -9 {server.pid()}")
    server.wait_recording()
    bad = tickctl(server, "logs --level warning --since 1m", where="").stdout
    assert "code=killed, status=9/KILL" in bad
    assert "health connected=True status=ok" not in bad
    for nothing in ("--word no_such_word", "--since 2099-01-01", "--unit no-such-thing"):
        done = tickctl(server, f"logs {nothing}", where="")
        assert (done.returncode, done.stdout.count("\n")) == (3, 1), done.stdout
        assert "no line fits" in done.stdout


def test_logs_that_are_followed(server: Server) -> None:
    """Across a restart of the service, until somebody ends it."""
    run = server.machine.run
    follow = f"{TICKCTL} logs -f --word recorder_stopped --word futu_connected -n 0"
    run(f"(setsid env --default-signal=INT {follow} >/tmp/followed 2>&1 & echo $! >/tmp/f)")
    try:
        wait_until(lambda: run("pgrep -P $(cat /tmp/f) journalctl", check=False).stdout, "journalctl runs")
        run(f"systemctl restart {UNIT}")
        wait_until(lambda: "futu_connected" in run("cat /tmp/followed").stdout, "the new connection")
    finally:
        run("kill -INT $(cat /tmp/f)", check=False)
    words = re.findall(r"^\S+Z INFO (\w+) ", run("cat /tmp/followed").stdout, re.MULTILINE)
    assert words[:2] == ["recorder_stopped", "futu_connected"]
    wait_until(lambda: run("kill -0 $(cat /tmp/f)", check=False).returncode, "it ends")
    assert run("pgrep -x journalctl", check=False).stdout == "", "its journalctl is gone, too"


# --- who may not ----------------------------------------------------------------------------------------------------


def test_logs_for_others(server: Server) -> None:
    for user in (SERVICE_USER, NOBODY):
        done = tickctl(server, "logs", user=user, where="")
        assert done.returncode == 1, done.stdout
        assert done.stdout.startswith("hk-tickctl: the journal cannot be read: ")
        assert "systemd-journal" in done.stdout
        assert "Traceback" not in done.stdout
    (line,) = logs(server, "-n 1 --word health", user=member_of("systemd-journal"))
    assert line.startswith("health connected=")


def test_an_unprivileged_user_is_told_what_is_closed_to_them(server: Server) -> None:
    settled(server)
    advice = "cannot be read (Permission denied): use sudo, or join the group"
    for where, closed in ((ENV_FILE, f"{PREFIX}/.env"), (ON_DATA, DATA_ROOT)):
        done = tickctl(server, "status", user=NOBODY, where=where)
        assert done.returncode == 1
        assert done.stdout.startswith(f"hk-tickctl: {closed} {advice}"), done.stdout
        assert "not running" not in done.stdout, "nobody can know that"
    # With settings of their own, the data is what is closed.
    own = f"{NOBODY} DATA_ROOT={DATA_ROOT} FUTU_SYMBOLS=HK.00700 FUTU_PORT={server.simulator.port}"
    done = tickctl(server, "status", user=own, where="")
    assert done.returncode == 1
    assert done.stdout.startswith(f"hk-tickctl: {DATA_ROOT} {advice}"), done.stdout
    for command in ("day", "gaps", "top", "ticks 700"):
        done = tickctl(server, command, user=own, where="")
        assert done.returncode == 1, command
        assert done.stdout.startswith(f"hk-tickctl: {DATA_ROOT} {advice}"), f"{command}: {done.stdout}"
    code, answer = as_json(server, "doctor", user=own, where="")
    # The simulator keeps the time of its start, minutes ago; the machine's clock may have been set since.
    warned = [name for name in answer["warned"] if name != "clock"]
    assert (code, answer["failed"], warned) == (0, [], ["home", "disk"]), "systemd and OpenD answer everybody"
    assert f"{DATA_ROOT} is closed to this user" in check_of(answer, "disk")["found"]
