"""``hk-tickctl``, ``hk-opend-sim``, the recorder and the servers, each in a process of its own whose imports are done.

A process that has done what the console script does before it knows its arguments (and the imports that most commands
end with) waits for requests; for each it forks a child, which takes the caller's arguments, environment, directory and
output, calls the same ``main`` and ends as the script does. A test sees what a user sees, in a fifth of the time. That
the script itself stands where it should and loads what it needs is for tests that start it: ``tests.tickctl.BUILT``.
All processes of a run of pytest have it together: whoever wants it first starts it, and it ends after the last of them.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import hashlib
import importlib
import json
import os
import pty
import select
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
MAX_REQUEST_BYTES = 1 << 17
READY, HOLD = b"ready", b"hold"
IMPORTED = (
    "pyarrow", "pyarrow.compute", "pyarrow.csv", "pyarrow.parquet", "numpy.ma", "dateutil.relativedelta", "duckdb",
    "rich.console", "rich.table", "rich.progress", "hk_tick_collector.app.config", "hk_tick_collector.archive.pack",
    "hk_tick_collector.archive.restore", "hk_tick_collector.archive.retain", "hk_tick_collector.archive.stores",
    "hk_tick_collector.days.every", "hk_tick_collector.days.rows", "hk_tick_collector.export.job",
    "hk_tick_collector.export.csv_files", "hk_tick_collector.export.futu_zip", "hk_tick_collector.export.parquet_tree",
    "hk_tick_collector.export.sqlite_file", "hk_tick_collector.quality.certificate", "hk_tick_collector.quality.facts",
    "hk_tick_collector.quality.end_of_day", "hk_tick_collector.quality.gap_list", "hk_tick_collector.quality.index",
    "hk_tick_collector.quality.recount", "hk_tick_collector.query.bars", "hk_tick_collector.query.engine",
    "hk_tick_collector.query.fetch", "hk_tick_collector.query.output", "hk_tick_collector.query.top",
    "hk_tick_collector.ship.state", "hk_tick_collector.watch.stretch",
)  # fmt: skip
# What asks OpenD also imports the SDK, a second of work. The SDK opens its log under HOME when it is imported, so these
# have a process of their own to be forked from; a test that looks at that log starts the console script.
ASK_OPEND = frozenset({"audit", "doctor", "repair", "symbols"})
SDK = "hk_tick_collector.sources.futu.sdk"
# What Python reads once, when it starts: a command that is told of these starts by itself.
STARTING = ("PYTHON", "LANG", "LC_", "MALLOC_", "LD_")


TICKCTL, OPEND_SIM = "hk_tick_collector.cli.main", "hk_tick_collector.opend_sim.cli"
API, LIVE = "hk_tick_collector.serve.api.main", "hk_tick_collector.serve.live.main"
RECORDER = "hk_tick_collector.main"
SCRIPTS = {
    TICKCTL: "hk-tickctl", OPEND_SIM: "hk-opend-sim", RECORDER: "hk-tick-collector",
    API: "hk-tick-api", LIVE: "hk-tick-live",
}  # fmt: skip
# What the recorder imports once it knows that it is to run, and with the source that most tests record from.
RECORDING = (
    "hk_tick_collector.app.config", "hk_tick_collector.app.logs", "hk_tick_collector.app.start",
    "hk_tick_collector.app.daemon", "hk_tick_collector.sources.futu.link",
)  # fmt: skip
# What a server imports once it knows that it is to run.
SERVING = ("uvicorn.main", "hk_tick_collector.serve.heads", "hk_tick_collector.serve.sockets")
APPS = {"hk-tick-api": "hk_tick_collector.serve.api.app", "hk-tick-live": "hk_tick_collector.serve.live.app"}


class Child:
    """A command that runs: what tests use of ``subprocess.Popen``. It is killed when the tests end."""

    def __init__(self, line: socket.socket, pid: int, pidfd: int, output: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = open(output, encoding="utf-8")  # noqa: SIM115 - a descriptor, closed by who started it
        self._line = line
        self._pidfd = pidfd

    def poll(self) -> int | None:
        """The exit code, -N after signal N; None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. TimeoutExpired when it still runs then."""
        if self._look(timeout) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        assert self.returncode is not None
        return self.returncode

    def _look(self, timeout_sec: float | None) -> int | None:
        if self.returncode is None and select.select([self._line], [], [], timeout_sec)[0]:
            answer = self._line.recv(MAX_REQUEST_BYTES)
            assert answer, "the process that forks is gone"
            self.returncode = json.loads(answer)
            self._line.close()
            os.close(self._pidfd)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Whether or not the process that forked it is still there."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Parent:
    """The process that forks. Ends with the last of those that asked for it."""

    def __init__(self, program: str, *more: str, under: tuple[str, ...] = ()) -> None:
        """``program`` is the module of the command's ``main``; ``more`` are imported beside it. Its start and what it
        forks are ``under`` another command, as one that takes rights away."""
        told = (*under, program, *more)
        directory = _run_directory() / hashlib.sha256(" ".join(told).encode()).hexdigest()[:8]
        self.address = f"{directory}/socket"
        self._begun: subprocess.Popen[bytes] | None = None
        directory.mkdir(0o700, parents=True, exist_ok=True)
        with _only_one(directory):
            self._line = self._hold()
            if self._line is None:
                command = [*under, sys.executable, "-m", "tests.forked", self.address, program, *more]
                self._begun = self._begin(directory, command)

    def _hold(self) -> socket.socket | None:
        """Keep one that runs from ending; None where none runs."""
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(OSError):
            line.connect(self.address)
            line.send(HOLD)
            if line.recv(MAX_REQUEST_BYTES) == READY:
                atexit.register(line.close)
                return line
        line.close()
        return None

    def _begin(self, directory: Path, command: list[str]) -> subprocess.Popen[bytes]:
        """Its standard input keeps it from ending."""
        Path(self.address).unlink(missing_ok=True)  # of one that was killed
        (directory / "home").mkdir(exist_ok=True)
        changed = {"HOME": str(directory / "home"), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        begun = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **changed}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,  # it ends its own after them
        )  # fmt: skip
        assert begun.stdout is not None
        assert begun.stdout.readline().strip() == READY
        return begun

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], timeout_sec: float, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One command, as ``subprocess.run`` with captured texts does it. TimeoutExpired when it takes too long."""
        directory = str(cwd or Path.cwd())
        request = {"arguments": list(arguments), "environment": dict(environment), "directory": directory}
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line,
        ):
            line.settimeout(timeout_sec)
            line.connect(self.address)
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

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Child:
        """A command that goes on, in a session of its own; both its outputs are the child's ``stdout``."""
        request = {"arguments": list(arguments), "environment": dict(environment), "directory": str(Path.cwd())}
        reading, writing = os.pipe()
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.connect(self.address)
        socket.send_fds(line, [json.dumps({**request, "goes_on": True}).encode()], [writing, writing])
        os.close(writing)
        message, (pidfd,), _, _ = socket.recv_fds(line, MAX_REQUEST_BYTES, 1)
        return Child(line, json.loads(message), pidfd, reading)

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
            line.connect(self.address)
            socket.send_fds(line, [json.dumps(request).encode()], [slave, err.fileno()])
            os.close(slave)
            shown = b"".join(_all_of(screen.fileno(), time.monotonic() + timeout_sec))
            answer = line.recv(MAX_REQUEST_BYTES)
            err.seek(0)
            stderr = err.read().decode()
        text = shown.decode().replace("\r\n", "\n")
        return subprocess.CompletedProcess(["hk-tickctl", *arguments], json.loads(answer), text, stderr)


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
def _run_directory() -> Path:
    """Of this run of pytest, which may be several processes."""
    name = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    return Path(tempfile.gettempdir(), f"forked-{name[:16]}")


