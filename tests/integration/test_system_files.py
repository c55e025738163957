"""hk-tickctl on a machine: man pages and completion made of its help, and the command on everybody's path."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hk_tick_collector.cli import system_files
from hk_tick_collector.cli.main import COMMANDS, tickctl
from tests.harness import BIN, clean_env

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "scripts/lib_deploy.sh"


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the files, written as root writes them."""
    where = tmp_path_factory.mktemp("prefix")
    command = [sys.executable, "-I", "-m", "hk_tick_collector.cli.system_files", str(where)]
    subprocess.run(command, check=True, cwd="/", timeout=60)
    return where


def test_every_command_has_a_page_with_its_options(prefix: Path) -> None:
    pages = prefix / "share/man/man1"
    for name in COMMANDS:
        command = tickctl.get_command(click.Context(tickctl), name)
        assert command is not None
        inner = command.commands if isinstance(command, click.Group) else {}
        for word, documented in ((name, command), *((f"{name}-{word}", member) for word, member in inner.items())):
            page = (pages / f"hk-tickctl-{word}.1").read_text()
            assert page.startswith('.TH "HK')
            for option in documented.params:
                if isinstance(option, click.Option) and not option.hidden:
                    assert f"{option.opts[0]}".replace("-", "\\-") in page, (word, option)
    assert len(list(pages.iterdir())) == len(set(pages.iterdir())) >= len(COMMANDS) + 1
    assert "hk\\-tickctl salvage" in (pages / "hk-tickctl.1").read_text()
    assert {stat.S_IMODE(path.stat().st_mode) for path in pages.iterdir()} == {0o644}


def test_text_that_roff_would_obey_is_text() -> None:
    texts = ("a\\fBb", ".so /etc/passwd", "'br", "--day")
    assert [system_files._roff(text) for text in texts] == ["a\\efBb", "\\&.so /etc/passwd", "\\&'br", "\\-\\-day"]


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff reads the pages where it is installed")
def test_groff_has_nothing_to_complain_about(prefix: Path) -> None:
    pages = sorted((prefix / "share/man/man1").iterdir())
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", *pages], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stderr == ""
    assert "else .env in the working directory" in " ".join(done.stdout.split())


