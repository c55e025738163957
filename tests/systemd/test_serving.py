"""What serves, installed by choice: another user of the recorder's group, which reads and cannot write."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.called import Called
from tests.redis_server import free_port
from tests.systemd.machine import wait_until
from tests.systemd.server import DATA_ROOT, PREFIX, PROJECT, Server

API = "hk-tick-api"
STATE = "/var/lib/hk-tick-serve"


@pytest.fixture(scope="module")
def serving(installed: Server) -> Iterator[Server]:
    output = installed.install("--with", "api,live")
    assert "installed" in output
    installed.settings["API_PORT"] = free_port()
    installed.settings["LIVE_PORT"] = free_port()
    installed.settings["API_KEYS_FILE"] = "/etc/hk-tick-serve/keys.json"
    installed.write_settings()
    yield installed
    units = ["hk-tick-api.service", "hk-tick-live.service"]
    installed.machine.run(f"systemctl disable --quiet --now {' '.join(units)}")
    installed.machine.run(f"rm -f {' '.join(f'/etc/systemd/system/{unit}' for unit in units)}; systemctl daemon-reload")
    for name in ("API_PORT", "LIVE_PORT", "API_KEYS_FILE"):
        del installed.settings[name]
    installed.write_settings()


@pytest.fixture
def key(serving: Server) -> str:
    serving.recover()
    made = serving.machine.run(
        f"cd {PREFIX} && venv/bin/hk-tickctl keys add systemd --scopes read,live,restart,hook:x --env-file .env --json"
    ).stdout
    serving.machine.run(f"systemctl restart {API} hk-tick-live")
    match = re.search(r"hktk_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", made)
    assert match, made
    return match.group()


def ask(server: Server, key: str, path: str, **post: object) -> str:
    """The answer; the machine is on this one's network."""
    url = f"http://127.0.0.1:{server.settings['API_PORT']}{path}"
    headers = {"Authorization": f"Bearer {key}"}
    with contextlib.suppress(httpx.TransportError):
        if post:
            return httpx.post(url, headers=headers, json=post, timeout=20).text
        return httpx.get(url, headers=headers, timeout=20).text
    return ""


def live_text(server: Server, key: str) -> str:
    """What the live channel sends in its first seconds."""
    url = f"http://127.0.0.1:{server.settings['LIVE_PORT']}/v1/live/events?symbols=HK.00700"
    body = ""
    headers = {"Authorization": f"Bearer {key}"}
    with contextlib.suppress(httpx.TransportError), httpx.stream("GET", url, headers=headers, timeout=5) as answer:
        for piece in answer.iter_text():
            body += piece
            if '"HK.00700"' in body:
                break
    return body


def test_it_reads_while_the_recorder_writes_and_comes_back_when_killed(serving: Server, key: str) -> None:
    run, show = serving.machine.run, serving.machine.show
    wait_until(lambda: '"data":[{' in ask(serving, key, "/v1/ticks/latest?symbols=HK.00700"), "ticks of now", 60)
    condition = json.loads(ask(serving, key, "/v1/status"))["roots"][0]
    assert condition["running"], condition  # though it may see no other process
    pid = int(show("MainPID", API))
    assert run(f"ps -o user:20=,group:20= -p {pid}").stdout.split() == ["hk-tick-serve", "hk-tick-collector"]
    try:
        wait_until(lambda: '"HK.00700"' in live_text(serving, key), "a tick as it comes", 40)
    except AssertionError as exc:
        journal = serving.machine.journal("hk-tick-live")
        raise AssertionError(f"{live_text(serving, key)[-1000:]}\n{journal[-3000:]}") from exc
    signal = ask(serving, key, "/v1/hooks/x", symbol="700")
    assert '"cursor":"v2~' in signal, signal
    assert run(f"stat -c '%U %G %a' {STATE}/hooks/signals.db").stdout.split() == [
        "hk-tick-serve",
        "hk-tick-collector",
        "640",
    ]
    run(f"kill -9 {pid}")
    wait_until(lambda: int(show("MainPID", API)) not in (0, pid), "a new process")
    wait_until(lambda: '"data":[{' in ask(serving, key, "/v1/ticks/latest?symbols=HK.00700"), "ticks again", 60)


def test_it_can_write_nothing_of_the_recorders(serving: Server, key: str) -> None:
    run = serving.machine.run
    for target in (DATA_ROOT, f"$(ls {DATA_ROOT}/*.db | head -n 1)", f"{PREFIX}/.env", "/etc/hk-tick-serve", PREFIX):
        done = run(f"runuser -u hk-tick-serve -- test -w {target}", check=False)
        assert done.returncode == 1, target
    text = run(f"systemd-analyze security --no-pager {API}").stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", text)
    assert exposure is not None
    assert float(exposure.group(1)) <= 1.5


