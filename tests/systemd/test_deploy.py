"""Redeployment, the ways back, and the verification, on the installed service."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.harness import wait_until
from tests.systemd.server import OFFLINE, PREFIX, PROJECT, UNIT, Server

VERSION, MAIN, TESTS = "hk_tick_collector/__init__.py", "hk_tick_collector/main.py", "tests/unit/test_logline.py"
QUICK = f"--tests '-q {TESTS}'"
# A release takes a minute to build, so one version serves all these tests: this file says what is wrong with it.
FAULT = "/srv/fault"
ARGUMENTS_LINE = "    args = _parser().parse_args(argv)\n"
FAULTY_MAIN = f"""\
    fault = Path("{FAULT}").read_text() if Path("{FAULT}").exists() else ""
    if fault == "start":
        raise SystemExit("broken at start")
    if fault == "wrong port":
        os.environ["FUTU_PORT"] = "1"
"""
FAULTY_TESTS = f"""\
from pathlib import Path


def test_nothing():
    assert not Path("{FAULT}").exists(), "broken commit"
"""


@contextlib.contextmanager
def _changing(server: Server) -> Iterator[None]:
    """Afterwards the project's directory has its content again."""
    texts = {name: server.project.joinpath(name).read_text() for name in (VERSION, MAIN, TESTS)}
    yield
    for name, text in texts.items():
        server.write(name, text)
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


def test_a_good_commit_and_the_way_back(server: Server, deployed: str, another: str) -> None:
    former = _version(server)
    pid = server.pid()
    output = server.redeploy(QUICK, "--market open", another).stdout
    steps = [line[3:].split(":")[0] for line in output.splitlines() if line.startswith("== ")]
    assert steps == ["sync", "install", "tests", "stop", "repair", "start", "acceptance", "verify"]
    assert "result=pass" in output
    assert _in_use(server) == another
    assert _version(server) == "9.9.9"
    assert server.pid() != pid
    server.wait_recording()

    back = f"ROLLBACK_REF={deployed} bash {PREFIX}/scripts/rollback_hk_tick_collector.sh"
    output = server.machine.run(f"{back} --market closed", timeout_sec=500, **OFFLINE).stdout
    assert "already built" in output, "the former environment is used again"
    assert _in_use(server) == deployed
    assert _version(server) == former
    server.wait_recording()


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


def test_a_version_is_built_without_roots_rights(server: Server, deployed: str) -> None:
    """Whoever may push to the branch runs code when it is built: as a user who owns nothing, and no longer."""
    run = server.machine.run
    run("rm -f /srv/built-by; touch /srv/built-by; chmod 666 /srv/built-by")
    setup = server.project / "setup.py"
    setup.write_text(TELLTALE)
    try:
        commit = server.commit("runs code when it is built")
        output = server.redeploy("--skip-tests --market closed").stdout
        assert _in_use(server) == commit
        build_user = run("id -u hk-tick-build").stdout.strip()
        built_by = set(run("cat /srv/built-by").stdout.splitlines())
        assert built_by
        assert {line.split()[0] for line in built_by} == {build_user}
        assert all(line.endswith("False") for line in built_by), built_by
        assert run("pgrep -f 'sleep 99887[7]'", check=False).stdout == "", (
            "what it left running has ended with the build"
        )
        assert run(f"find {PREFIX}/releases ! -user root").stdout == ""
        shown = [line for line in output.splitlines() if line.startswith("  ")]
        assert len(shown) == len(set(shown)) > 0, "the journal is shown once"
    finally:
        setup.unlink()


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
    done = server.redeploy(QUICK, another, check=False)
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
    rows = server.rows()
    settings = server.machine.run(f"cat {PREFIX}/.env").stdout
    try:
        server.install("--uninstall")
        assert server.machine.run(f"systemctl cat {UNIT}", check=False).returncode != 0
        assert (
            server.machine.run(f"test ! -e {PREFIX}/venv && test ! -e {PREFIX}/releases; cat {PREFIX}/.env").stdout
            == settings
        )
        assert server.rows() >= rows
        server.machine.run("test ! -e /usr/local/bin/hk-tickctl && test ! -e /usr/local/share/man/man1/hk-tickctl.1")
        # An installation that was interrupted left this: without .complete it counts for nothing.
        release = f"{PREFIX}/releases/$(git -C {PROJECT} rev-parse HEAD)"
        server.machine.run(f"mkdir -p {release}/bin && touch {release}/bin/python")
    finally:
        output_lines = server.install("--start").splitlines()
    assert any("building as hk-tick-build" in line for line in output_lines)
    assert any("installing release" in line for line in output_lines)
    server.wait_recording()
