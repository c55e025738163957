"""The command ``hk-tickctl`` in processes of its own that need not import Arrow and DuckDB each time.

A process that has done what the console script does before it knows its arguments (and the imports that most commands
end with) waits for requests; for each it forks a child, which takes the caller's arguments, environment, directory and
output, calls the same ``main`` and ends as the script does. A test sees what a user sees, in a fifth of the time. That
the script itself stands where it should and loads what it needs is for tests that start it: ``tests.tickctl.BUILT``.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import pty
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_REQUEST_BYTES = 1 << 17
READY = b"ready"
IMPORTED = (
    "pyarrow", "pyarrow.compute", "pyarrow.parquet", "duckdb", "rich.console", "rich.table", "rich.progress",
    "hk_tick_collector.app.config", "hk_tick_collector.archive.pack", "hk_tick_collector.archive.retain",
    "hk_tick_collector.export.job", "hk_tick_collector.quality.certificate", "hk_tick_collector.quality.recount",
    "hk_tick_collector.query.engine", "hk_tick_collector.query.fetch", "hk_tick_collector.query.output",
)  # fmt: skip
# What Python reads once, when it starts: a command that is told of these starts by itself.
STARTING = ("PYTHON", "LANG", "LC_", "MALLOC_", "LD_")


class Parent:
    """The process that forks. Ends with the tests."""

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="forked-")
        self._address = f"{self._home.name}/socket"
        environment = {**os.environ, "HOME": self._home.name, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked", self._address], cwd=ROOT, env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == READY

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], timeout_sec: float
    ) -> subprocess.CompletedProcess[str]:
        """One command, as ``subprocess.run`` with captured texts does it. TimeoutExpired when it takes too long."""
        request = {"arguments": list(arguments), "environment": dict(environment), "directory": str(Path.cwd())}
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line,
        ):
            line.settimeout(timeout_sec)
            line.connect(self._address)
            socket.send_fds(line, [json.dumps(request).encode()], [out.fileno(), err.fileno()])
            try:
                answer = line.recv(MAX_REQUEST_BYTES)
            except TimeoutError as exc:
                raise subprocess.TimeoutExpired(list(arguments), timeout_sec) from exc
            assert answer, "the process that forks is gone"
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(["hk-tickctl", *arguments], json.loads(answer), *texts)

    def run_on_terminal(
        self, arguments: Sequence[str], environment: Mapping[str, str], columns: int, timeout_sec: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """As ``run``, with a terminal of so many columns as standard output; standard error is none."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        request = {"arguments": list(arguments), "environment": dict(environment), "directory": str(Path.cwd())}
        with (
            open(master, "rb", buffering=0) as screen,  # noqa: PTH123 - a descriptor
            tempfile.TemporaryFile() as err,
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line,
        ):
            line.settimeout(timeout_sec)
            line.connect(self._address)
            socket.send_fds(line, [json.dumps(request).encode()], [slave, err.fileno()])
            os.close(slave)
            shown = b"".join(_all_of(screen.fileno(), time.monotonic() + timeout_sec))
            answer = line.recv(MAX_REQUEST_BYTES)
            err.seek(0)
            said = err.read().decode()
        text = shown.decode().replace("\r\n", "\n")
        return subprocess.CompletedProcess(["hk-tickctl", *arguments], json.loads(answer), text, said)


def _all_of(terminal: int, deadline: float) -> Iterator[bytes]:
    """What is written to a terminal until its last writer ends. TimeoutError at the deadline."""
    while True:
        if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError("the command still runs")
        try:
            part = os.read(terminal, 65536)
        except OSError:  # nobody has the other end
            return
        yield part


@cache
def parent() -> Parent:
    """One for all tests of this process."""
    return Parent()


def may_fork(settings: Iterable[str]) -> bool:
    """Is none of these variables one that only a new process would hear of?"""
    return not any(name.startswith(STARTING) for name in settings)


def serve(address: str) -> None:
    """Wait for requests until standard input ends. Returns in each child, which is then what the request asks for."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door, selectors.DefaultSelector() as events:
        door.bind(address)
        door.listen(64)
        events.register(door, selectors.EVENT_READ, None)
        events.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        print(READY.decode(), flush=True)
        running: dict[int, tuple[int, socket.socket]] = {}  # pidfd: pid, who waits for it
        while True:
            for key, _ in events.select():
                if key.fileobj == sys.stdin.fileno():
                    os._exit(0)
                elif key.fileobj is door:
                    line, _ = door.accept()
                    pid = _begin(line)
                    if pid == 0:
                        for other_pidfd, (_, other_line) in running.items():
                            os.close(other_pidfd)
                            other_line.close()
                        line.close()
                        return
                    pidfd = os.pidfd_open(pid)
                    running[pidfd] = (pid, line)
                    events.register(pidfd, selectors.EVENT_READ, pidfd)
                    events.register(line, selectors.EVENT_READ, pidfd)  # closed: nobody waits any more
                elif key.data in running:
                    pid, line = running[key.data]
                    if key.fileobj is line:
                        events.unregister(line)
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                        continue
                    _, status = os.waitpid(pid, 0)
                    with contextlib.suppress(KeyError):
                        events.unregister(line)
                    with contextlib.suppress(OSError):
                        line.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())
                    line.close()
                    events.unregister(key.data)
                    os.close(key.data)
                    del running[key.data]


def _begin(line: socket.socket) -> int:
    """Fork. In the child, 0: it has become what the request asks for."""
    message, outputs, _, _ = socket.recv_fds(line, MAX_REQUEST_BYTES, 2)
    pid = os.fork()
    if pid:
        for output in outputs:
            os.close(output)
        return pid
    request = json.loads(message)
    for source, number in zip([os.open(os.devnull, os.O_RDONLY), *outputs], (0, 1, 2), strict=True):
        os.dup2(source, number)
        os.close(source)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = [str(Path(sys.executable).with_name("hk-tickctl")), *request["arguments"]]
    return 0


if __name__ == "__main__":
    from hk_tick_collector.cli.main import COMMANDS, main

    for name in (*IMPORTED, *(f"hk_tick_collector.cli.{module}" for module, _ in COMMANDS.values())):
        __import__(name)
    assert "futu" not in sys.modules, "the SDK looks at HOME when it is imported"

    # As the script has it: the tests and the current directory are no place to import from.
    sys.path[:] = [path for path in sys.path if path not in ("", str(ROOT))]
    gc.freeze()
    serve(sys.argv[1])
    sys.exit(main())
