"""The reading processes: a few, each with one question at a time, watched, killed and replaced.

A process is killed when its client has gone, when nothing came of it for ``timeout_sec``, when it takes more memory
than it may, or when a client takes its answer too slowly: a killed answer never looks like a whole one (``Broken``).
What waits for a free process is bounded, in number and in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.scratch import Scratch
from hk_tick_collector.serve.api import wire
from hk_tick_collector.serve.api.older import OlderAt
from hk_tick_collector.serve.problems import FieldError, Problem

MAX_WAITING = 64
WAIT_SEC = 20.0  # for a free process
START_SEC = 60.0
RESTART_SEC = 1.0  # between two tries to start one
LOOK_SEC = 0.5
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_log = logging.getLogger(__name__)


class Broken(Exception):
    """An answer ended in its middle: what the client has of it is not whole."""


class Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process, temp: Scratch | None) -> None:
        self._process = process
        self._temp = temp
        self.killed_for = ""

    @classmethod
    async def start(cls, roots: Sequence[tuple[Path, Path]], older: OlderAt | None = None) -> Worker:
        """Start one and wait until it is ready. OSError, TimeoutError, IncompleteReadError when it does not."""
        paths = json.dumps({"roots": [[str(data), str(archive)] for data, archive in roots], "older": older})
        temp = await asyncio.to_thread(_scratch)
        own = [] if temp is None else [str(temp.path)]
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "hk_tick_collector.serve.api.worker", paths, *own,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=wire.MAX_FRAME_BYTES,
                env=None if temp is None else {**os.environ, "TMPDIR": str(temp.path)},
                pass_fds=() if temp is None else temp.lock,
            )  # fmt: skip
        except BaseException:
            if temp is not None:
                temp.remove()
            raise
        worker = cls(process, temp)
        try:
            async with asyncio.timeout(START_SEC):
                await worker._frame()
        except BaseException:
            worker.kill("it did not start")
            await worker.wait()
            raise
        return worker

    @property
    def is_alive(self) -> bool:
        """Does it run?"""
        return self._process.returncode is None

    @property
    def memory_bytes(self) -> int:
        """What it holds; 0 when it has ended."""
        try:
            return int(Path(f"/proc/{self._process.pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError, ValueError):
            return 0

    def kill(self, why: str) -> None:
        """End it now."""
        self.killed_for = self.killed_for or why
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def wait(self) -> None:
        """Until it has ended, what it said last thrown away: asyncio tells of the end only behind it."""
        assert self._process.stdout is not None
        with contextlib.suppress(RuntimeError, OSError):
            while await self._process.stdout.read(wire.MAX_FRAME_BYTES):
                pass
        await self._process.wait()
        if self._temp is not None:
            await asyncio.to_thread(self._temp.remove)

    async def ask(
        self, question: Mapping[str, Any], timeout_sec: float, whole_sec: float | None
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        """The frames of one answer up to and with its end. IncompleteReadError when the process dies; TimeoutError when
        nothing comes of it, or it is not whole after ``whole_sec``."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        until = float("inf") if whole_sec is None else asyncio.get_running_loop().time() + whole_sec
        while True:
            left_sec = until - asyncio.get_running_loop().time()
            async with asyncio.timeout(min(timeout_sec, left_sec)):
                kind, payload = await self._frame()
            yield kind, payload
            if kind in (wire.END, wire.PROBLEM):
                return

    async def _frame(self) -> tuple[bytes, bytes]:
        assert self._process.stdout is not None
        kind, length = wire.FRAME.unpack(await self._process.stdout.readexactly(wire.FRAME.size))
        return kind, await self._process.stdout.readexactly(length)


def _scratch() -> Scratch | None:
    """For a process's temporary files; None where there is no place."""
    with contextlib.suppress(StoreUnavailable):
        return Scratch("api")
    return None


