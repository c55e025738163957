"""The recorder under a real systemd: start, failures, reload, stop."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from pathlib import Path

from tests.harness import check
from tests.systemd.machine import wait_until
from tests.systemd.server import DATA_ROOT, PREFIX, UNIT, Server


def test_start_is_told_and_kept_up_to_date(server: Server) -> None:
    assert server.machine.show("ActiveState") == "active"
    assert server.machine.show("SubState") == "running"
    assert server.machine.show("NotifyAccess") == "main"
    first = wait_until(lambda: server.machine.show("StatusText"), "a status text")
    wait_until(lambda: server.machine.show("StatusText") not in ("", first), "the status text changes")


def test_the_commands_of_the_cheat_sheet(server: Server) -> None:
    run = server.machine.run
    # A line every second, so two are enough to have all words.
    wait_until(lambda: "persist_loop_heartbeat" in server.machine.journal(arguments="-n 50"), "heartbeat lines")
    run(f"sudo systemctl status {UNIT} --no-pager")
    assert run(f"sudo systemctl is-active {UNIT}").stdout == "active\n"
    lines = run(
        f'sudo journalctl -u {UNIT} --since "10 minutes ago" --no-pager '
        '| grep -E "health|persist_summary|persist_loop_heartbeat|WATCHDOG|sqlite_busy|ERROR|Traceback"'
    ).stdout
    assert "health connected=True" in lines
    assert "persist_summary" in lines
    assert run(f"sudo journalctl -u {UNIT} -b --no-pager | tail -n 200").stdout
    assert float(run(_on_todays_file("SELECT ROUND(strftime('%s','now')-MAX(ts_ms)/1000.0,3) FROM ticks;")).stdout) < 30
    by_symbol = run(
        _on_todays_file(
            "SELECT symbol, COUNT(*) AS rows, MAX(seq) AS max_seq FROM ticks GROUP BY symbol ORDER BY rows DESC;"
        )
    ).stdout
    assert len(by_symbol.splitlines()) == 2
    run(f"nc -vz 127.0.0.1 {server.simulator.port}")
    snapshot = f'{_TODAY} && sqlite3 "$DB" ".backup /tmp/snapshot.db" && sqlite3 /tmp/snapshot.db "PRAGMA quick_check"'
    assert run(snapshot).stdout == "ok\n"
    assert run(f'{_TODAY} && bash {PREFIX}/scripts/db_health_check.sh "$DB"').stdout.endswith("result=pass\n")


_TODAY = f"DAY=$(TZ=Asia/Hong_Kong date +%Y%m%d) && DB={DATA_ROOT}/${{DAY}}.db"


def _on_todays_file(sql: str) -> str:
    return f'{_TODAY} && sqlite3 "file:${{DB}}?mode=ro" "{sql}"'


def test_a_killed_recorder_comes_back_without_a_hole(server: Server, tmp_path: Path) -> None:
    since_ms = _newest_ms(server)
    pid = server.pid()
    cursor = server.cursor()
    server.machine.run(f"kill -9 {pid}")
    wait_until(lambda: server.pid() not in (0, pid), "a new process")
    server.wait_said("backfill_done", cursor)  # what was traded while it was away
    server.wait_recording()
    done = _stop_and_check(server, tmp_path, since_ms)
    assert done.returncode == 0, done.stdout + done.stderr


def _newest_ms(server: Server) -> int:
    """The newest tick stored by now. What an installation before this test missed is not this test's affair: it may
    have taken longer than OpenD's memory reaches back."""
    rows = server.machine.run(f"for db in {DATA_ROOT}/*.db; do sqlite3 $db 'SELECT MAX(ts_ms) FROM ticks'; done").stdout
    return max(map(int, rows.split()))


def _stop_and_check(server: Server, tmp_path: Path, since_ms: int) -> subprocess.CompletedProcess[str]:
    """Is every tick since then stored? The market stands meanwhile, so that no newest seconds need be left out; what it
    made just before may still be under way."""
    only = ("--symbols", "HK.00700", "--since-ms", str(since_ms))
    live = server.machine.root / DATA_ROOT.lstrip("/")
    server.simulator.ctl("stand")
    try:
        with contextlib.suppress(AssertionError):  # the check below says what is missing
            wait_until(lambda: check(server.simulator, live, *only).returncode == 0, "every tick", 30)
        server.machine.run(f"systemctl stop {UNIT}")
        return check(server.simulator, server.copy_data(tmp_path / "data"), *only)
    finally:
        server.simulator.ctl("run")


