"""Redeployment, the ways back, and the verification, on the installed service."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.nights import at_night
from tests.systemd.machine import wait_until, wheels
from tests.systemd.server import OFFLINE, PREFIX, PROJECT, UNIT, Server

# Of the quick tests the first file says what is wrong with a version; the others are as they are.
VERSION, MAIN, TESTS = "hk_tick_collector/__init__.py", "hk_tick_collector/main.py", "tests/unit/test_config.py"
# A release takes a while to build, so one version serves all these tests: this file says what is wrong with it.
FAULT = "/srv/fault"
ARGUMENTS_LINE = "    args = _parser().parse_args(argv)\n"
FAULTY_MAIN = f"""\
    fault = Path("{FAULT}").read_text() if Path("{FAULT}").exists() else ""
    if fault == "start":
        raise SystemExit("broken at start")
    if fault == "wrong port":
        os.environ["FUTU_PORT"] = "1"
    if fault == "hang":
        import time
        time.sleep(600)
"""
FAULTY_TESTS = f"""\
from pathlib import Path


def test_nothing():
    assert not Path("{FAULT}").exists(), "broken commit"
"""
# What it runs when it is built.
SETUP = "setup.py"
TELLTALE = """\
import os, pathlib, setuptools
with pathlib.Path("/srv/built-by").open("a") as file:
    file.write(f"{os.getuid()} {os.getgid()} {sorted(os.getgroups())} {os.access('/opt', os.W_OK)}\\n")
if os.fork() == 0:
    os.setsid()
    os.closerange(0, 256)  # pip waits for whoever holds its pipe
    os.execvp("sleep", ["sleep", "998877"])
setuptools.setup()
"""


@contextlib.contextmanager
def _changing(server: Server) -> Iterator[None]:
    """Afterwards the project's directory has its content again."""
    texts = {name: server.project.joinpath(name).read_text() for name in (VERSION, MAIN, TESTS)}
    yield
    for name, text in texts.items():
        server.write(name, text)
    server.project.joinpath(SETUP).unlink(missing_ok=True)
    server.commit("as before")


@pytest.fixture
def deployed(server: Server) -> Iterator[str]:
    """The commit in use."""
    commit = server.machine.run(f"git -C {PREFIX} rev-parse HEAD").stdout.strip()
    with _changing(server):
        yield commit


@pytest.fixture(scope="module")
def another(installed: Server) -> str:
    """The commit of another version, which is good as long as there is no FAULT; the first redeployment builds it."""
    main = installed.project.joinpath(MAIN).read_text()
    assert ARGUMENTS_LINE in main
    with _changing(installed):
        installed.write(VERSION, '"""Another version."""\n\n__version__ = "9.9.9"\n')
        installed.write(MAIN, main.replace(ARGUMENTS_LINE, ARGUMENTS_LINE + FAULTY_MAIN))
        installed.write(TESTS, FAULTY_TESTS)
        installed.write(SETUP, TELLTALE)
        return installed.commit("another version")


@pytest.fixture
def fault(server: Server) -> Iterator[Callable[[str], None]]:
    """``fault(WHAT)`` is what is wrong with the other version from now on; nothing any more afterwards."""
    file = server.machine.root / FAULT.lstrip("/")
    yield file.write_text
    file.unlink(missing_ok=True)


def _in_use(server: Server) -> str:
    return server.machine.run(f"git -C {PREFIX} rev-parse HEAD").stdout.strip()


def _version(server: Server) -> str:
    return server.machine.run(f"{PREFIX}/venv/bin/hk-tick-collector --version").stdout.split()[-1]


def test_local_changes_and_unknown_refs_are_refused(server: Server, deployed: str) -> None:
    done = server.redeploy("no-such-branch", check=False)
    assert (done.returncode, "not a branch, tag or commit" in done.stdout) == (1, True)
    server.machine.run(f"echo >>{PREFIX}/README.md")
    try:
        done = server.redeploy(check=False)
        assert (done.returncode, "changes of its own" in done.stdout) == (1, True)
    finally:
        server.machine.run(f"git -C {PREFIX} checkout -q README.md")
    assert _in_use(server) == deployed
    assert server.machine.show("ActiveState") == "active"


