"""A recorder of Schwab beside the plain one, as docs/schwab.md sets it up: its secret stays root's and reaches the
service as a credential, its tokens are bought inside, and nobody else can read any of them anywhere."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from tests.harness import ended
from tests.schwab_streamer import Streamer
from tests.systemd.machine import wait_until
from tests.systemd.server import PREFIX, UNIT, Server

NAME = "schwab"
SCHWAB = f"{UNIT}@{NAME}"
ENV_FILE = f"{PREFIX}/{NAME}.env"
DATA_ROOT = f"/data/sqlite/{NAME}"
SECRETS = "/etc/hk-tick-collector/schwab.secrets"
CREDENTIAL = f"/run/credentials/{SCHWAB}.service/schwab.secrets"
TOKEN = "/var/lib/hk-tick-collector/schwab.token"
BEFORE = "/srv/before-schwab"  # a file of a time when nobody knew any of these
CLIENT_SECRET = secrets.token_hex(16)
# Bought anew five minutes before its end: after some seconds here.
ACCESS_SEC = 304
# Whatever is let in by: the secret of the application, the login, what was bought with it.
LETS_IN = (CLIENT_SECRET, "refresh-[0-9]+-[0-9]{19}", "access-[0-9]+-[0-9]{19}")


@pytest.fixture(scope="module")
def streamer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Streamer]:
    with ended(made := Streamer(tmp_path_factory.mktemp("schwab"), rate=20, conflate_ms=100, access_sec=ACCESS_SEC)):
        yield made


@pytest.fixture(scope="module")
def recording(installed: Server, streamer: Streamer) -> Iterator[Server]:
    """Set up in the order of docs/schwab.md, and recording."""
    run, root = installed.machine.run, installed.machine.root
    settings = {
        "SOURCE": "schwab", "MARKET": "US", "FUTU_SYMBOLS": "US.AAPL,US.MSFT", "DATA_ROOT": DATA_ROOT,
        "SCHWAB_SECRETS_FILE": SECRETS, "SCHWAB_TOKEN_FILE": TOKEN, "SCHWAB_API": streamer.rest,
        "CHECK_INTERVAL_SEC": 0.5, "RECONNECT_MIN_DELAY": 0.2, "RECONNECT_MAX_DELAY": 1, "HEALTH_INTERVAL_SEC": 1,
    }  # fmt: skip
    root.joinpath(ENV_FILE.lstrip("/")).write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    run(f"touch {BEFORE}; install -d -m 0755 /etc/hk-tick-collector; install -m 0600 /dev/null {SECRETS}")
    root.joinpath(SECRETS.lstrip("/")).write_text(f"client_id=an-app\nclient_secret={CLIENT_SECRET}\n")
    installed.install("--instance", NAME)
    try:
        started = run(f"systemctl enable --now {SCHWAB}", check=False)
        assert started.returncode == 0, started.stdout + journal(installed)[-3000:]
        wait_until(lambda: "schwab.token is not there: log in with" in journal(installed), "it asks for the login", 60)
        log_in(installed)
        wait_until(lambda: rows(installed) > 100, "rows of Schwab", 60)
        yield installed
    finally:
        run(
            f"systemctl disable --now {SCHWAB} hk-tick-eod@{NAME}.timer; rm -f {ENV_FILE} {SECRETS} {TOKEN}",
            check=False,
        )


def log_in(server: Server) -> str:
    """By the command of the page, its browser played here; what the command said."""
    tickctl = f"hk-tickctl schwab login --env-file {ENV_FILE}"
    page = json.loads(server.machine.run(f"{tickctl} --dry-run --json 2>/dev/null").stdout)["page"]
    address = httpx.get(page).headers["Location"]  # the machine is on this one's network
    return server.machine.run(f"printf '%s\\n' {shlex.quote(address)} | {tickctl}").stdout


def journal(server: Server) -> str:
    return server.machine.journal(SCHWAB)


def rows(server: Server) -> int:
    rows_there = 0
    for day in (server.machine.root / DATA_ROOT.lstrip("/")).glob("2*.db"):
        with closing(sqlite3.connect(f"file:{day}?mode=ro", uri=True)) as conn, suppress(sqlite3.OperationalError):
            rows_there += conn.execute("SELECT COUNT(*) FROM ticks WHERE provider = 'schwab'").fetchone()[0]
    return rows_there


def pid_of(server: Server) -> int:
    return int(server.machine.show("MainPID", SCHWAB))


def files_with_secrets(server: Server, prefix: str = "") -> set[str]:
    """Of the whole machine, what was written since there were any, as root or somebody else reads it."""
    find = f"find / '(' -path /proc -o -path /sys -o -path /wheels ')' -prune -o -type f -cnewer {BEFORE} -print0"
    search = f"{find} | LC_ALL=C xargs -0r grep -lE {shlex.quote('|'.join(LETS_IN))}"
    paths = server.machine.run(
        f"{prefix} bash -c {shlex.quote(search)} 2>/dev/null", check=False, timeout_sec=300
    ).stdout
    return set(paths.splitlines())


def test_the_secret_stays_with_root_and_reaches_the_service_alone(recording: Server) -> None:
    run = recording.machine.run
    assert run(f"stat -c '%U %a' {SECRETS}").stdout.split() == ["root", "600"]
    assert run(f"runuser -u {UNIT} -- cat {SECRETS}", check=False).returncode != 0
    assert f"LoadCredential=schwab.secrets:{SECRETS}" in run(f"systemctl cat {SCHWAB}").stdout.splitlines()
    assert run(f"cat {CREDENTIAL}").stdout == run(f"cat {SECRETS}").stdout
    assert run(f"stat -c '%U %G %a' {TOKEN}").stdout.split() == [UNIT, UNIT, "600"]
    assert run(f"systemctl show -p Result --value {SCHWAB}").stdout.strip() == "success"


def test_tokens_are_renewed_inside_and_a_restart_goes_on_with_them(recording: Server, streamer: Streamer) -> None:
    run, token = recording.machine.run, recording.machine.root / TOKEN.lstrip("/")
    before, connections, bought = token.read_text(), streamer.state()["connections"], streamer.state()["refreshes"]
    cursor, pid = recording.cursor(), pid_of(recording)

    def renewed() -> bool:
        return "schwab_token_renewed" in recording.machine.journal(SCHWAB, arguments=f"--after-cursor='{cursor}'")

    wait_until(renewed, "a token bought by the service", 60)
    wait_until(lambda: token.read_text() != before, "it is kept for the next connection", 30)
    assert streamer.state()["refreshes"] > bought
    assert (pid_of(recording), streamer.state()["connections"]) == (pid, connections), "without a break"
    assert run(f"stat -c '%U %G %a' {TOKEN}").stdout.split() == [UNIT, UNIT, "600"]

    known = rows(recording)
    run(f"systemctl restart {SCHWAB}")
    wait_until(lambda: rows(recording) > known, "rows after a restart, without a login", 60)
    assert "schwab_connect_failed" not in recording.machine.journal(SCHWAB, arguments=f"--after-cursor='{cursor}'")


def test_a_login_of_root_is_taken_by_the_service_when_a_week_is_over(recording: Server, streamer: Streamer) -> None:
    cursor, pid = recording.cursor(), pid_of(recording)

    def said() -> str:
        return recording.machine.journal(SCHWAB, arguments=f"--after-cursor='{cursor}'")

    streamer.fault("revoke")
    streamer.fault("cut")
    wait_until(lambda: "refused the login, which ends after seven days" in said(), "it asks for a login", 60)
    assert re.fullmatch(r"the login in \S+ ends in 6 d 23 h .*\n", log_in(recording).splitlines(keepends=True)[-1])
    wait_until(lambda: "schwab_connected" in said(), "the login is taken", 60)
    known = rows(recording)
    wait_until(lambda: rows(recording) > known, "rows", 60)
    assert pid_of(recording) == pid


def test_no_secret_is_in_a_log_an_environment_or_a_file_that_others_can_read(recording: Server) -> None:
    run, pid = recording.machine.run, pid_of(recording)
    environment = run(f"tr '\\0' '\\n' </proc/{pid}/environ").stdout
    assert f"CREDENTIALS_DIRECTORY={Path(CREDENTIAL).parent!s}" in environment.splitlines()
    shown = {
        "environment": environment,
        "command line": run(f"tr '\\0' ' ' </proc/{pid}/cmdline").stdout,
        "unit": run(f"systemctl show {SCHWAB}; systemctl cat {SCHWAB}").stdout,
        "journal of all units": run("journalctl --no-pager -o verbose --all", timeout_sec=300).stdout,
        "status": run(f"hk-tickctl status --env-file {ENV_FILE} --json", check=False).stdout,
        "doctor": run(f"hk-tickctl doctor --env-file {ENV_FILE}", check=False).stdout,
    }
    assert "schwab_token_renewed" in shown["journal of all units"]
    # Of the secret that root gave to the service alone, and of this recorder's unit.
    for check in ("schwab_secrets", "schwab_login", "schwab_streamer", "schwab_symbols", f"unit +{SCHWAB} is active"):
        assert re.search(rf"^ok +{check}", shown["doctor"], re.MULTILINE), shown["doctor"]
    for where, text in shown.items():
        for secret in LETS_IN:
            match = re.search(secret, text)
            assert match is None, f"{match and match.group()} in {where}"
    # Root finds what there is, so the search finds; neither a stranger nor who shares the recorder's group does.
    assert files_with_secrets(recording) == {SECRETS, CREDENTIAL, TOKEN}
    for group in ("nogroup", UNIT):
        assert files_with_secrets(recording, f"setpriv --reuid=nobody --regid={group} --clear-groups") == set()