def test_the_delay_grows_while_it_fails_and_a_good_start_forgets_it(server: Server) -> None:
    server.drop_in("[Service]\nExecStart=\nExecStart=/bin/false\n")
    cursor = server.cursor()
    server.machine.run(f"systemctl restart {UNIT}", check=False)
    lines = server.wait_said("restart_delay failures=3", cursor)
    assert re.findall(r"failures=(\d+) delay_sec=(\d+)", lines)[:2] == [("2", "2"), ("3", "4")]
    assert server.machine.show("Result") in ("exit-code", "success"), "not the start limit"
    server.machine.run(f"systemctl stop {UNIT}")
    server.drop_in("")
    cursor = server.cursor()
    server.machine.run(f"systemctl start {UNIT}")
    delays_sec = re.findall(r"restart_delay .*delay_sec=(\d+)", server.journal_since(cursor))
    assert all(int(delay_sec) <= 8 for delay_sec in delays_sec), "an operator waits for the step that was due"


def test_a_frozen_recorder_is_killed_by_the_watchdog(server: Server) -> None:
    server.drop_in("[Service]\nWatchdogSec=8\nTimeoutAbortSec=2\n")
    server.machine.run(f"systemctl restart {UNIT}")
    server.wait_recording()
    pid = server.pid()
    time.sleep(10)  # longer than the watchdog waits: while data moves it is fed
    assert server.pid() == pid
    cursor = server.cursor()
    server.machine.run(f"kill -STOP {pid}")
    wait_until(lambda: server.pid() not in (0, pid), "a new process", 90)
    assert "Watchdog timeout" in server.journal_since(cursor)
    server.wait_recording()


def test_a_reload_takes_a_new_symbol_list_and_loses_nothing(server: Server, tmp_path: Path) -> None:
    since_ms = _newest_ms(server)
    pid = server.pid()
    cursor = server.cursor()
    server.write_settings(FUTU_SYMBOLS="HK.00700,HK.03690")
    server.machine.run(f"systemctl reload {UNIT}")
    wait_until(lambda: "HK.03690" in _recent_symbols(server), "ticks of the new symbol")
    assert server.pid() == pid
    assert server.machine.show("ActiveState") == "active"
    done = _stop_and_check(server, tmp_path, since_ms)
    assert done.returncode == 0, done.stdout + done.stderr + server.journal_since(cursor)[-3000:]


def _recent_symbols(server: Server) -> set[str]:
    sql = "SELECT DISTINCT symbol FROM ticks WHERE ts_ms > (SELECT MAX(ts_ms) FROM ticks) - 3000"
    return set(server.machine.run(_on_todays_file(sql)).stdout.split())


def test_a_reload_of_a_wrong_list_keeps_the_old_one(server: Server) -> None:
    pid = server.pid()
    cursor = server.cursor()
    server.write_settings(FUTU_SYMBOLS="HK.00700,NONSENSE")
    server.machine.run(f"systemctl reload {UNIT}", check=False)
    server.wait_said("NONSENSE", cursor)
    assert server.pid() == pid
    server.wait_recording()


def test_it_outlives_opend(server: Server) -> None:
    """OpenD as a service of its own: absent at the start, then there, then gone and back."""
    machine = server.machine
    port = server.simulator.port + 1
    machine.run("mkdir -p /opt/futu-opend /etc/futu-opend; touch /etc/futu-opend/FutuOpenD.xml")
    stub = machine.root / "opt/futu-opend/FutuOpenD"
    with contextlib.suppress(FileNotFoundError):
        stub.unlink()
    stub.write_text(
        "#!/bin/sh\nset -e\n"
        'test -r "${1#-cfg_file=}"\n'
        f"exec {PREFIX}/venv/bin/hk-opend-sim run --port {port} --symbols HK.09988 --always-open --rate 20\n"
    )
    stub.chmod(0o755)
    server.install("--with-opend")
    machine.run("systemctl stop futu-opend", check=False)
    # A market of its own: of a symbol that no other test compares.
    server.write_settings(FUTU_PORT=port, FUTU_SYMBOLS="HK.09988")
    cursor = server.cursor()
    machine.run(f"systemctl restart {UNIT}")  # returns: ready does not wait for OpenD
    server.wait_said("connected=False", cursor)
    machine.run("systemctl start futu-opend")
    assert machine.run("systemctl is-active futu-opend").stdout == "active\n"
    server.wait_recording()
    pid = server.pid()
    machine.run("systemctl restart futu-opend")
    server.wait_recording()
    machine.run("systemctl stop futu-opend")
    assert server.pid() == pid
    assert machine.show("NRestarts") == "0"