class Pool:
    """All of them. ``open`` before the first question (a pool that few need opens with it), ``close`` in the end.

    ``timeout_sec``: how long an answer may give nothing; ``whole_sec``: how long all of it may take.
    """

    def __init__(
        self,
        roots: Sequence[tuple[Path, Path]],
        *,
        workers: int,
        timeout_sec: float,
        memory_bytes: int,
        whole_sec: float | None = None,
        older: OlderAt | None = None,
    ) -> None:
        self._roots = roots
        self._older = older
        self._size = workers
        self._timeout_sec = timeout_sec
        self._whole_sec = whole_sec
        self._is_open = False
        self._memory_bytes = memory_bytes
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        self._workers: set[Worker] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self.replaced = 0
        self.is_well = True  # False while no process can be started

    @property
    def ready(self) -> int:
        """Processes that run."""
        return sum(worker.is_alive for worker in self._workers)

    async def open(self) -> None:
        """Start all of them, side by side."""
        self._is_open = True
        self._spawn(self._watch_memory())
        await asyncio.gather(*(self._start() for _ in range(self._size)))

    async def close(self) -> None:
        """End all of them."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in list(self._workers):
            worker.kill("the server stops")
            await worker.wait()

    @contextlib.asynccontextmanager
    async def answer(self, question: Mapping[str, Any]) -> AsyncIterator[Answer]:
        """The answer to a question, whose head has come. A Problem when there is none. The process goes back when the
        answer was read to its end, and is killed when not."""
        if not self._is_open:
            self._is_open = True
            self._spawn(self.open())
        worker = await self._take()
        reply = Answer(worker.ask(question, self._timeout_sec, self._whole_sec), worker)
        try:
            await reply.begin()
            yield reply
        finally:
            if reply.is_over and worker.is_alive:
                self._idle.put_nowait(worker)
            else:
                worker.kill("its answer was not wanted to the end")
                self._spawn(self._replace(worker))

    async def _take(self) -> Worker:
        if self._waiting >= MAX_WAITING:
            raise Problem("overloaded", "too many reads wait already")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SEC):
                while True:
                    worker = await self._idle.get()
                    if worker.is_alive:
                        return worker
                    self._spawn(self._replace(worker))
        except TimeoutError:
            raise Problem("overloaded", "every reading process is busy") from None
        finally:
            self._waiting -= 1

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self) -> None:
        while True:
            try:
                worker = await Worker.start(self._roots, self._older)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as exc:
                self.is_well = False
                _log.error(event("reader_not_started", error=exc))
                await asyncio.sleep(RESTART_SEC)
                continue
            self.is_well = True
            self._workers.add(worker)
            self._idle.put_nowait(worker)
            return

    async def _replace(self, worker: Worker) -> None:
        await worker.wait()
        self._workers.discard(worker)
        self.replaced += 1
        _log.info(event("reader_replaced", reason=worker.killed_for or "it died"))
        await self._start()

    async def _watch_memory(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SEC)
            for worker in self._workers:
                if worker.memory_bytes > self._memory_bytes:
                    worker.kill("it took more memory than API_WORKER_MEMORY_MB")


class Answer:
    """One answer as it comes."""

    def __init__(self, frames: AsyncIterator[tuple[bytes, bytes]], worker: Worker) -> None:
        self._frames = frames
        self._worker = worker
        self._first: bytes | None = None
        self.is_over = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.rows = 0

    async def begin(self) -> None:
        """Wait for the head. A Problem when the process has one, takes too long or dies."""
        try:
            kind, payload = await anext(self._frames)
        except TimeoutError:
            raise Problem("timeout") from None
        except asyncio.IncompleteReadError:
            raise self._died() from None
        if kind == wire.PROBLEM:
            self.is_over = True
            raise _problem(payload)
        head = json.loads(payload)
        self.status, self.headers = head["status"], head["headers"]

    async def body(self) -> AsyncIterator[bytes]:
        """The pieces. Broken when it ends before its end."""
        try:
            async for kind, payload in self._frames:
                if kind == wire.DATA:
                    yield payload
                elif kind == wire.END:
                    self.is_over = True
                    self.rows = json.loads(payload)["rows"]
                    return
                else:
                    self.is_over = True
                    raise Broken(_problem(payload).slug)
        except TimeoutError:
            raise Broken("timeout") from None
        except asyncio.IncompleteReadError:
            raise Broken(self._worker.killed_for or "the reading process died") from None

    def _died(self) -> Problem:
        if "memory" in self._worker.killed_for:
            return Problem("too-large", "the read takes more memory than this server allows")
        return Problem("store-busy", "the reading process ended; another takes its place")


def _problem(payload: bytes) -> Problem:
    fault = json.loads(payload)
    errors = [FieldError(*error) for error in fault["errors"]]
    return Problem(
        fault["slug"], fault["detail"], hint=fault["hint"], errors=errors, headers=fault["headers"], more=fault["more"]
    )