@dataclass(frozen=True)
class Update:
    """A redeployment to another version, and the way back from it."""

    output: str
    pids: tuple[int, int]
    states: list[tuple[str, str]]  # commit in use and version: before, updated, back again
    built_by: list[str]
    still_running: str
    foreign_files: str
    in_use: tuple[str, str]  # files of the release that recorded, before and after the update
    output_of_rollback: str


@pytest.fixture(scope="module")
def update(installed: Server, another: str) -> Update:
    """One for all tests that look at what it did: each release takes a while."""
    run = installed.machine.run
    installed.recover()
    states = [(_in_use(installed), _version(installed))]
    pid = installed.pid()
    run("rm -f /srv/built-by; touch /srv/built-by; chmod 666 /srv/built-by")
    # An installation that was interrupted left this: without .complete it counts for nothing.
    run(f"mkdir -p {PREFIX}/releases/{another}/bin && touch {PREFIX}/releases/{another}/bin/python")
    listed = f"cd {PREFIX}/releases/{states[0][0]} && find . -printf '%p %i %m %s %T@\\n' | sort"
    before = run(listed).stdout
    output = installed.redeploy("--market open", another).stdout
    after = run(listed).stdout
    new_pid = installed.pid()
    states.append((_in_use(installed), _version(installed)))
    installed.wait_recording()
    back = f"ROLLBACK_REF={states[0][0]} bash {PREFIX}/scripts/rollback_hk_tick_collector.sh"
    output_of_rollback = run(f"{back} --market closed", timeout_sec=500, **OFFLINE).stdout
    states.append((_in_use(installed), _version(installed)))
    return Update(
        output=output,
        pids=(pid, new_pid),
        states=states,
        built_by=run("cat /srv/built-by").stdout.splitlines(),
        still_running=run("pgrep -f 'sleep 99887[7]'", check=False).stdout,
        foreign_files=run(f"find {PREFIX}/releases ! -user root").stdout,
        in_use=(before, after),
        output_of_rollback=output_of_rollback,
    )


def test_a_good_commit_and_the_way_back(server: Server, another: str, update: Update) -> None:
    steps = [line[3:].split(":")[0] for line in update.output.splitlines() if line.startswith("== ")]
    assert steps == ["sync", "install", "tests", "stop", "repair", "start", "acceptance", "verify"]
    assert re.search(r"^\d{2,} passed in ", update.output, re.MULTILINE), "the quick tests"
    assert "installing release" in update.output
    assert "result=pass" in update.output
    before, updated, back_again = update.states
    assert updated == (another, "9.9.9")
    assert update.pids[0] != update.pids[1]
    shown = [line for line in update.output.splitlines() if line.startswith("  ")]
    assert len(shown) == len(set(shown)) > 0, "the journal is shown once"

    assert "already built" in update.output_of_rollback, "the former environment is used again"
    assert back_again == before != updated
    server.wait_recording()


def test_a_version_is_built_without_roots_rights(server: Server, update: Update) -> None:
    """Whoever may push to the branch runs code when it is built: as a user who owns nothing, and no longer."""
    assert "building as hk-tick-build" in update.output
    build_user = server.machine.run("id -u hk-tick-build").stdout.strip()
    assert update.built_by
    assert {line.split()[0] for line in update.built_by} == {build_user}
    assert all(line.endswith("False") for line in update.built_by), update.built_by
    assert update.still_running == "", "what it left running has ended with the build"
    assert update.foreign_files == ""


def test_what_an_update_leaves_as_it_is_is_shared_and_never_written(update: Update) -> None:
    """All libraries but what the quick tests need; both versions run from the same files."""
    told = re.search(r"(\d+) of (\d+) packages are linked from the release in use", update.output)
    assert told is not None, update.output
    assert 50 < int(told[1]) < int(told[2])
    before, after = update.in_use
    assert len(before.splitlines()) > 3000
    assert before == after


