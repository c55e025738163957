"""The project installed on the test machine: what an operator has in front of them."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.harness import Simulator, stored_rows
from tests.scratch_tree import copy_tree
from tests.systemd.machine import Machine, wait_until

SYMBOLS = "HK.00700,HK.09988,HK.03690"
PREFIX = "/opt/futu_tick_downloader"
UNIT = "hk-tick-collector"
DATA_ROOT = "/data/sqlite/HK"
PROJECT = "/srv/project"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
DROP_IN = f"/etc/systemd/system/{UNIT}.service.d/90-test.conf"


def _as_text(settings: Mapping[str, object]) -> str:
    return "".join(f"{key}={value}\n" for key, value in settings.items())


class Server:
    """Commands and questions to one installation."""

    def __init__(self, machine: Machine, simulator: Simulator) -> None:
        self.machine = machine
        self.simulator = simulator
        self.project = machine.root / PROJECT.lstrip("/")
        self.settings: dict[str, object] = {
            "FUTU_PORT": simulator.port,
            "FUTU_SYMBOLS": "HK.00700,HK.09988",
            "DATA_ROOT": DATA_ROOT,
            "FUTU_POLL_TRADING_ONLY": 0,
            "CHECK_INTERVAL_SEC": 0.5,
            "RECONNECT_MIN_DELAY": 0.2,
            "RECONNECT_MAX_DELAY": 1,
            "HEALTH_INTERVAL_SEC": 1,
            "PERSIST_SUMMARY_INTERVAL_SEC": 1,
            "PERSIST_HEARTBEAT_INTERVAL_SEC": 1,
        }
        self._written_at_sec = 0.0

    def put_project(self) -> None:
        """A git repository with the files of this working tree, as somebody would have cloned it."""
        copy_tree(self.project)
        self._git("init", "--quiet", "--initial-branch=main")
        self.commit("as it is")

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.project), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def commit(self, message: str) -> str:
        """Commit all of the project's directory; the commit's name."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "-m", message)
        return self._git("rev-parse", "HEAD")

    def commit_built(self, message: str) -> str:
        """A commit of the files that are in use. Building their release anew would take a minute, and is for tests of
        that: it is there, by links to the one in use."""
        in_use = self.machine.run(f"readlink -f {PREFIX}/venv").stdout.strip()
        made = self.commit(message)
        release = f"{PREFIX}/releases/{made}"
        named = f"grep -lI '^#!{in_use}/' {release}/bin/*"
        self.machine.run(f"cp -al {in_use} {release}; {named} | xargs sed -i '1s|{in_use}|{release}|'")
        return made

    def write(self, name: str, text: str) -> None:
        """Replace a file of the project."""
        self.project.joinpath(name).write_text(text)

    def install(self, *options: str) -> str:
        """Run the installation; its output."""
        command = f"bash {PROJECT}/scripts/install_systemd.sh {' '.join(options)}"
        return self.machine.run(command, timeout_sec=500, **OFFLINE).stdout

    def redeploy(self, *options: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the redeployment of the installed checkout."""
        command = f"bash {PREFIX}/scripts/redeploy_hk_tick_collector.sh {' '.join(options)}"
        return self.machine.run(command, timeout_sec=500, check=check, **{**OFFLINE, **env})

    def write_settings(self, **changes: object) -> None:
        """The .env, with changes; None leaves a key out."""
        values = {key: value for key, value in {**self.settings, **changes}.items() if value is not None}
        self._env_file.write_text(_as_text(values))  # keeps owner and mode
        self._written_at_sec = time.monotonic()

    @property
    def _env_file(self) -> Path:
        return self.machine.root / f"{PREFIX}/.env".lstrip("/")

    def drop_in(self, text: str) -> None:
        """Settings of the unit for one test."""
        path = self.machine.root / DROP_IN.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.machine.run("systemctl daemon-reload")

    def recover(self) -> None:
        """Own settings, no drop-in, OpenD there, the service running and recording; the same process as before where
        the test before left it so."""
        drop_in = self.machine.root / DROP_IN.lstrip("/")
        if drop_in.exists():
            drop_in.unlink()
            self.machine.run("systemctl daemon-reload")
        elif self._is_as_recovered():
            self.wait_recording()
            return
        self.write_settings()
        self.machine.run(f"systemctl reset-failed {UNIT}; systemctl restart {UNIT}")
        self.wait_recording()

    def _is_as_recovered(self) -> bool:
        """Does a process run that somebody started after the own settings were written, and that is not frozen?"""
        if self._env_file.read_text() != _as_text(self.settings):
            return False
        properties = ("ActiveState", "NRestarts", "MainPID", "ExecMainStartTimestampMonotonic")
        asked = f"systemctl show {' '.join(f'-p {name}' for name in properties)} {UNIT}"
        told = dict(line.split("=", 1) for line in self.machine.run(asked).stdout.splitlines())
        state, restarts, pid, started_at_us = (told[name] for name in properties)
        # Both are of the clock that nobody sets, whatever the machine's time is.
        if (state, restarts) != ("active", "0") or int(started_at_us) / 1e6 < self._written_at_sec:
            return False
        return self.machine.run(f"ps -o stat= -p {pid}", check=False).stdout[:1] in tuple("DRS")

    def pid(self) -> int:
        """The recorder's process."""
        return int(self.machine.show("MainPID"))

    def rows(self) -> int:
        """Rows in all day files, asked of sqlite3 as an operator would."""
        sql = "SELECT COUNT(*) FROM ticks"
        command = f'for db in {DATA_ROOT}/*.db; do sqlite3 "file:$db?mode=ro" "{sql}"; done'
        answer = self.machine.run(command, check=False).stdout.split()
        return sum(int(number) for number in answer if number.isdigit())

    def wait_recording(self, timeout_sec: float = 90) -> None:
        """Returns when new rows have come."""
        data_root = self.machine.root / DATA_ROOT.lstrip("/")  # from here: a look inside costs four processes
        before = stored_rows(data_root)
        wait_until(lambda: stored_rows(data_root) > before, "new rows in the day file", timeout_sec)

    def journal_since(self, cursor: str) -> str:
        """What the recorder said after ``cursor``."""
        return self.machine.journal(arguments=f"--after-cursor='{cursor}'")

    def cursor(self) -> str:
        """Where the journal is now."""
        text = self.machine.run("journalctl -n 0 --show-cursor --no-pager").stdout
        return text.split("cursor: ")[1].strip()

    def wait_said(self, text: str, cursor: str, timeout_sec: float = 90) -> str:
        """The journal since ``cursor``, once ``text`` is in it."""

        def said() -> str:
            journal = self.journal_since(cursor)
            return journal if text in journal else ""

        try:
            line: str = wait_until(said, f"{text!r} in the journal", timeout_sec)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.journal_since(cursor)[-4000:]}") from None
        return line

    def copy_data(self, target: Path) -> Path:
        """The day files, for ``hk-opend-sim check``."""
        shutil.copytree(self.machine.root / DATA_ROOT.lstrip("/"), target)
        return target