def test_stop_with_a_backlog_loses_nothing(server: Server, tmp_path: Path) -> None:
    """A foreign lock on the day file while stopping: what cannot be committed waits in the spill for the next start."""
    since_ms = _newest_ms(server)
    machine = server.machine
    server.write_settings(STOP_FLUSH_TIMEOUT_SEC=2, SQLITE_BUSY_TIMEOUT_MS=500)
    machine.run(f"systemctl restart {UNIT}")
    server.wait_recording()
    cursor = server.cursor()
    lock = (
        "import sqlite3,sys,time; c=sqlite3.connect(sys.argv[1],isolation_level=None); c.execute('BEGIN IMMEDIATE'); "
        "print('locked',flush=True); time.sleep(60)"
    )
    machine.run(f'{_TODAY} && (setsid python3 -c "{lock}" "$DB" >/tmp/locked 2>&1 & echo $! >/tmp/lock.pid)')
    wait_until(lambda: "locked" in machine.run("cat /tmp/locked").stdout, "the lock")
    time.sleep(2)  # ticks come in and wait
    machine.run(f"systemctl stop {UNIT}")
    machine.run("kill $(cat /tmp/lock.pid)")
    journal = server.journal_since(cursor)
    assert re.search(r"stop_spilled rows=[1-9]", journal), journal[-3000:]
    assert machine.show("Result") == "success"
    machine.run(f"systemctl start {UNIT}")
    server.wait_recording()
    done = _stop_and_check(server, tmp_path, since_ms)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_configuration_is_not_tried_again(server: Server) -> None:
    server.write_settings(FUTU_SYMBOLS="NONSENSE")
    cursor = server.cursor()
    assert server.machine.run(f"systemctl restart {UNIT}", check=False).returncode != 0
    assert server.machine.show("ActiveState") == "failed"
    assert server.machine.show("ExecMainStatus") == "78"
    time.sleep(4)  # longer than RestartSec and the first delays
    assert server.machine.show("NRestarts") == "0"
    assert server.machine.show("ActiveState") == "failed"
    assert "NONSENSE" in server.journal_since(cursor)


def test_the_end_of_day_job_certifies_and_archives_what_is_over(server: Server) -> None:
    """As the service user, while the recorder goes on."""
    run = server.machine.run
    run(f"rm -rf {DATA_ROOT}/_reports {DATA_ROOT}/_archive")
    old = "20251119"
    run(f"""{_TODAY} && sqlite3 "$DB" '.backup {DATA_ROOT}/{old}.db' && chown {UNIT}: {DATA_ROOT}/{old}.db*""")
    server.wait_recording()
    run("systemctl start hk-tick-eod.service", check=False)  # 1 when the day misses its beginning, as here it may
    log = run("journalctl -u hk-tick-eod --no-pager -o cat").stdout
    archived = re.findall(r"(\d{8}): archived, verified: ", log)
    assert old in archived, log
    for day in archived:
        made = f"{DATA_ROOT}/_reports/{day}.json {DATA_ROOT}/_archive/manifests/{day}.json"
        assert run(f"stat -c '%U %a' {made}").stdout == "hk-tick-collector 640\n" * 2
    retain = f"{PREFIX}/venv/bin/hk-tickctl retain --keep-days 1 --env-file {PREFIX}/.env"
    deleted = run(f"cd / && runuser -u {UNIT} -- {retain}", check=False).stdout
    assert re.search(rf"{old} +deleted", deleted), deleted
    server.wait_recording()