@contextlib.contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """No other process does the same meanwhile."""
    lock = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@cache
def _one(program: str, *more: str, under: tuple[str, ...] = ()) -> Parent:
    return Parent(program, *more, under=under)


def parent(command: str, under: Sequence[str] = ()) -> Parent:
    """Of ``hk-tickctl``: one for all tests, another for commands that ask OpenD, and one ``under`` each command."""
    return _one(TICKCTL, SDK) if command in ASK_OPEND and not under else _one(TICKCTL, under=tuple(under))


def simulators() -> Parent:
    """Of ``hk-opend-sim``: one for all tests."""
    return _one(OPEND_SIM)


def recorders() -> Parent:
    """Of ``hk-tick-collector``: one for all tests."""
    return _one(RECORDER, *RECORDING)


def servers(script: str) -> Parent:
    """Of ``hk-tick-api`` or ``hk-tick-live``: one for all tests."""
    return _one({SCRIPTS[program]: program for program in (API, LIVE)}[script], *SERVING, APPS[script])


def serve_commands() -> Parent:
    """Of ``hk-tickctl serve``: one for all tests."""
    return _one(TICKCTL, *SERVING, "hk_tick_collector.serve.both")


# What a shell starts in place of a console script: asks the process that forks, and ends as the command does. Commands
# that need another process to be forked from are the script itself.
STAND_IN = """\
#!{python} -IS
import json, os, socket, sys
if sys.argv[1:2] and sys.argv[1] in {not_here!r}:
    os.execv({script!r}, [{script!r}, *sys.argv[1:]])
line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
line.connect({address!r})
request = {{"arguments": sys.argv[1:], "environment": dict(os.environ), "directory": os.getcwd()}}
socket.send_fds(line, [json.dumps(request).encode()], [0, 1, 2])
code = json.loads(line.recv({max_bytes}))
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def stand_in(program: str, script: Path, directory: Path) -> None:
    """Put a command of the script's name into a directory of PATH that is a tenth of the script's start."""
    directory.mkdir(exist_ok=True)
    not_here = sorted(ASK_OPEND) if program == TICKCTL else []
    text = STAND_IN.format(
        python=Path(sys.executable).resolve(), not_here=not_here, script=str(script), address=_one(program).address,
        max_bytes=MAX_REQUEST_BYTES,
    )  # fmt: skip
    command = directory / script.name
    command.write_text(text)
    command.chmod(0o755)


def may_fork(settings: Iterable[str]) -> bool:
    """Is none of these variables one that only a new process would hear of?"""
    return not any(name.startswith(STARTING) for name in settings)


class Forking:
    """Waits for requests at a socket, forks, and tells how each child has ended."""

    def __init__(self, door: socket.socket, events: selectors.BaseSelector) -> None:
        self._door, self._events = door, events
        self._holding: set[Any] = {sys.stdin}
        self._running: dict[int, tuple[int, socket.socket]] = {}  # pidfd: pid, who waits for it
        events.register(door, selectors.EVENT_READ, None)
        events.register(sys.stdin, selectors.EVENT_READ, HOLD)

    def serve(self) -> list[int] | None:
        """The children that are left when nobody holds this process any more; None in a child, which is then what its
        request asks for."""
        while self._holding:
            for key, _ in self._events.select():
                if key.data == HOLD:
                    self._events.unregister(key.fileobj)
                    self._holding.remove(key.fileobj)
                elif key.fileobj is self._door:
                    if self._answer(self._door.accept()[0]):
                        return None
                elif key.data in self._running:
                    self._look_at(key.data, key.fileobj)
        return [pid for pid, _ in self._running.values()]

    def _answer(self, line: socket.socket) -> bool:
        """Is this the child?"""
        message, streams, _, _ = socket.recv_fds(line, MAX_REQUEST_BYTES, 3)
        if message == HOLD:
            with contextlib.suppress(OSError):
                line.send(READY)
            self._events.register(line, selectors.EVENT_READ, HOLD)
            self._holding.add(line)
            return False
        if not message:  # who asked is gone
            line.close()
            return False
        request = json.loads(message)
        pid = os.fork()
        if pid == 0:
            for pidfd in self._running:
                os.close(pidfd)
            for other_line in (line, *(other for _, other in self._running.values()), *self._holding - {sys.stdin}):
                other_line.close()
            _become(request, streams)
            return True
        for stream in streams:
            os.close(stream)
        pidfd = os.pidfd_open(pid)
        self._running[pidfd] = (pid, line)
        if request.get("goes_on"):
            with contextlib.suppress(OSError):
                socket.send_fds(line, [json.dumps(pid).encode()], [pidfd])
        self._events.register(pidfd, selectors.EVENT_READ, pidfd)
        self._events.register(line, selectors.EVENT_READ, pidfd)  # closed: nobody waits any more
        return False

    def _look_at(self, pidfd: int, told_by: object) -> None:
        pid, line = self._running[pidfd]
        if told_by is line:
            self._events.unregister(line)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(KeyError):
            self._events.unregister(line)
        with contextlib.suppress(OSError):
            line.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())
        line.close()
        self._events.unregister(pidfd)
        os.close(pidfd)
        del self._running[pidfd]


def serve(address: str) -> None:
    """Fork what is asked for. Returns in each child."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door, selectors.DefaultSelector() as events:
        door.bind(address)
        door.listen(64)
        forking = Forking(door, events)
        print(READY.decode(), flush=True)
        left = forking.serve()
    if left is not None:
        _end(Path(address).parent, left)


