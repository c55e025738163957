"""A Debian with systemd as process 1, in a container on the host's network, for tests of units and scripts.

The tree is made by mmdebstrap once and kept, with the wheels of the project's dependencies, in a cache directory
outside the project; each test run boots a copy. Nothing is downloaded inside the container.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests import harness

# The Debian whose Python is that of the wheels.
SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "python3", "python3-venv", "sqlite3", "git", "sudo", "procps", "lsof", "psmisc",
    "netcat-openbsd",
)  # fmt: skip
TOOLS = {"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap", "nsenter": "util-linux"}
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "dpkg-db-backup.timer", "console-getty.service",
    "getty.target", "systemd-logind.service", "systemd-networkd-wait-online.service",
)  # fmt: skip
CAP_SYS_ADMIN = 21
MEMORY_MIN_KIB = 8 << 20  # that are free, for a machine in memory: it may take half of them, and takes less than two GB
ROOT = Path(__file__).resolve().parents[2]


def wait_until(condition: Callable[[], Any], awaited: str, timeout_sec: float = harness.DEADLINE_SEC) -> Any:
    """The condition's first true value. Looked at twice a second at last: a look inside costs several processes."""
    return harness.wait_until(condition, awaited, timeout_sec, pause_max_sec=0.5)


def why_not() -> str | None:
    """The reason why no machine can be booted here, or None."""
    if os.geteuid() != 0:
        return "booting a container needs root"
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        return f"missing: {' '.join(missing)} (apt-get install {' '.join(missing)})"
    capabilities = int(Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16)
    if not capabilities >> CAP_SYS_ADMIN & 1:
        return "this root may not mount (no CAP_SYS_ADMIN)"
    if _wheel_python() is None:
        return f"wheels for the tree need one of these Pythons on the host: {', '.join(map(_name, SUITES))}"
    return None


def _wheel_python() -> tuple[str, str] | None:
    """The Debian of the tree, and an interpreter of its version here: this one, or another."""
    for version in sorted(SUITES, key=lambda version: version != sys.version_info[:2]):
        python = sys.executable if version == sys.version_info[:2] else shutil.which(_name(version))
        # A shim of a version manager is there for versions that are not.
        if python and subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return SUITES[version], python
    return None


def _name(version: tuple[int, int]) -> str:
    return "python{}.{}".format(*version)


def cache_dir() -> Path:
    """Where trees and wheels are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "hk-tick-collector-tests"


@contextlib.contextmanager
def _made_once(target: Path) -> Iterator[Path | None]:
    """Gives a new directory that becomes ``target`` when the block ends well, or None when ``target`` is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{target}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            yield None
            return
        making = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
        try:
            yield making
            making.rename(target)
        finally:
            shutil.rmtree(making, ignore_errors=True)


