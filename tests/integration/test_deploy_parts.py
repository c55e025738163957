"""Parts of the deployment scripts that need no systemd: which commit a name is, what goes into a unit file, the lock.

Each test sources ``scripts/lib_deploy.sh`` and calls its functions. The whole is tested in ``tests/systemd``.
"""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import wait_until

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "scripts/lib_deploy.sh"
IDENTITY = {f"GIT_{role}_{field}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}


def _bash(text: str, *arguments: str, repository: Path | None = None) -> subprocess.CompletedProcess[str]:
    lines = [f"set -euo pipefail; . {LIBRARY}", f"in_prefix() {{ git -C '{repository}' \"$@\"; }}", text]
    command = ["bash", "-c", "\n".join(lines), "lib_deploy", *arguments]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=False)


def _git(repository: Path, *arguments: str) -> str:
    env = {**os.environ, **IDENTITY}
    done = subprocess.run(
        ["git", "-C", repository, *arguments], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


# --- which commit


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits; the branch main of origin stands at the second."""
    where = tmp_path / "repository"
    _git(tmp_path, "init", "--quiet", "--initial-branch=main", str(where))
    for message in ("good", "foreign"):
        _git(where, "commit", "--quiet", "--allow-empty", "-m", message)
    _git(where, "update-ref", "refs/remotes/origin/main", "HEAD")
    return where


def _resolve(repository: Path, ref: str) -> tuple[str, str]:
    """What the name means, empty when it is refused, and what was said."""
    done = _bash('resolve_ref "$1"', ref, repository=repository)
    assert (done.returncode == 0) == bool(done.stdout.strip()), done
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("digits", [7, 12, 39, 40])
@pytest.mark.parametrize("place", ["refs/remotes/origin/", "refs/heads/", "refs/tags/"])
def test_a_commit_is_itself_whatever_bears_its_name(repository: Path, digits: int, place: str) -> None:
    good = _git(repository, "rev-parse", "HEAD^")
    assert _resolve(repository, good[:digits]) == (good, "")
    _git(repository, "update-ref", f"{place}{good[:digits]}", "HEAD")
    resolved, refusal = _resolve(repository, good[:digits])
    assert resolved == good
    assert "also the name of a branch or tag" in refusal


def test_a_whole_hash_of_no_commit_is_no_branch(repository: Path) -> None:
    unknown = "0123456789abcdef0123456789abcdef01234567"
    _git(repository, "update-ref", f"refs/heads/{unknown[:39]}", "HEAD")
    subprocess.run(["git", "-C", repository, "update-ref", f"refs/remotes/origin/{unknown}", "HEAD"], check=True)
    assert _resolve(repository, unknown)[0] == ""
    assert _resolve(repository, unknown[:39])[0] == _git(repository, "rev-parse", "HEAD"), "a date may be a branch"


def test_branches_of_origin_come_before_local_ones(repository: Path) -> None:
    new = _git(repository, "rev-parse", "HEAD")
    _git(repository, "update-ref", "refs/heads/main", "HEAD^")
    assert _resolve(repository, "main")[0] == new
    _git(repository, "tag", "-a", "-m", "a release", "v1.2.3", new)
    assert _resolve(repository, "v1.2.3")[0] == new
    assert _resolve(repository, "origin/main")[0] == new


@pytest.mark.parametrize(
    "ref",
    [
        "", "@{upstream}", "main@{1}", "@", "HEAD", "main^", "main~1", "main..main", ":/good", "main:x", "-x", "--all",
        "--output=x", "../../heads/main", "$(id)", "main main", "main\n", "no-such", "*", "x.lock",
    ],
)  # fmt: skip
def test_what_names_no_branch_tag_or_commit_is_refused(repository: Path, ref: str) -> None:
    assert _resolve(repository, ref)[0] == ""


def test_who_names_no_commit_is_told_those_that_are_built(tmp_path: Path) -> None:
    """Newest first; not the one in use, none that is half built, and none that is no commit."""
    names = {letter: letter * 40 for letter in "abcd"}
    for age_days, name in enumerate([*names.values(), "files-20261120T010203Z"]):
        release = tmp_path / name
        release.mkdir()
        if name != names["d"]:
            (release / ".complete").touch()
        built_sec = 1_796_040_000 - 86_400 * age_days
        os.utime(release, (built_sec, built_sec))
    done = _bash('other_releases "$@"', str(tmp_path), names["b"])
    assert done.stdout == "  aaaaaaaaaaaa  built on 2026-11-30\n  cccccccccccc  built on 2026-11-28\n"


# --- what goes into a unit file


def _drop_in(directory: Path, *words: str) -> str:
    text = """
    drop_in_of() { printf '%s' "$1"; }
    write_drop_in "$@"
    """
    file = directory / "drop-in.conf"
    done = _bash(text, str(file), *words)
    assert done.returncode == 0, done.stderr
    return file.read_text() if file.exists() else ""


ODD_DIRECTORIES = (
    ("/data/my ticks", '"/data/my ticks"'),
    ("/data/100%HK", '"/data/100%%HK"'),
    ('/data/"quoted"', '"/data/\\"quoted\\""'),
    ("/data/back\\slash", '"/data/back\\\\slash"'),
    (" /data/  two  ", '" /data/  two  "'),
    ("/data/$HOME`id`;#'&", '"/data/$HOME`id`;#\'&"'),
    ("/data/數據", '"/data/數據"'),
)


@pytest.mark.parametrize(("directory", "written"), ODD_DIRECTORIES)
def test_a_directory_is_one_word_in_a_unit_file(tmp_path: Path, directory: str, written: str) -> None:
    assert _drop_in(tmp_path, "0", directory).splitlines()[1:] == [
        "[Unit]", f"RequiresMountsFor={written}", "[Service]", f'ReadWritePaths="-{written[1:]}',
    ]  # fmt: skip


def test_a_source_beyond_private_networks_gets_its_way_out_and_its_credential(tmp_path: Path) -> None:
    secrets, file = tmp_path / "50% of tasty", tmp_path / "drop-in.conf"
    text = """
    place=$1
    drop_in_of() { printf '%s' "$place"; }
    declare -A facts=([internet]=1 [credential]="$2")
    write_drop_in hk-tick-collector@US 0
    """
    for made in (False, True):
        if made:
            secrets.touch()
        done = _bash(text, str(file), str(secrets))
        assert done.returncode == 0, done.stderr
        lines = ["[Service]", "IPAddressAllow=any"]
        lines += [f"LoadCredential=50%% of tasty:{tmp_path}/50%% of tasty"] if made else []  # tests/systemd starts one
        assert file.read_text().splitlines()[1:] == lines


def test_a_drop_in_that_says_nothing_goes(tmp_path: Path) -> None:
    assert _drop_in(tmp_path, "360").endswith("[Service]\nTimeoutStopSec=360\n")
    assert _drop_in(tmp_path, "0") == ""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing (package systemd)")
@pytest.mark.parametrize("directory", [path for path, _ in ODD_DIRECTORIES if path.startswith("/")])
def test_systemd_reads_the_drop_in(tmp_path: Path, directory: str) -> None:
    unit = tmp_path / "hk-test.service"
    text = _drop_in(tmp_path, "360", directory)
    unit.write_text(f"{text}Type=oneshot\nExecStart=/bin/true\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )  # fmt: skip
    assert str(unit) not in done.stdout + done.stderr


def test_a_setting_that_breaks_a_line_is_refused(tmp_path: Path) -> None:
    settings = tmp_path / ".env"
    settings.write_text('FUTU_SYMBOLS=HK.00700\nDATA_ROOT="/data/x\\nExecStartPre=+/bin/sh -c id"\n')
    done = _bash(
        f'declare -A facts=(); read_facts "$1" {ROOT}/scripts/service_facts.py --env-file "$2"',
        str(ROOT / ".venv/bin/python"),
        str(settings),
    )
    assert done.returncode == 78
    assert "DATA_ROOT" in done.stderr


# --- the lock


def _lock(place: Path, *, then: str = "echo locked") -> subprocess.CompletedProcess[str]:
    """With another place and another owner than root's, who alone can be tested anywhere."""
    text = (
        LIBRARY.read_text()
        .replace("/run/hk-tick-collector-deploy", str(place))
        .replace("directory 0 700", f"directory {os.geteuid()} 700")
    )
    library = place.with_name("lib.sh")
    library.write_text(text)
    command = ["bash", "-c", f"set -euo pipefail; . {library}; lock_deployment; {then}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_one_deployment_at_a_time(tmp_path: Path) -> None:
    place = tmp_path / "lock"
    assert _lock(place).stdout == "locked\n"
    assert place.stat().st_mode & 0o777 == 0o700
    inner = _lock(place, then=f"bash -c '. {place.with_name('lib.sh')}; lock_deployment' 9>&-")
    assert inner.returncode == 75
    assert "another installation or update is running" in inner.stderr
    assert _lock(place).returncode == 0, "the lock goes with its holder"


@pytest.mark.parametrize("kind", ["link to a directory", "link to a file", "file", "open to others"])
def test_a_lock_that_somebody_else_laid_out_is_not_taken(tmp_path: Path, kind: str) -> None:
    place, target = tmp_path / "lock", tmp_path / "target"
    if kind == "link to a directory":
        target.mkdir(mode=0o700)
        place.symlink_to(target)
    elif kind == "link to a file":
        target.write_text("precious")
        place.symlink_to(target)
    elif kind == "file":
        place.write_text("precious")
    else:
        place.mkdir()
        place.chmod(0o777)
    done = _lock(place)
    assert done.returncode == 1
    assert f"{place} is not a directory of root's" in done.stderr
    for file in (place, target):
        assert not file.is_file() or file.read_text() == "precious"


def test_the_lock_is_where_root_alone_makes_names() -> None:
    text = LIBRARY.read_text()
    assert "readonly DEPLOY_LOCK=/run/hk-tick-collector-deploy\n" in text
    assert Path("/run").stat().st_mode & 0o022 == 0
    assert "/run/lock" not in text


# --- further recorders


def test_every_settings_file_with_a_name_is_a_recorder(tmp_path: Path) -> None:
    for name in ("us.env", "HK-2.env", "a b.env", "..env", "-x.env", "us.env.old", ".env", ".env.example"):
        (tmp_path / name).touch()
    # PREFIX is the scripts' own, for good: the library is read with another one.
    library = tmp_path / "lib"
    library.write_text(LIBRARY.read_text().replace("readonly PREFIX=/opt/futu_tick_downloader", f"PREFIX={tmp_path}"))
    done = subprocess.run(
        ["bash", "-c", f". {library}; instances"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["HK-2", "us"]
    for left in tmp_path.glob("*.env"):
        left.unlink()
    done = subprocess.run(
        ["bash", "-c", f". {library}; instances"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""


# --- all of it as one, and the way out


def elsewhere(place: Path) -> Path:
    """The scripts with all that they write to below a directory of the test, and without the call of main."""
    shutil.copytree(ROOT / "scripts", place / "scripts")
    library, script = place / "scripts/lib_deploy.sh", place / "scripts/install_systemd.sh"
    text = library.read_text()
    for path in ("/opt/futu_tick_downloader", "/var/cache/hk-tick-build", "/etc/systemd/system", "/usr/local"):
        assert f"={path}" in text
        text = text.replace(f"={path}", f"={place}{path}")
    library.write_text(text)
    script.write_text(script.read_text().removesuffix('main "$@"\nexit\n'))
    assert 'main "$@"' not in script.read_text()
    return script


def test_an_update_brings_the_target_enabled_and_leaves_one_that_was_disabled(tmp_path: Path) -> None:
    """From a version that had none; a way back takes it away with its links."""
    script, units = elsewhere(tmp_path), tmp_path / "etc/systemd/system"
    source = tmp_path / "opt/futu_tick_downloader/deploy/systemd"
    for directory in (units / "multi-user.target.wants", source):
        directory.mkdir(parents=True)
    shutil.copy(ROOT / "deploy/systemd/hk-tick.target", source)

    def installed() -> list[str]:
        words = f'. {script}; systemctl() {{ echo "systemctl $*"; }}; install_target'
        done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert installed() == ["systemctl enable --quiet hk-tick.target"]
    assert installed() == []
    assert (units / "hk-tick.target").read_bytes() == (source / "hk-tick.target").read_bytes()
    (units / "multi-user.target.wants/hk-tick.target").symlink_to(units / "hk-tick.target")
    (source / "hk-tick.target").unlink()
    assert installed() == []
    assert [path.name for path in units.rglob("*")] == ["multi-user.target.wants"]


def test_a_unit_joins_the_target_once(tmp_path: Path) -> None:
    """Each "enable" has systemd read all of its units anew."""
    script, units = elsewhere(tmp_path), tmp_path / "etc/systemd/system"
    (units / "hk-tick.target.wants").mkdir(parents=True)
    (units / "hk-tick.target").touch()

    def joined() -> list[str]:
        words = f'. {script}; systemctl() {{ echo "systemctl $*"; }}; join_target'
        done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    unit = "hk-tick-collector.service"
    assert joined() == [f"systemctl is-enabled --quiet {unit}", f"systemctl enable --quiet {unit}"]
    (units / "hk-tick.target.wants" / unit).symlink_to(units / unit)
    assert joined() == []


@pytest.mark.parametrize("is_at_once", [True, False], ids=["a rollback that goes back itself", "a later update"])
def test_what_an_earlier_version_has_not_goes_on_with_one_that_has_it(tmp_path: Path, is_at_once: bool) -> None:
    """The one that served, and not the one that somebody had stopped."""
    script, units, prefix = elsewhere(tmp_path), tmp_path / "etc/systemd/system", tmp_path / "opt/futu_tick_downloader"
    source, runs = prefix / "deploy/systemd", tmp_path / "runs"
    for directory in (units, source, runs, prefix / "releases"):
        directory.mkdir(parents=True)
    for name in ("api", "live"):
        for place in (units, source):
            shutil.copy(ROOT / f"deploy/systemd/hk-tick-{name}.service", place)
    (runs / "hk-tick-api.service").touch()
    systemctl = """
        systemctl() {
          case $1 in
            is-active) [[ -e $runs/${*: -1} ]] ;;
            stop) rm -f "$runs/$2" ;;
            restart) touch "$runs/$2" ;;
          esac
        }
        sleep() { :; }
    """
    away, back = f"mv {source} {source}.new; mkdir {source}", f"rmdir {source}; mv {source}.new {source}"
    before, after = f"{away}; refresh_serving", f"{back}; refresh_serving; restart_others"

    def scripts_do(words: str) -> None:
        text = f". {script}; runs={runs}; {systemctl}\n{words}"
        done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    if is_at_once:
        scripts_do(f"{before}; [[ ! -e {runs}/hk-tick-api.service ]]; {after}")
    else:
        scripts_do(f"{before}; restart_others")
        assert [*runs.iterdir()] == []
        scripts_do(after)
    assert [path.name for path in runs.iterdir()] == ["hk-tick-api.service"]
    (runs / "hk-tick-api.service").unlink()
    scripts_do("restart_others")
    assert [*runs.iterdir()] == [], "what is stopped by hand stays so"


SYSTEMCTL = """\
#!/bin/sh
# The first version that is started does not come up for long; the one that is put back records.
case $1 in
  is-active | is-enabled) exit 1 ;;
  start) [ ! -e "$PLACE/hangs" ] || { echo $$ >"$PLACE/back"; exit 0; }
    touch "$PLACE/hangs"
    while [ ! -e "$PLACE/given_up" ]; do sleep 0.1; done
    exit 1 ;;
esac
"""


@dataclass(frozen=True)
class Installed:
    """Two versions below a directory, one of them in use, and what runs the scripts there."""

    place: Path
    prefix: Path
    other: str
    in_use: str
    env: dict[str, str]

    def command(self, script: str) -> list[str]:
        words = ["--no-fetch", "--skip-tests", self.other] if script == "redeploy" else []
        return ["bash", str(self.place / f"scripts/{script}_hk_tick_collector.sh"), *words]

    def now(self) -> tuple[str, str]:
        """The commit that is checked out, and the release that starts."""
        return _git(self.prefix, "rev-parse", "HEAD"), (self.prefix / "venv").readlink().name


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    elsewhere(tmp_path)
    library, prefix, systemctl = (
        tmp_path / "scripts/lib_deploy.sh", tmp_path / "opt/futu_tick_downloader", tmp_path / "bin/systemctl",
    )  # fmt: skip
    text = library.read_text().replace("/run/hk-tick-collector-deploy", str(tmp_path / "lock"))
    text = text.replace("directory 0 700", f"directory {os.geteuid()} 700")
    library.write_text(f"{text}\nneed_root() {{ :; }}\nneed_tools() {{ :; }}\n")
    (tmp_path / "lock").mkdir(mode=0o700)
    _git(tmp_path, "init", "--quiet", "--initial-branch=main", str(prefix))
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    shutil.copytree(ROOT / "deploy/systemd", prefix / "deploy/systemd")
    (prefix / ".git/info/exclude").write_text("releases\nvenv\n")
    commits = []
    for version in ("other", "in use"):
        (prefix / "version").write_text(version)
        _git(prefix, "add", "--all")
        _git(prefix, "commit", "--quiet", "-m", version)
        commits.append(_git(prefix, "rev-parse", "HEAD"))
        python = prefix / "releases" / commits[-1] / "bin/python"
        python.parent.mkdir(parents=True)
        python.write_text('#!/bin/sh\n[ "${2##*/}" != service_facts.py ] || printf "%s\\n" $FACTS\n')
        python.chmod(0o755)
        (python.parents[1] / ".complete").touch()
    (prefix / "venv").symlink_to(f"releases/{commits[1]}")
    systemctl.parent.mkdir()
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    facts = f"data_root={tmp_path} stop_flush_timeout_sec=60"
    env = {"PATH": f"{systemctl.parent}:{os.environ['PATH']}", "PLACE": str(tmp_path), "FACTS": facts}
    return Installed(tmp_path, prefix, *commits, {**os.environ, **env, "ROLLBACK_REF": commits[0]})


@pytest.mark.parametrize("is_terminal", [True, False], ids=["the terminal is gone", "tee is gone"])
@pytest.mark.parametrize("script", ["rollback", "redeploy"])
def test_who_broke_off_an_update_and_hears_no_more_has_the_version_in_use_back(
    installed: Installed, script: str, is_terminal: bool
) -> None:
    """A connection that is lost takes the terminal with it, and Ctrl-C ends ``| tee log`` as well: what the script then
    says fails, and would end it before anybody records again."""
    place = installed.place
    (reading, writing), under = (pty.openpty(), "setsid --ctty --wait") if is_terminal else (os.pipe(), "env")
    process = subprocess.Popen(
        [*under.split(), *installed.command(script)], env=installed.env, stdin=writing, stdout=writing, stderr=writing,
        start_new_session=not is_terminal,
    )  # fmt: skip
    os.close(writing)
    try:
        wait_until(lambda: (place / "hangs").exists() or process.poll() is not None, "the other version starts", 60)
        assert installed.now()[0] == installed.other, os.read(reading, 100_000).decode()
    finally:
        os.close(reading)
        if not is_terminal:
            os.killpg(process.pid, signal.SIGINT)
        (place / "given_up").touch()
        process.wait(60)
    assert (place / "back").exists()
    assert installed.now() == (installed.in_use, installed.in_use)


@pytest.mark.parametrize("script", ["rollback", "redeploy"])
def test_a_checkout_that_fails_both_ways_leaves_nobody_without_a_recorder(installed: Installed, script: str) -> None:
    """As on a disk that is full; here another git is at work."""
    (installed.prefix / ".git/index.lock").touch()
    (installed.place / "hangs").touch()
    done = subprocess.run(
        installed.command(script), env=installed.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "index.lock" in done.stderr) == (1, True), done.stdout + done.stderr
    assert (installed.place / "back").exists()
    assert f"rolled back: {installed.in_use[:12]} records again, and not all of that version" in done.stdout
    assert installed.now() == (installed.in_use, installed.in_use)


def test_uninstall_leaves_no_unit_and_what_was_edited_by_hand(tmp_path: Path) -> None:
    units, prefix = tmp_path / "etc/systemd/system", tmp_path / "opt/futu_tick_downloader"
    for directory in (units, prefix, tmp_path / "bin"):
        directory.mkdir(parents=True)
    (prefix / "us.env").touch()
    systemctl = tmp_path / "bin/systemctl"
    systemctl.write_text("#!/bin/sh\n")
    systemctl.chmod(0o755)
    for unit in (ROOT / "deploy/systemd").glob("hk-tick*"):
        shutil.copy(unit, units)
    jobs = ("hk-tick-eod", "hk-tick-universe")
    drop_ins = [f"{name}{at}" for name in ("hk-tick-collector", *jobs) for at in ("", "@us")]
    written = "\n".join(
        [
            f". {elsewhere(tmp_path)}",
            "declare -A facts=()",
            *(f"write_drop_in {name} 360 /data" for name in drop_ins),
            *(f"write_timer_drop_in {job}{at} '{at[:1]}' 'Mon..Fri 17:00 UTC'" for job in jobs for at in ("", "@us")),
            f"mkdir {units}/hk-tick.target.wants",
            *(f"test -e {units}/{name}.service.d/10-settings.conf" for name in drop_ins),
            *(f"test -e {units}/{job}{at}.timer.d/10-settings.conf" for job in jobs for at in ("", "@us")),
            "uninstall",
        ]
    )
    path = {**os.environ, "PATH": f"{systemctl.parent}:{os.environ['PATH']}"}

    def left() -> set[str]:
        done = subprocess.run(
            ["bash", "-c", written], env=path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return {str(path.relative_to(units)) for path in units.rglob("*")}

    assert left() == set()
    override = units / "hk-tick-universe.service.d/override.conf"  # as systemctl edit makes it
    override.parent.mkdir()
    override.write_text('[Service]\nEnvironment="UNIVERSE=--limit 300"\n')
    assert left() == {"hk-tick-universe.service.d", "hk-tick-universe.service.d/override.conf"}