def test_it_has_a_feed_restarted_and_no_right_over_any_unit(serving: Server, key: str) -> None:
    run, pid, cursor = serving.machine.run, serving.pid(), serving.cursor()
    wait_until(lambda: '"takes_restarts":1' in ask(serving, key, "/v1/status"), "a recorder that listens", 60)
    assert '"asked_at_ms":' in ask(serving, key, "/v1/sources/restart", source="HK")
    serving.wait_said('feed_restart by="systemd (', cursor)
    serving.wait_said("backfill_done", cursor)
    serving.wait_recording()
    assert serving.pid() == pid, "the recorder itself went on"
    assert run(f"stat -c '%U %G %a' {STATE}/restarts {STATE}/restarts/*").stdout.splitlines() == [
        "hk-tick-serve hk-tick-collector 750", "hk-tick-serve hk-tick-collector 640",
    ]  # fmt: skip
    assert run("runuser -u hk-tick-serve -- systemctl restart hk-tick-collector", check=False).returncode != 0


def test_an_update_restarts_it_and_verification_knows_it(serving: Server, key: str) -> None:
    show = serving.machine.show
    pid = show("MainPID", API)
    made = serving.commit_built("another")
    output = serving.redeploy("--skip-tests", "--market", "closed").stdout
    assert f"release {made[:12]} is already built" in output
    assert f"restarting {API}.service" in output
    assert f"{API}=active" in output
    assert show("MainPID", API) not in ("0", pid)


def test_the_one_that_calls_sees_the_recorder_and_calls_when_it_is_gone(installed: Server) -> None:
    run = installed.machine.run
    with Called() as called:
        installed.install("--with", "alert")
        installed.settings["ALERT_FILE"] = "/etc/hk-tick-serve/alerts.toml"
        installed.write_settings()
        run(
            "install -d /etc/hk-tick-serve && printf '%s\\n' '[[targets]]' 'name = \"desk\"' "
            f"'webhook = \"{called.url}\"' '[rules.recorder_down]' 'for_sec = 1' > /etc/hk-tick-serve/alerts.toml && "
            "chown root:hk-tick-collector /etc/hk-tick-serve/alerts.toml && chmod 640 /etc/hk-tick-serve/alerts.toml"
        )
        try:
            installed.recover()
            run("systemctl restart hk-tick-alert")
            told = f"cd {PREFIX} && set -a && . ./.env && ALERT_DIR={STATE}/alert venv/bin/hk-tickctl alert"
            assert "taken" in run(f"{told} test").stdout
            run("systemctl stop hk-tick-collector")
            wait_until(lambda: "[recorder_down;" in called.texts(), "a call", 90)
            installed.recover()
            wait_until(lambda: "OVER" in called.texts(), "the end of it", 90)
            installed.commit_built("another, with somebody who is called")
            run("rm /etc/systemd/system/hk-tick-failure@.service")
            installed.redeploy("--skip-tests", "--market", "closed")
            failure = "hk-tick-failure@hk-tick-broken.service.service"
            run(f"systemd-run --wait --unit=hk-tick-broken -p OnFailure={failure} false", check=False)
            wait_until(lambda: "hk-tick-broken.service: the unit failed (exit-code 1)" in called.texts(), "its call")
            assert run(f"stat -c '%U %G %a' {STATE}/alert/outbox.db").stdout.split() == [
                "hk-tick-serve", "hk-tick-collector", "640",
            ]  # fmt: skip
        finally:
            run("systemctl disable --quiet --now hk-tick-alert.service", check=False)
            run("rm -f /etc/systemd/system/hk-tick-alert.service /etc/systemd/system/hk-tick-failure@.service")
            run("rm -f /etc/hk-tick-serve/alerts.toml; systemctl daemon-reload")
            del installed.settings["ALERT_FILE"]
            installed.write_settings()


def test_wrong_names_are_refused_and_dry_run_tells(installed: Server) -> None:
    run = installed.machine.run
    for names in ("''", "api,web", "../api", "-x"):
        done = run(f"bash {PROJECT}/scripts/install_systemd.sh --with {names}", check=False)
        assert done.returncode == 2
        assert "api live redis ship alert" in done.stdout
    assert "would run: systemctl enable --quiet hk-tick-redis.service" in installed.install(
        "--dry-run", "--with", "redis"
    )