def completed(prefix: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    script = (
        f'. {prefix}/share/bash-completion/completions/hk-tickctl; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_hk_tickctl_completion hk-tickctl; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {**clean_env(prefix / "home"), "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script, "bash", "hk-tickctl", *words], env=environment, capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.split()


def test_bash_completes_commands_and_options(prefix: Path) -> None:
    assert completed(prefix, "re") == ["repair", "restore", "retain"]
    assert "--days" in completed(prefix, "gaps", "--da")


# --- the command that install_systemd.sh writes


def bash(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Functions of the library with the places of a machine below ``tmp_path``."""
    library = tmp_path / "lib_deploy.sh"
    places = {
        "readonly PREFIX=/opt/futu_tick_downloader": f"readonly PREFIX={tmp_path}/opt",
        "readonly COMMAND=/usr/local/bin": f"readonly COMMAND={tmp_path}/local/bin",
        "readonly SHARE_PREFIX=/usr/local": f"readonly SHARE_PREFIX={tmp_path}/local",
        "readonly UNIT_DIR=/etc/systemd/system": f"readonly UNIT_DIR={tmp_path}/units",
    }
    source = LIBRARY.read_text()
    for there, here in places.items():
        assert source.count(there) == 1
        source = source.replace(there, here)
    library.write_text(source)
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail; . {library}\n{text}"], capture_output=True, text=True, check=False,
        cwd="/", timeout=120,
    )  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Where a release is installed with its settings."""
    release = tmp_path / "opt/venv/bin"
    release.mkdir(parents=True)
    (release / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (release / "python").chmod(0o755)
    (release / "hk-tickctl").symlink_to(BIN / "hk-tickctl")
    (tmp_path / "opt/.env").write_text(f"FUTU_SYMBOLS=HK.00700\nDATA_ROOT={tmp_path}/data\n")
    return tmp_path


def data_root_of(command: Path, home: Path, **settings: object) -> str:
    done = subprocess.run(
        [command, "config", "--changed"], env=clean_env(home, **settings), capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    return next((line.split()[1] for line in done.stdout.splitlines() if line.startswith("DATA_ROOT")), "")


def test_the_command_has_the_settings_of_the_service(machine: Path) -> None:
    done = bash(machine, "install_command")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    command = machine / "local/bin/hk-tickctl"
    assert stat.S_IMODE(command.stat().st_mode) == 0o755
    assert data_root_of(command, machine / "home") == f"{machine}/data"
    other = machine / "other.env"
    other.write_text(f"FUTU_SYMBOLS=HK.00700\nDATA_ROOT={machine}/other\n")
    assert data_root_of(command, machine / "home", HK_TICKCTL_ENV_FILE=other) == f"{machine}/other"
    assert (machine / "local/share/man/man1/hk-tickctl-day.1").exists()
    assert (machine / "local/share/bash-completion/completions/hk-tickctl").exists()

    assert bash(machine, "install_command").returncode == 0, "again, for the next version"
    assert bash(machine, "remove_command").returncode == 0
    assert [path for path in (machine / "local").rglob("*") if path.is_file()] == []


def test_a_command_of_another_installation_stays(machine: Path) -> None:
    theirs = machine / "local/bin/hk-tickctl"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("#!/bin/sh\necho theirs\n")
    done = bash(machine, "install_command; remove_command")
    assert (done.returncode, f"kept {theirs}" in done.stdout) == (0, True), done.stderr
    assert theirs.read_text() == "#!/bin/sh\necho theirs\n"


def test_a_version_without_pages_is_deployed_all_the_same(machine: Path) -> None:
    (machine / "opt/venv/bin/python").write_text("#!/bin/sh\nexit 1\n")
    done = bash(machine, "install_command")
    assert (done.returncode, "writes no man pages" in done.stdout) == (0, True), done.stderr
    assert (machine / "local/bin/hk-tickctl").exists()


def test_a_dry_run_writes_nothing(machine: Path) -> None:
    done = bash(machine, "DRY_RUN=1; install_command; remove_command")
    assert (done.returncode, "would write" in done.stdout, "would run: rm" in done.stdout) == (0, True, True)
    assert not (machine / "local").exists()


def test_a_build_that_takes_long_says_so(machine: Path) -> None:
    done = bash(machine, f"set +o pipefail; PROGRESS_SEC=0.05; report_progress {machine} | head -n 1")
    assert "still building after" in done.stdout, done.stderr


# --- redeploy and rollback, of the units


def test_what_notes_failures_comes_and_goes_with_the_version(machine: Path) -> None:
    """An update brings it where somebody is called, the way back to a version without it takes it away, and whoever
    chose no alerts never gets it."""
    failure, caller = "hk-tick-failure@.service", "hk-tick-alert.service"
    units, release = machine / "units", machine / "opt/deploy/systemd"
    units.mkdir()
    shutil.copytree(ROOT / "deploy/systemd", release)
    (units / "hk-tick-api.service").touch()  # chosen once

    def refreshed() -> set[str]:
        done = bash(machine, "refresh_serving")
        assert done.returncode == 0, done.stderr
        return {path.name for path in units.iterdir()}

    assert refreshed() == {"hk-tick-api.service"}
    (units / caller).write_text("of an earlier version, from before units were noted")
    assert refreshed() == {"hk-tick-api.service", caller, failure}
    for name in (caller, failure):
        assert (units / name).read_bytes() == (release / name).read_bytes()
        assert stat.S_IMODE((units / name).stat().st_mode) == 0o644
    (release / failure).unlink()  # the way back
    dry = bash(machine, "DRY_RUN=1; refresh_serving").stdout
    assert f"would run: rm -f {units / failure}" in dry
    assert (units / failure).exists()
    assert refreshed() == {"hk-tick-api.service", caller}


# --- redeploy --tests


@pytest.mark.parametrize(
    ("has_list", "wanted", "has", "expected"),
    [
        (True, "quick", "", "wheels of quick"),
        (False, "quick", "", "wheels of dev"),  # a version from before that list has its tests' packages there
        (True, "dev", "pytest", "wheels of dev"),
        (True, "quick", "pytest", "already built"),
        (False, "quick", "pytest xdist", "already built"),
        (True, "service", "", "already built"),
    ],
)
def test_what_is_installed_for_the_tests_of_a_version(
    machine: Path, has_list: bool, wanted: str, has: str, expected: str
) -> None:
    """Whether its tests can run on what is there. The build itself, which takes a minute, is not begun."""
    requirements, release = machine / "tree/requirements", machine / "opt/releases/c0ffee"
    for directory in (requirements, release / "bin"):
        directory.mkdir(parents=True)
    if has_list:
        (requirements / "quick.txt").touch()
    (release / ".complete").touch()
    (release / "bin/python").write_text(f'#!/bin/bash\n[[ " {has} " == *" ${{3#import }} "* ]]\n')
    (release / "bin/python").chmod(0o755)
    begin = 'build_wheels() { echo "wheels of $2"; return 1; }\n'
    done = bash(machine, f"{begin}build_release c0ffee {machine}/tree {wanted} || true")
    assert expected in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("quick", "-q -x tests/unit/test_config.py"),
        ("full", "-q tests/unit"),
        ("-q tests/fuzz", "-q tests/fuzz"),
    ],
)
def test_which_tests_a_deployment_runs(tmp_path: Path, which: str, expected: str) -> None:
    script = (ROOT / "scripts/redeploy_hk_tick_collector.sh").read_text()
    names = next(line for line in script.splitlines() if line.startswith("readonly QUICK_TESTS="))
    begin = script.index("pytest_arguments() {")
    function = script[begin : script.index("\n}\n", begin) + 3]
    (tmp_path / "tree/tests/unit").mkdir(parents=True)
    (tmp_path / "tree/tests/unit/test_config.py").touch()  # an earlier version, without the others
    text = (
        f"{names}\ntests='{which}' scratch={tmp_path} arguments=''\n{function}\npytest_arguments; echo \"$arguments\""
    )
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.strip() == expected
    for name in names.partition("'")[2].rstrip("'").split():
        assert (ROOT / "tests/unit" / name).exists(), name
