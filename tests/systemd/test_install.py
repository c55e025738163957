"""The installation script, and what systemd thinks of the units."""

from __future__ import annotations

import re

from tests.systemd.machine import wait_until
from tests.systemd.server import DATA_ROOT, PREFIX, PROJECT, UNIT, Server

OWN_UNIT = f"/etc/systemd/system/{UNIT}.service"


def test_everything_is_in_place(installed: Server) -> None:
    run = installed.machine.run
    assert run(f"systemctl is-enabled {UNIT}").stdout.strip() == "enabled"
    assert run("systemctl is-enabled hk-tick-eod.timer; systemctl is-active hk-tick-eod.timer").stdout.split() == [
        "enabled",
        "active",
    ]
    assert run(f"stat -c '%U %G %a' {PREFIX}/.env {DATA_ROOT}").stdout.split("\n")[:2] == [
        "root hk-tick-collector 640",
        "hk-tick-collector hk-tick-collector 750",
    ]
    assert run(f"{PREFIX}/venv/bin/hk-tick-collector --version").stdout.startswith("hk-tick-collector ")
    commit = run(f"git -C {PROJECT} rev-parse HEAD").stdout.strip()
    assert run(f"git -C {PREFIX} rev-parse HEAD; readlink {PREFIX}/venv").stdout.split() == [
        commit,
        f"releases/{commit}",
    ]


def test_the_command_on_the_path_has_the_services_settings(installed: Server) -> None:
    run = installed.machine.run
    assert run("stat -c '%U %a' /usr/local/bin/hk-tickctl").stdout == "root 755\n"
    assert DATA_ROOT in run("cd / && /usr/local/bin/hk-tickctl config").stdout
    run("test -s /usr/local/share/man/man1/hk-tickctl-day.1")
    run("test -s /usr/local/share/bash-completion/completions/hk-tickctl")


def test_the_service_user_cannot_write_its_code(installed: Server) -> None:
    users = installed.machine.run(
        f"runuser -u hk-tick-collector -- find {PREFIX} -writable -not -type l; getent passwd hk-tick-collector"
    ).stdout.splitlines()
    assert len(users) == 1
    assert users[0].endswith(":/var/lib/hk-tick-collector:/usr/sbin/nologin")


def test_nobody_but_root_can_change_a_release(installed: Server) -> None:
    run = installed.machine.run
    assert run(f"find {PREFIX}/releases ! -user root -o ! -group root -o ! -type l -perm /022").stdout == ""
    assert run("stat -c '%U %a' /run/hk-tick-collector-deploy").stdout == "root 700\n"
    assert run("ls -d /var/tmp/hk-tick-deploy.*", check=False).returncode != 0, "nothing is left of the build"


def test_what_is_installed_is_what_is_locked(installed: Server) -> None:
    run = installed.machine.run
    versions = dict(
        line.split("==") for line in run(f"{PREFIX}/venv/bin/python -I -m pip list --format=freeze").stdout.split()
    )
    locked = re.findall(r"^([\w-]+)==([\w.]+)(.*)", run(f"cat {PREFIX}/requirements/service.txt").stdout, re.MULTILINE)
    wanted = {name: version for name, version, marker in locked if ">= '3.12'" not in marker}
    assert {name.lower().replace("_", "-"): version for name, version in versions.items()}.items() >= wanted.items()


def test_systemd_has_nothing_to_complain_about(installed: Server) -> None:
    run = installed.machine.run
    run("mkdir -p /opt/futu-opend && ln -sf /bin/true /opt/futu-opend/FutuOpenD")
    assert run(f"systemd-analyze verify {OWN_UNIT} {PREFIX}/deploy/systemd/*.{{service,timer,target}}").stdout == ""
    text = run(f"systemd-analyze security --no-pager {OWN_UNIT.rsplit('/', 1)[1]}").stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", text)
    assert exposure is not None, text
    assert float(exposure.group(1)) <= 1.5


def test_a_second_run_keeps_settings_and_recording(server: Server) -> None:
    settings = server.machine.run(f"cat {PREFIX}/.env").stdout
    pid = server.pid()
    output = server.install()
    assert f"kept {PREFIX}/.env" in output
    assert server.machine.run(f"cat {PREFIX}/.env").stdout == settings
    assert server.pid() == pid
    server.wait_recording()