@at_night(held_by="test_a_good_commit_and_the_way_back")
def test_tests_of_ones_own_choice_have_all_tools(server: Server, deployed: str, another: str) -> None:
    """Words for pytest, here for one of its plugins that the quick tests do without."""
    shutil.copytree(wheels("dev.txt"), server.machine.root / "srv/dev-wheels")
    choice = "--tests '-q -n 2 tests/unit/test_logline.py' --market open"
    output = server.redeploy(choice, another, PIP_FIND_LINKS="/srv/dev-wheels").stdout
    shutil.rmtree(server.machine.root / "srv/dev-wheels")
    assert "-n 2 tests/unit/test_logline.py" in output
    assert re.search(r"^\d+ passed in ", output, re.MULTILINE)
    assert _in_use(server) == another
    back = f"ROLLBACK_REF={deployed} bash {PREFIX}/scripts/rollback_hk_tick_collector.sh"
    server.machine.run(f"{back} --market closed", timeout_sec=500, **OFFLINE)
    server.wait_recording()


def test_a_branch_named_as_a_commit_is_not_installed(server: Server, deployed: str) -> None:
    server.machine.run(f"git -C {PROJECT} branch {deployed} && git -C {PROJECT} branch {deployed[:12]}")
    server.write("hk_tick_collector/__init__.py", '"""Foreign."""\n\n__version__ = "6.6.6"\n')
    foreign = server.commit("foreign")
    server.machine.run(
        f"git -C {PROJECT} branch -f {deployed} {foreign}; git -C {PROJECT} branch -f {deployed[:12]} {foreign}"
    )
    try:
        for name in (deployed, deployed[:12]):
            output = server.redeploy("--skip-tests --market closed", name).stdout
            assert "also the name of a branch or tag" in output
            assert _in_use(server) == deployed
    finally:
        server.machine.run(f"git -C {PROJECT} branch -D {deployed} {deployed[:12]}")


def test_a_commit_whose_tests_fail_never_stops_the_recorder(
    server: Server, deployed: str, another: str, fault: Callable[[str], None]
) -> None:
    fault("tests")
    pid = server.pid()
    done = server.redeploy(another, check=False)
    assert done.returncode == 1, done.stdout
    assert "broken commit" in done.stdout
    assert "== stop" not in done.stdout
    assert server.pid() == pid
    assert _in_use(server) == deployed
    server.wait_recording()


def test_a_commit_that_does_not_start_is_rolled_back(
    server: Server, deployed: str, another: str, fault: Callable[[str], None]
) -> None:
    fault("start")
    done = server.redeploy("--skip-tests", another, check=False)
    assert done.returncode == 1, done.stdout
    assert "broken at start" in done.stdout
    assert f"rolled back: {deployed[:12]} records again" in done.stdout
    assert _in_use(server) == deployed
    assert server.machine.show("ActiveState") == "active"
    server.wait_recording()

    done = server.redeploy("--skip-tests --no-rollback", another, check=False)
    assert done.returncode == 1, done.stdout
    assert _in_use(server) == another
    back = f"ROLLBACK_REF={deployed} bash {PREFIX}/scripts/rollback_hk_tick_collector.sh"
    server.machine.run(back, timeout_sec=500, **OFFLINE)
    server.wait_recording()


def test_a_commit_that_records_nothing_is_rolled_back(
    server: Server, deployed: str, another: str, fault: Callable[[str], None]
) -> None:
    """It starts and says so, but the verification finds no fresh tick."""
    fault("wrong port")
    done = server.redeploy("--skip-tests --market open", another, check=False)
    assert done.returncode == 1, done.stdout
    assert "result=fail" in done.stdout
    assert _in_use(server) == deployed
    server.wait_recording()


def test_a_way_back_that_does_not_start_leaves_the_version_in_use(
    server: Server, deployed: str, another: str, update: Update, fault: Callable[[str], None]
) -> None:
    """An earlier version may refuse settings or a day file of a later one: then nobody would record."""
    asked = server.machine.run(f"bash {PREFIX}/scripts/rollback_hk_tick_collector.sh", check=False)
    assert (asked.returncode, f"  {another[:12]}  built on 20" in asked.stdout) == (2, True), asked.stdout
    assert deployed[:12] not in asked.stdout, "it is in use"
    fault("start")
    back = f"ROLLBACK_REF={another} bash {PREFIX}/scripts/rollback_hk_tick_collector.sh"
    done = server.machine.run(back, timeout_sec=500, check=False, **OFFLINE)
    assert done.returncode == 1, done.stdout
    assert "broken at start" in done.stdout
    assert f"rolled back: {deployed[:12]} records again" in done.stdout
    assert _in_use(server) == deployed
    server.wait_recording()


