"""The installation script, and what systemd thinks of the units."""

from __future__ import annotations

import re

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


def test_the_service_user_cannot_write_its_code(installed: Server) -> None:
    found = installed.machine.run(
        f"runuser -u hk-tick-collector -- find {PREFIX} -writable -not -type l; getent passwd hk-tick-collector"
    ).stdout.splitlines()
    assert len(found) == 1
    assert found[0].endswith(":/var/lib/hk-tick-collector:/usr/sbin/nologin")


def test_systemd_has_nothing_to_complain_about(installed: Server) -> None:
    run = installed.machine.run
    run("mkdir -p /opt/futu-opend && ln -sf /bin/true /opt/futu-opend/FutuOpenD")
    assert run(f"systemd-analyze verify {OWN_UNIT} {PREFIX}/deploy/systemd/*.{{service,timer}}").stdout == ""
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


def test_dry_run_changes_nothing(installed: Server) -> None:
    # Without the inside of the environments: tens of thousands of files.
    state = f"find /etc {PREFIX} -path '*/lib/python*' -prune -o -printf '%p %T@ %m %u %l\\n' | sort"
    before = installed.machine.run(state).stdout
    output = installed.install("--dry-run", "--start", "--with-opend")
    assert "would run: systemctl enable" in output
    assert "would run: systemctl restart" in output
    assert installed.machine.run(state).stdout == before


def test_wrong_use_is_told(installed: Server) -> None:
    run = installed.machine.run
    assert run(f"bash {PROJECT}/scripts/install_systemd.sh --bogus", check=False).returncode == 2
    assert run(f"cd {PROJECT} && runuser -u nobody -- bash scripts/install_systemd.sh", check=False).returncode == 77
