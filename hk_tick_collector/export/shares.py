"""The symbols of one book file shared out to several processes, each of which makes the files of its own.

A process reads the whole file and decodes its symbols' rows only, so that nothing is done twice but the passing over of
rows. Which process makes a symbol's files changes nothing in them. Processes are started anew instead of forked: Arrow
and numpy have threads here. Each costs a second of CPU for its start, so that small files are left to the one.

A process that fails ends the others, and its error is raised here. Told to stop, each cleans up what it had begun.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.days.books import newest_no
from hk_tick_collector.export.job import Exported
from hk_tick_collector.export.rows import Advance
from hk_tick_collector.store.book_reader import sampled_shares

PUSHES_A_PROCESS = 300_000  # at least: reading so many takes as long as the start of a process
_DEFAULT_PROCESSES = 4
_END_SEC = 10.0  # for a process that was told to stop


class Work(Protocol):
    """What is done with the symbols of a share; it is sent to the processes, so it has to be picklable.

    ::

        class Names:
            def export(self, symbols, parts, advance):
                for symbol in symbols:
                    path = self.root / symbol
                    path.write_text(symbol)
                    advance(1)
                    yield Exported(path, (self.day,), 1, path.stat().st_size, so_far=False)
    """

    def export(self, symbols: Sequence[str], parts: int, advance: Advance) -> Iterator[Exported]:
        """Make the files of these symbols. ``parts``: so many shares are made at a time, and have the memory of one
        together. ``advance`` is told of ticks."""


class ShareEnded(RecorderError):
    """A process ended without its work being done: killed, perhaps for want of memory."""


def default_processes() -> int:
    """One a core that this process may use, and not more than four."""
    return min(len(os.sched_getaffinity(0)), _DEFAULT_PROCESSES)


def exported(work: Work, path: Path | None, symbols: Sequence[str], processes: int, advance: Advance) -> list[Exported]:
    """All files of these symbols of the book file at ``path`` (None: there are no books), in any order. Whatever
    ``work`` raises, and ShareEnded."""
    most = 1 if path is None else min(processes, newest_no(path) // PUSHES_A_PROCESS)
    shares = shares_of(path, symbols, most) if path is not None and most > 1 else [list(symbols)]
    if len(shares) < 2:
        return list(work.export(symbols, 1, advance))
    return list(_by_processes(work, shares, advance))


def shares_of(path: Path, symbols: Sequence[str], count: int) -> list[list[str]]:
    """As many shares of the symbols of a file, or fewer, with about the same number of pushes each. Symbols of a share
    follow one another in the file's numbering: its rows are then chosen by two comparisons."""
    part_of_rows = sampled_shares(path)
    ordered = sorted(symbols, key=list(part_of_rows).index)
    whole = sum(part_of_rows[symbol] for symbol in ordered) or 1.0
    shares: list[list[str]] = [[] for _ in range(count)]
    before = 0.0
    for symbol in ordered:
        middle = before + part_of_rows[symbol] / 2
        shares[min(int(middle / whole * count), count - 1)].append(symbol)
        before += part_of_rows[symbol]
    return [share for share in shares if share]


def _by_processes(work: Work, shares: Sequence[Sequence[str]], advance: Advance) -> Iterator[Exported]:
    context = multiprocessing.get_context("spawn")
    started: dict[Connection, Any] = {}
    try:
        for share in shares:
            receiving, sending = context.Pipe(duplex=False)
            with closing(sending), _deaf_to_ctrl_c():
                process = context.Process(target=_run, args=(work, share, len(shares), sending), daemon=True)
                process.start()
            started[receiving] = process
        yield from _messages(started, advance)
    finally:
        for receiving, process in started.items():
            process.terminate()
            receiving.close()
        for process in started.values():
            process.join(_END_SEC)
            if process.is_alive():
                process.kill()
                process.join()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """A process that is started meanwhile is so too until ``_run``: the terminal tells all of them, and those that are
    still importing would each end with a traceback."""
    resource_tracker.ensure_running()  # which would end this
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _messages(started: Mapping[Connection, Any], advance: Advance) -> Iterator[Exported]:
    """What the processes made, until all of them are done."""
    at_work = set(started)
    while at_work:
        for receiving in wait(list(at_work)):
            assert isinstance(receiving, Connection)
            try:
                message = receiving.recv()
            except EOFError:
                started[receiving].join()
                raise ShareEnded(
                    f"a process of the export ended before its work was done (exit code "
                    f"{started[receiving].exitcode}): if memory is short, try --processes 1"
                ) from None
            if isinstance(message, Exported):
                yield message
            elif isinstance(message, Exception):
                raise message
            elif message is None:
                at_work.discard(receiving)
                started[receiving].join()
            else:
                advance(message)


def _run(work: Work, symbols: Sequence[str], parts: int, sending: Connection) -> None:
    """In a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the whole terminal gets it; who started us tells us to stop
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        for file in work.export(symbols, parts, sending.send):
            sending.send(file)
        sending.send(None)
    except BrokenPipeError:  # nobody is there any more
        return
    except Exception as exc:  # noqa: BLE001 (edge: it is raised where the work was asked for)
        sending.send(_sendable(exc))


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _sendable(exc: Exception) -> Exception:
    """Made anew from its arguments, as the other process will; else its words alone."""
    try:
        type(exc)(*exc.args)
        pickle.dumps(exc)
    except Exception:  # noqa: BLE001 (whatever its class asks of whoever makes one)
        return RecorderError(f"{type(exc).__name__}: {exc}")
    return exc
