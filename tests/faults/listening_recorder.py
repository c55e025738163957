"""The recorder with ears, run by tests only: whoever calls the disk on the loop or on the watchdog's thread is told.

python listening_recorder.py [arguments of hk-tick-collector]

From the moment that recording begins to the end of the loop, each such call is one line ``disk_call`` on standard error
with thread, call and stack. Calls are heard in two ways: by audit events (``open``, ``os.*``, ``sqlite3.*``,
``subprocess.Popen``, ...) and, since ``stat`` and its like raise none, by functions of ``os`` that are replaced. A
module that is imported late counts as well. Allowed are lines for the log: they go to standard error, which is open.

Each thread that writes to a counter of ``core.progress`` is told once for each: a line ``counter_written``.

With ``SLOW_DISK_SEC`` every write to the spill and every sync takes so long; ``loop_gap`` tells when the loop did not
turn for LOOP_GAP_SEC.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from hk_tick_collector.app.daemon import Daemon
from hk_tick_collector.core.progress import BookProgress, FeedProgress, IngestProgress
from hk_tick_collector.main import main

SILENT = (
    "stat",
    "lstat",
    "access",
    "statvfs",
    "fsync",
    "fdatasync",
    "ftruncate",
    "pread",
    "pwrite",
    "readlink",
    "unlink",
)
EVENTS = ("open", "sqlite3.connect", "subprocess.Popen", "import", "mmap.__new__", "fcntl.flock", "fcntl.lockf")
HARMLESS = ("os.putenv", "os.unsetenv")
LOOP_GAP_SEC = 2.0

_watched: dict[int, str] = {}  # thread -> who it is
_busy = threading.local()
_written: set[tuple[str, int]] = set()  # counter, thread


def watch(thread_id: int, thread: str) -> None:
    _watched[thread_id] = thread


def heard(call: str, arguments: object) -> None:
    thread = _watched.get(threading.get_ident())
    if thread is None or getattr(_busy, "telling", False):
        return
    _busy.telling = True
    try:
        frames = traceback.extract_stack(sys._getframe(2), limit=12)
        stack = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
        sys.stderr.write(f"disk_call thread={thread} call={call} arguments={arguments!r:.200} stack={stack}\n")
    finally:
        _busy.telling = False


def listen(name: str, arguments: tuple[object, ...]) -> None:
    if not _watched or threading.get_ident() not in _watched:
        return
    if name in EVENTS or (name.startswith(("os.", "shutil.", "glob.", "pathlib.")) and name not in HARMLESS):
        if name == "import" and arguments[0] in sys.modules:
            return
        heard(name, arguments)


def with_ears(name: str) -> None:
    real = getattr(os, name)

    def call(*arguments: Any, **named: Any) -> Any:
        heard(f"os.{name}", arguments)
        return real(*arguments, **named)

    setattr(os, name, call)


def note_writers(counters: type) -> None:
    """From the moment that recording begins: made they are by whoever starts."""
    real = counters.__setattr__

    def write(self: object, name: str, value: object) -> None:
        real(self, name, value)
        written = f"{counters.__name__}.{name}", threading.get_ident()
        if _watched and written not in _written:
            _written.add(written)
            sys.stderr.write(f"counter_written name={written[0]} thread={threading.current_thread().name}\n")

    counters.__setattr__ = write  # type: ignore[method-assign, assignment]


def slow(name: str, sec: float) -> None:
    """Only in the spill: SQLite's own calls are in C, and a lock of another program makes those slow."""
    real = getattr(os, name)

    def call(*arguments: Any, **named: Any) -> Any:
        time.sleep(sec)
        return real(*arguments, **named)

    setattr(os, name, call)


def ears_on_the_loop(real: Callable[[Daemon], None]) -> Callable[[Daemon], None]:
    """``_beat`` is called when recording begins and then each second."""
    last = [0.0]

    def beat(self: Daemon) -> None:
        watch(threading.get_ident(), "loop")
        now_sec = time.monotonic()
        if last[0] and now_sec - last[0] > LOOP_GAP_SEC:
            sys.stderr.write(f"loop_gap sec={now_sec - last[0]:.1f}\n")
        last[0] = now_sec
        real(self)

    return beat


def until_the_end(real: Callable[[Daemon], Coroutine[Any, Any, int]]) -> Callable[[Daemon], Coroutine[Any, Any, int]]:
    async def run(self: Daemon) -> int:
        try:
            return await real(self)
        finally:
            _watched.clear()

    return run


def ears_on_the_watchdog(real: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def run(self: threading.Thread) -> None:
        if self.name == "watchdog":
            watch(threading.get_ident(), "watchdog")
        try:
            real(self)
        finally:
            _watched.pop(threading.get_ident(), None)  # the next thread may have its number

    return run


if __name__ == "__main__":
    for function in SILENT:
        with_ears(function)
    if "SLOW_DISK_SEC" in os.environ:
        for function in ("pwrite", "fsync"):
            slow(function, float(os.environ["SLOW_DISK_SEC"]))
    sys.addaudithook(listen)
    for progress in (FeedProgress, IngestProgress, BookProgress):
        note_writers(progress)
    Daemon._beat = ears_on_the_loop(Daemon._beat)  # type: ignore[method-assign]
    Daemon.run = until_the_end(Daemon.run)  # type: ignore[method-assign]
    threading.Thread.run = ears_on_the_watchdog(threading.Thread.run)  # type: ignore[method-assign]
    sys.exit(main())