def test_another_data_root_and_stop_time_reach_the_unit(server: Server) -> None:
    server.machine.run("rm -rf /srv/ticks")
    server.write_settings(DATA_ROOT="/srv/ticks", ARCHIVE_ROOT="/srv/archive", STOP_FLUSH_TIMEOUT_SEC=300)
    server.install("--start")
    assert server.machine.show("TimeoutStopUSec") == "6min"
    assert server.machine.show("ReadWritePaths").split() == [f"-{DATA_ROOT}", "-/srv/ticks"]
    assert {DATA_ROOT, "/srv/ticks"} <= set(server.machine.show("RequiresMountsFor").split())
    written = server.machine.show("ReadWritePaths", "hk-tick-eod").split()
    assert written == [f"-{DATA_ROOT}", "-/srv/ticks", "-/srv/archive"]
    assert server.machine.show("ActiveState") == "active"
    assert server.machine.run("stat -c %U /srv/ticks/.recorder.lock").stdout == "hk-tick-collector\n"
    server.write_settings()
    server.install()
    assert server.machine.show("TimeoutStopUSec") == "2min"
    assert server.machine.show("ReadWritePaths", "hk-tick-eod").split() == [f"-{DATA_ROOT}"]


def test_a_data_root_with_blanks_and_percent_signs(server: Server) -> None:
    """Into the unit as one directory, writable, and the recorder records there."""
    odd = "/srv/my 100% ticks"
    server.machine.run(f"rm -rf '{odd}'")
    server.write_settings(DATA_ROOT=f'"{odd}"')
    try:
        server.install("--start")
        unit_files = f"{OWN_UNIT} /etc/systemd/system/hk-tick-eod.service"
        assert server.machine.run(f"systemd-analyze verify {unit_files}").stdout == ""
        # As systemd prints it; the words are its own.
        assert "my 100% ticks" in server.machine.show("ReadWritePaths").replace("\\x20", " ")
        assert "my 100% ticks" in server.machine.show("RequiresMountsFor").replace("\\x20", " ")
        wait_until(
            lambda: server.machine.run(f"ls '{odd}'/*.db", check=False).returncode == 0, "the day file at its odd place"
        )
    finally:
        server.write_settings()
        server.install()
    assert "my 100%" not in server.machine.show("ReadWritePaths")


def test_a_line_break_in_a_setting_adds_no_line_to_the_unit(server: Server) -> None:
    server.write_settings(DATA_ROOT='"/srv/x\\nExecStartPre=+/bin/touch /srv/owned"')
    try:
        assert "DATA_ROOT" in server.install()
        assert "owned" not in server.machine.run(f"systemctl cat {UNIT} hk-tick-eod").stdout
    finally:
        server.write_settings()  # the units are those of before


def test_dry_run_changes_nothing(installed: Server) -> None:
    # Without the inside of the environments: tens of thousands of files.
    state = f"find /etc {PREFIX} -path '*/lib/python*' -prune -o -printf '%p %T@ %m %u %l\\n' | sort"
    before = installed.machine.run(state).stdout
    output = installed.install("--dry-run", "--start", "--with-opend")
    assert "would run: systemctl enable" in output
    assert "would run: systemctl restart" in output
    for name in ("hk-tick-eod.service", "hk-tick-eod.timer"):
        assert f"deploy/systemd/{name} /etc/systemd/system/{name}" in output
        assert f"rm -f /etc/systemd/system/{name}" not in output
    for word in (".env", "hk-tick-build", "would write: /etc/systemd/system/hk-tick-eod.service.d", "daemon-reload"):
        assert word in output
    assert installed.machine.run(state).stdout == before


def test_wrong_use_is_told(installed: Server) -> None:
    run = installed.machine.run
    assert run(f"bash {PROJECT}/scripts/install_systemd.sh --bogus", check=False).returncode == 2
    assert run(f"cd {PROJECT} && runuser -u nobody -- bash scripts/install_systemd.sh", check=False).returncode == 77