def _end(directory: Path, children: Iterable[int]) -> NoReturn:
    """All who asked for it are gone, by whatever signal."""
    for pid in children:
        os.kill(pid, signal.SIGKILL)  # none of them was waited for yet
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        directory.parent.rmdir()  # there may be others
    os._exit(0)


def _become(request: Mapping[str, Any], streams: list[int]) -> None:
    """In the child: what the request asks for."""
    if request.get("goes_on"):
        os.setsid()
    if len(streams) == 2:  # the outputs alone
        streams = [os.open(os.devnull, os.O_RDONLY), *streams]
    for source, number in zip(streams, (0, 1, 2), strict=True):
        os.dup2(source, number)
        os.close(source)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = [str(Path(sys.executable).with_name(SCRIPTS[sys.argv[2]])), *request["arguments"]]


def main_of(program: str, others: Sequence[str]) -> Callable[[], int]:
    """The command's ``main``, with everything imported that it will need."""
    main: Callable[[], int] = importlib.import_module(program).main
    if program == TICKCTL:
        from hk_tick_collector.cli.main import COMMANDS  # noqa: PLC0415 - of this process alone

        for name in (*IMPORTED, *(f"hk_tick_collector.cli.{module}" for module, _ in COMMANDS.values())):
            importlib.import_module(name)
        assert "futu" not in sys.modules, "the SDK looks at HOME when it is imported"
    for name in others:
        importlib.import_module(name)
    return main


def end_with(main: Callable[[], object]) -> NoReturn:
    """``sys.exit(main())`` as the script has it, but for taking all imported modules apart, which would be most of what
    a short command costs. That nothing goes wrong there is for tests that start the script itself."""
    try:
        code = main()
    except SystemExit as exc:
        code = exc.code
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):  # nobody reads it: Python has a way to say so
        sys.exit(code)  # type: ignore[arg-type]
    if code is None or isinstance(code, int):
        os._exit((code or 0) & 0xFF)
    sys.exit(code)  # type: ignore[arg-type]


if __name__ == "__main__":
    _, address, program, *others = sys.argv
    main = main_of(program, others)
    assert threading.active_count() == 1, "a thread does not outlive a fork"

    # As the script has it: the tests and the current directory are no place to import from.
    sys.path[:] = [path for path in sys.path if path not in ("", str(ROOT))]
    gc.freeze()
    serve(address)
    end_with(main)