def base_tree() -> Path:
    """The Debian tree, made when there is none for this list of packages."""
    suite, _ = _wheel_python() or ("", "")
    mark = hashlib.sha256(repr((suite, PACKAGES, MASKED)).encode()).hexdigest()[:12]
    target = cache_dir() / f"tree-{suite}-{mark}"
    with _made_once(target) as making:
        if making is not None:
            command = [
                "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory",
                f"--include={','.join(PACKAGES)}", "--dpkgopt=force-unsafe-io", suite, str(making),
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            assert done.returncode == 0, f"mmdebstrap failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}"
            making.chmod(0o755)
            units = making / "etc/systemd/system"
            for name in MASKED:
                units.joinpath(name).symlink_to("/dev/null")
    return target


def wheels(lock: str = "quick.txt") -> Path:
    """A directory with exactly the files that a lock file names, and what builds with them, for installations without
    an index. ``quick.txt`` is what an update needs."""
    locks = {name: _for_any_micro((ROOT / f"requirements/{name}").read_text()) for name in ("build.txt", lock)}
    suite, python = _wheel_python() or ("", "")
    mark = hashlib.sha256("".join(locks.values()).encode()).hexdigest()[:12]
    target = cache_dir() / f"locked-{suite}-{mark}"
    with _made_once(target) as making, tempfile.TemporaryDirectory() as build:
        if making is not None:
            if python != sys.executable:  # ours has a pip of its own, which is newer and needs a third of the time
                subprocess.run([python, "-m", "venv", f"{build}/venv"], check=True, timeout=120)
                python = f"{build}/venv/bin/python"
            command = [python, "-I", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            for name, text in locks.items():
                Path(build, name).write_text(text)
            wanted = [part for name in locks for part in ("-r", f"{build}/{name}")]
            done = subprocess.run(
                [*command, "--no-deps", "--require-hashes", "--dest", str(making), *wanted],
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            assert done.returncode == 0, f"pip could not fetch what is locked:\n{done.stderr[-3000:]}"
            making.chmod(0o755)
    return target


def _for_any_micro(text: str) -> str:
    """A lock file with what only an early micro version wants: Debian 12 has 3.11.2, whatever runs this."""
    return re.sub(r" ; python_full_version < '3\.\d+\.[1-9]\d*'", "", text)


def _own_cgroups(name: str) -> list[Path]:
    """New cgroups for a container, so that its systemd meets neither the host's nor another container's units.

    systemd keeps its units in the unified hierarchy, on older hosts also in the one called ``name=systemd``.
    """
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    made = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "name=systemd"):
            continue
        kind = ("cgroup", "name=systemd") if controllers else ("cgroup2", "")
        where = next((m[1] for m in mounts if m[2] == kind[0] and (not kind[1] or kind[1] in m[3].split(","))), None)
        if where is not None:
            made.append(Path(f"{where}{path.rstrip('/')}/{name}"))
            made[-1].mkdir(exist_ok=True)
    return made


def _remove_cgroups(cgroups: list[Path]) -> None:
    for top in cgroups:
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)  # noqa: PTH106 - walk gives strings


def _in_memory(directory: Path) -> bool:
    """Make it a directory in memory, where there is plenty. Releases are made and removed there all the time, and a
    disk's file system looks long for a new file's number when many files have just gone."""
    told = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    if told is None or int(told[1]) < MEMORY_MIN_KIB:
        return False
    options = f"size={MEMORY_MIN_KIB // 2}k,mode=0700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Machine:
    """A booted copy of the tree. ``root`` is its file system as the host sees it."""

    def __init__(self) -> None:
        cache_dir().mkdir(parents=True, exist_ok=True)
        self._directory = Path(tempfile.mkdtemp(prefix="run-", dir=cache_dir()))
        self._is_mount = _in_memory(self._directory)
        self.root = self._directory / "root"
        subprocess.run(["cp", "-a", "--reflink=auto", base_tree(), self.root], check=True, timeout=120)
        self.root.joinpath("etc/hostname").write_text("server\n")  # mmdebstrap copies the host's
        self.root.joinpath("etc/hosts").write_text("127.0.0.1 localhost server\n")
        self._log = self._directory / "console.log"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._cgroups: list[Path] = []

    def boot(self) -> None:
        """Start systemd in it; returns when it is up."""
        command = [
            "systemd-nspawn", f"--directory={self.root}", "--boot", "--register=no", "--keep-unit", "--quiet",
            f"--machine=hktest-{os.getpid()}", "--console=read-only", "--resolv-conf=off",
            "--timezone=off", "--link-journal=no", f"--bind-ro={wheels()}:/wheels",
        ]  # fmt: skip
        self._cgroups = _own_cgroups(f"hktest-{os.getpid()}")
        # The shell moves itself before it becomes systemd-nspawn.
        move = [f"echo $$ >{cgroup}/cgroup.procs;" for cgroup in self._cgroups]
        with self._log.open("wb") as log:
            self._nspawn = subprocess.Popen(
                ["sh", "-ec", f'{" ".join(move)} exec "$@"', "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._leader = wait_until(self._find_leader, "systemd-nspawn starts process 1")
        state = wait_until(self._up, "systemd in the container has booted", 120)
        assert state in ("running", "degraded"), f"systemd says {state}:\n{self.console()}"

    def _find_leader(self) -> int:
        assert self._nspawn is not None
        pid = self._nspawn.pid
        assert self._nspawn.poll() is None, f"systemd-nspawn ended:\n{self.console()}"
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(FileNotFoundError):
                ids = Path(f"/proc/{child}/status").read_text().split("NSpid:")[1].split("\n")[0].split()
                if len(ids) > 1 and ids[-1] == "1" and Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return int(child)
        return 0

    def _up(self) -> str:
        done = subprocess.run(
            self._inside(["systemctl", "is-system-running"]), capture_output=True, text=True, timeout=30, check=False
        )
        state = done.stdout.strip()
        return "" if state in ("", "initializing", "starting", "offline", "unknown") else state

    def _inside(self, command: Sequence[str], env: dict[str, str] | None = None) -> list[str]:
        settings = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
        }
        settings.update(env or {})
        enter = ["nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--pid", "--root", "--wd"]
        return [*enter, "env", "-i", *(f"{key}={value}" for key, value in settings.items()), *command]

    def run(
        self, command: str, *, check: bool = True, timeout_sec: float = 120, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """A bash command line as root inside; stdout and stderr together in ``stdout``."""
        done = subprocess.run(
            self._inside(["bash", "-c", command], env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=timeout_sec, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"exit code {done.returncode} of: {command}\n{done.stdout}"
        return done

    def show(self, prop: str, unit: str = "hk-tick-collector") -> str:
        """A property of a unit."""
        return self.run(f"systemctl show -p {prop} --value {unit}").stdout.strip()

    def journal(self, unit: str = "hk-tick-collector", *, arguments: str = "") -> str:
        """What a unit said."""
        return self.run(f"journalctl -u {unit} --no-pager -o cat {arguments}", check=False).stdout

    def console(self) -> str:
        """The end of what the container printed."""
        return self._log.read_text(errors="replace")[-3000:]

    def end(self) -> None:
        """Power off and remove the copy."""
        if self._nspawn is not None and self._nspawn.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._leader or self._nspawn.pid, signal.SIGRTMIN + 4)  # systemd(1): power off
            try:
                self._nspawn.wait(20)
            except subprocess.TimeoutExpired:
                self._nspawn.terminate()
                try:
                    self._nspawn.wait(10)
                except subprocess.TimeoutExpired:
                    self._nspawn.kill()
                    self._nspawn.wait(10)
        _remove_cgroups(self._cgroups)
        if self._is_mount:
            subprocess.run(["umount", "--lazy", str(self._directory)], check=False)
        shutil.rmtree(self._directory, ignore_errors=True)