@pytest.mark.parametrize("script", ["redeploy", "rollback"])
def test_an_update_that_is_broken_off_leaves_the_version_in_use(
    server: Server, deployed: str, another: str, update: Update, fault: Callable[[str], None], script: str
) -> None:
    """As Ctrl-C at a terminal does: all of the foreground gets the signal, here while the new version starts."""
    fault("hang")
    command = f"{PREFIX}/scripts/{script}_hk_tick_collector.sh"
    options = f"--skip-tests {another}" if script == "redeploy" else ""
    run = server.machine.run
    group = f"setsid --wait bash -c 'echo $$ >/srv/group; exec bash {command} {options}' >/srv/output 2>&1 </dev/null"
    run(f"rm -f /srv/ended; ({group}; echo $? >/srv/ended) >/dev/null 2>&1 &", ROLLBACK_REF=another, **OFFLINE)
    wait_until(lambda: server.machine.show("ActiveState") == "activating", "the new version starts", timeout_sec=300)
    assert _in_use(server) == another
    run("kill -TERM -- -$(cat /srv/group)")
    wait_until(lambda: run("cat /srv/ended", check=False).stdout.strip() == "143", "it has ended", timeout_sec=120)
    output = run("cat /srv/output").stdout
    assert f"rolled back: {deployed[:12]} records again" in output
    assert _in_use(server) == deployed
    server.wait_recording()


def _verify(server: Server, *options: str) -> tuple[int, str]:
    command = f"sudo bash {PREFIX}/scripts/verify_hk_tick_collector.sh {' '.join(options)}"
    done = server.machine.run(command, check=False)
    return done.returncode, done.stdout


def test_verify_both_ways(server: Server) -> None:
    wait_until(lambda: "persist_loop_heartbeat" in server.machine.journal(arguments="-n 20"), "heartbeat lines")
    code, output = _verify(server, "--market open")
    assert code == 0, output
    facts = dict(line.split("=", 1) for line in output.splitlines() if "=" in line and not line.startswith(" "))
    for key in ("now_utc", "phase", "max_ts_utc", "max_minus_now_sec", "rows", "watchdog_count", "new_rows"):
        assert key in facts
    assert abs(float(facts["max_minus_now_sec"])) < 60
    assert facts["journal_mode"] == "wal"
    assert facts["busy_timeout"] == "5000"
    assert "  persist_loop_heartbeat" in output

    server.simulator.ctl("silent seconds=600")
    server.write_settings(FUTU_POLL_ENABLED=0, BACKFILL_N=0)
    server.machine.run(f"systemctl restart {UNIT}")
    try:
        code, output = _verify(server, "--market open --max-lag-sec 1 --growth-sec 2")
        assert code == 1, output
        assert "fail: no row was added within 2 s" in output
        assert _verify(server, "--market closed")[0] == 0, "at night silence is no fault"
    finally:
        server.simulator.ctl("clear")
    server.machine.run(f"systemctl stop {UNIT}")
    code, output = _verify(server, "--market closed")
    assert code == 1
    assert f"fail: {UNIT} is inactive" in output


def test_uninstall_keeps_data_and_settings(server: Server) -> None:
    run = server.machine.run
    rows = server.rows()
    settings = run(f"cat {PREFIX}/.env").stdout
    # A release that is there again need not be built again: links to what is installed, and the project stands there.
    run(f"git -C {PROJECT} reset --quiet --hard {_in_use(server)}; cp -al {PREFIX}/releases /srv/kept-releases")
    try:
        server.install("--uninstall")
        assert run(f"systemctl cat {UNIT}", check=False).returncode != 0
        assert run(f"test ! -e {PREFIX}/venv && test ! -e {PREFIX}/releases; cat {PREFIX}/.env").stdout == settings
        assert server.rows() >= rows
        run("test ! -e /usr/local/bin/hk-tickctl && test ! -e /usr/local/share/man/man1/hk-tickctl.1")
    finally:
        run(f"rm -rf {PREFIX}/releases; mv /srv/kept-releases {PREFIX}/releases")
        assert "is already built" in server.install("--start")
    server.wait_recording()
