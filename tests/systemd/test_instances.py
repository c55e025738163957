"""Further recorders beside the plain one: hk-tick-collector@NAME with NAME.env, a data root and an OpenD of its own.

One of them records another market.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.market.hk.sessions import hk_date
from tests.harness import Simulator, check, is_over
from tests.systemd.machine import wait_until
from tests.systemd.server import DATA_ROOT, PREFIX, PROJECT, UNIT, Server

NAMES = ("north", "us-1")
MARKETS = {"north": "HK", "us-1": "US"}
JOBS = (UNIT, "hk-tick-eod", "hk-tick-universe")
SYMBOLS = {"HK": "HK.00700,HK.09988", "US": "US.AAPL,US.BRK.B"}


def unit(name: str) -> str:
    return f"{UNIT}@{name}"


def root_of(name: str) -> str:
    return f"/data/sqlite/{name}"


def ask(server: Server, name: str, expression: str) -> int:
    """Of the newest day file; 0 when there is none yet."""
    command = f'sqlite3 "file:$(ls {root_of(name)}/????????.db | tail -n 1)?mode=ro" "SELECT {expression} FROM ticks"'
    answer = server.machine.run(command, check=False).stdout.strip()
    return int(answer) if answer.isdigit() else 0


def write_settings(server: Server, name: str, port: int, **changes: object) -> None:
    market = MARKETS[name]
    of_name = {"MARKET": market, "FUTU_SYMBOLS": SYMBOLS[market], "FUTU_PORT": port, "DATA_ROOT": root_of(name)}
    values = {**server.settings, **of_name, **changes}
    text = "".join(f"{key}={value}\n" for key, value in values.items())
    server.machine.root.joinpath(f"{PREFIX}/{name}.env".lstrip("/")).write_text(text)  # keeps owner and mode


@pytest.fixture(scope="module")
def simulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Simulator]]:
    """An OpenD for each, with other seeds: other ticks."""
    made: dict[str, Simulator] = {}
    try:
        for seed, name in enumerate(NAMES, 40):
            made[name] = Simulator(
                tmp_path_factory.mktemp(name), "--market", MARKETS[name], "--symbols", SYMBOLS[MARKETS[name]],
                "--always-open", "--rate", "20", "--no-rate-limits", "--seed", str(seed),
            )  # fmt: skip
        yield made
    finally:
        for sim in made.values():
            sim.end()


@pytest.fixture(scope="module")
def installed_instances(installed: Server, simulators: dict[str, Simulator]) -> Iterator[dict[str, Simulator]]:
    """Both installed as an operator does it."""
    try:
        for name in NAMES:
            output = installed.install("--instance", name)
            assert f"Set FUTU_SYMBOLS in {PREFIX}/{name}.env, then: sudo systemctl restart {unit(name)}" in output
        yield simulators
    finally:
        installed.machine.run(f"systemctl disable --now {' '.join(map(unit, NAMES))}", check=False)


@pytest.fixture
def instances(server: Server, installed_instances: dict[str, Simulator]) -> Iterator[dict[str, Simulator]]:
    """Both started on their own settings."""
    for name in NAMES:
        write_settings(server, name, installed_instances[name].port)
    units = " ".join(map(unit, NAMES))
    try:
        server.machine.run(f"systemctl reset-failed {units}; systemctl restart {units}")
        yield installed_instances
    finally:
        server.machine.run(f"systemctl stop {units}", check=False)


def test_two_more_recorders_record_beside_the_plain_one(server: Server, instances: dict[str, Simulator]) -> None:
    run, show = server.machine.run, server.machine.show
    pids, begun_ms = {server.pid()}, {}
    for name in NAMES:
        assert run(f"systemctl is-enabled {unit(name)} hk-tick-eod@{name}.timer").stdout.split() == ["enabled"] * 2
        assert run(f"stat -c '%U %G %a' {PREFIX}/{name}.env {root_of(name)}").stdout.splitlines() == [
            "root hk-tick-collector 640",
            "hk-tick-collector hk-tick-collector 750",
        ]
        assert show("ReadWritePaths", unit(name)) == f"-{root_of(name)}"
        wait_until(lambda name=name: ask(server, name, "COUNT(*)") > 100, f"rows of {name}", 60)
        begun_ms[name] = ask(server, name, "MAX(ts_ms)")
        assert ask(server, name, f"SUM(market = '{MARKETS[name]}') = COUNT(*)") == 1
        assert f"data_root={root_of(name)}" in server.machine.journal(unit(name))
        pids.add(int(show("MainPID", unit(name))))
    assert len(pids) == 3
    server.wait_recording()

    # One that ends touches no other; the plain unit's own journal has not a word of the others.
    plain, cursor = server.pid(), server.cursor()
    run(f"kill -9 {show('MainPID', unit(NAMES[0]))}")
    wait_until(lambda: int(show("MainPID", unit(NAMES[0]))) not in {0, *pids}, "a new process")
    after = f"--after-cursor='{cursor}'"
    wait_until(lambda: "backfill_done" in server.machine.journal(unit(NAMES[0]), arguments=after), "the way back", 40)
    assert int(show("MainPID", unit(NAMES[1]))) in pids
    assert server.pid() == plain
    assert root_of(NAMES[0]) not in server.machine.journal()

    # What each has is what its own OpenD sent, from when it had begun. The markets stand, so that the last tick comes.
    for name, sim in instances.items():
        data = server.machine.root / root_of(name).lstrip("/")
        sim.ctl("stand")
        try:
            wait_until(
                lambda sim=sim, data=data, name=name: (
                    check(sim, data, "--since-ms", str(begun_ms[name])).returncode == 0
                ),
                f"every tick of {name}",
                60,
            )
        finally:
            sim.ctl("run")


def test_each_has_its_own_choice_of_symbols_switched_off(server: Server, instances: dict[str, Simulator]) -> None:
    run, show = server.machine.run, server.machine.show
    timers = [f"hk-tick-universe@{name}.timer" for name in NAMES]
    assert run(f"systemctl is-enabled {' '.join(timers)}", check=False).stdout.split() == ["disabled"] * 2
    server.install("--instance", NAMES[0])  # of each the settings were changed, and the timer's hour is the market's
    for name, timer in zip(NAMES, timers, strict=True):
        assert {"HK": "Asia/Hong_Kong", "US": "America/New_York"}[MARKETS[name]] in show("TimersCalendar", timer)
    name = NAMES[0]
    chosen = f"/var/lib/hk-tick-collector/symbols-{name}.txt"
    write_settings(server, name, instances[name].port, FUTU_SYMBOLS=f"@{chosen}")
    run(f"mkdir -p /etc/systemd/system/hk-tick-universe@{name}.service.d")
    override = f"/etc/systemd/system/hk-tick-universe@{name}.service.d/override.conf"
    server.machine.root.joinpath(override.lstrip("/")).write_text('[Service]\nEnvironment="UNIVERSE=--limit 2"\n')
    run("systemctl daemon-reload")
    try:
        done = run(f"systemctl start hk-tick-universe@{name}.service", check=False)
        assert done.returncode == 0, server.machine.journal(f"hk-tick-universe@{name}.service")
        text = run(f"cat {chosen}").stdout
        assert 0 < len(set(re.findall(r"\bHK\.\d{5}\b", text))) <= 2, text
        assert run(f"stat -c %U {chosen}").stdout.strip() == "hk-tick-collector"
        assert show("ReadWritePaths", f"hk-tick-universe@{name}") == f"-{root_of(name)}"
    finally:
        run(f"rm -f {override} {chosen}; systemctl daemon-reload")


def test_the_data_root_of_another_recorder_is_refused(server: Server, instances: dict[str, Simulator]) -> None:
    name = NAMES[0]
    write_settings(server, name, instances[name].port, DATA_ROOT=DATA_ROOT)
    try:
        server.install("--instance", name)
        run = server.machine.run
        run(f"systemctl reset-failed {unit(name)}; systemctl restart {unit(name)}", check=False)
        wait_until(lambda: server.machine.show("ActiveState", unit(name)) == "failed", "exit 78, and no restart")
        assert server.machine.show("ExecMainStatus", unit(name)) == "78"
        assert f"another recorder (pid {server.pid()})" in server.machine.journal(unit(name))
        server.wait_recording()
    finally:
        write_settings(server, name, instances[name].port)
        drop_ins = " ".join(f"/etc/systemd/system/{job}@{name}.service.d/10-settings.conf" for job in JOBS)
        server.machine.run(f"rm -f {drop_ins}; systemctl daemon-reload")


def test_one_target_starts_stops_and_restarts_all_of_them(server: Server, instances: dict[str, Simulator]) -> None:
    run, show = server.machine.run, server.machine.show
    units = [UNIT, *map(unit, NAMES)]

    def pids() -> list[int]:
        return [int(show("MainPID", unit_name)) for unit_name in units]

    assert run("systemctl is-enabled hk-tick.target").stdout.strip() == "enabled"
    run("systemctl stop hk-tick.target")
    assert pids() == [0, 0, 0]
    run("systemctl start hk-tick.target")
    wait_until(lambda: sources(server)["verdict"] == "fine", "each is well", 60)
    begun = pids()
    assert 0 not in begun
    run(f"systemctl restart {units[1]}")
    after = pids()
    assert (after[0], after[2]) == (begun[0], begun[2]), "one by itself touches no other"
    assert after[1] not in (0, begun[1])
    run("systemctl restart hk-tick.target")
    wait_until(lambda: not {0, *after} & set(pids()), "new processes", 60)
    server.wait_recording()
    wait_until(lambda: all(source["link_state"] == "ready" for source in sources(server)["sources"]), "connections", 60)
    wait_until(lambda: sources(server)["verdict"] == "fine", "each is well", 60)
    told = {source["unit"]: source for source in sources(server)["sources"]}
    assert {name: (told[name]["market"], told[name]["link_state"]) for name in units} == {
        UNIT: ("HK", "ready"), unit(NAMES[0]): ("HK", "ready"), unit(NAMES[1]): ("US", "ready"),
    }  # fmt: skip
    run(f"systemctl stop {units[1]}")
    assert sources(server)["verdict"] == "problem"


def sources(server: Server) -> dict[str, Any]:
    """What the command on the path says of all recorders."""
    listed: dict[str, Any] = json.loads(server.machine.run("hk-tickctl sources --json", check=False).stdout)
    return listed


def test_systemd_has_nothing_to_complain_about(server: Server, instances: dict[str, Simulator]) -> None:
    files = " ".join(f"/etc/systemd/system/{file}" for file in (f"{UNIT}@.service", "hk-tick-eod@.service"))
    assert server.machine.run(f"systemd-analyze verify {files}").stdout == ""
    job = f"hk-tick-eod@{NAMES[0]}"
    done = server.machine.run(f"systemctl start {job}; systemctl show -p Result -p ExecMainStatus {job}")
    if not is_over(today := hk_date(SystemClock().now_ms())):
        assert "Result=success" in done.stdout
    else:  # the day is certified, which was recorded from its middle on: 1 says that ticks may be missing
        assert re.search(r"^ExecMainStatus=[01]$", done.stdout, re.MULTILINE), done.stdout
        assert server.machine.run(f"test -f {root_of(NAMES[0])}/_reports/{today}.json").returncode == 0


def test_a_name_that_could_lead_elsewhere_is_refused(installed: Server) -> None:
    for name in ("../up", "", "a/b", "a b", "-x", "x" * 40):
        done = installed.machine.run(f"bash {PROJECT}/scripts/install_systemd.sh --instance '{name}'", check=False)
        assert done.returncode == 2, done.stdout
        assert "--instance wants a name" in done.stdout
