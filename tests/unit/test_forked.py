"""The process that tests fork commands from (``tests.forked``): one for all processes of a run, gone after the last."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forked import ROOT
from tests.harness import clean_env, wait_until

# Says which process it forks from and what a command printed; ends when its input does.
WORKER = """
import os, socket, struct, sys
from tests import forked
parent = forked._one(forked.RECORDER)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:  # and asks for nothing
    line.connect(parent.address)
    pid, _, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
print(pid, parent.address, flush=True)
for _ in sys.stdin:
    print(parent.run(["--version"], dict(os.environ), 60).stdout.strip(), flush=True)
"""


class Worker:
    """A process of a run of pytest."""

    def __init__(self, directory: Path, run: str) -> None:
        env = clean_env(directory / "home", TMPDIR=directory, PYTEST_XDIST_TESTRUNUID=run)
        self.proc = subprocess.Popen(
            [sys.executable, "-c", WORKER], cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        pid, address = self._line().split()
        self.parent, self.address = int(pid), Path(address)

    def _line(self) -> str:
        assert self.proc.stdout is not None
        return self.proc.stdout.readline()

    def version(self) -> str:
        assert self.proc.stdin is not None
        self.proc.stdin.write("\n")
        self.proc.stdin.flush()
        return self._line()

    def end(self) -> None:
        self.proc.communicate(timeout=60)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Of a path that is short enough for sockets below it."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("first", [0, 1])
def test_the_processes_of_a_run_have_one_until_the_last_has_ended(directory: Path, first: int) -> None:
    workers = [Worker(directory, "run" * 10) for _ in range(2)]
    try:
        begun, other = workers
        assert (begun.parent, begun.address) == (other.parent, other.address)
        assert os.getpgid(begun.parent) == begun.parent
        workers[first].end()
        assert workers[1 - first].version().startswith("hk-tick-collector ")
        assert is_there(begun.parent)
    finally:
        for worker in workers:
            worker.end()
    wait_until(lambda: not is_there(begun.parent), "it ends")
    assert not begun.address.parents[1].exists()


def test_another_run_has_its_own(directory: Path) -> None:
    workers = [Worker(directory, name * 20) for name in "ab"]
    try:
        assert len({worker.parent for worker in workers}) == 2
    finally:
        for worker in workers:
            worker.end()
