"""A process that reads files for the loop, one question at a time, and its other end.

Both ends are this program, so questions and answers are pickled: a length (4 bytes, big-endian), then a pair. It ends
when its standard input does, that is with the server, whichever way that ended. The one who asks waits without a limit:
a disk that hangs holds up what is read, never what is sent. A process that dies is replaced at the next question, which
is asked again: all of them only read.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import select
import signal
import struct
import sys
from typing import Any, BinaryIO, Protocol

from hk_tick_collector.core.errors import StoreError, StoreUnavailable
from hk_tick_collector.serve.live.files import Files

RESTART_SEC = 0.5
NICE = 5
GC_THRESHOLD_OBJECTS = 50_000
_LENGTH = struct.Struct(">I")
_STREAM_BYTES = 1 << 20


class Answers(Protocol):
    """Whoever answers questions about files: a ``Worker``, or in a test::

    class Here:
        async def ask(self, what, *arguments):
            return getattr(self.files, what)(*arguments)

        async def close(self):
            self.files.close()
    """

    async def ask(self, question: str, *arguments: Any) -> Any:
        """The answer of that method of ``Files``; its errors are raised here."""

    async def close(self) -> None:
        """No more questions."""


class Worker:
    """The loop's end. The process is started with the first question. ``is_nice``: it steps back behind others."""

    def __init__(self, *, is_nice: bool = False) -> None:
        self._arguments = ["nice"] if is_nice else []
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self.starts = 0

    async def ask(self, question: str, *arguments: Any) -> Any:
        """The answer. Raises what ``Files`` does; StoreUnavailable when the process died over it."""
        async with self._turn:
            try:
                if self._process is None or self._process.returncode is not None:
                    await self._start()
                is_good, answer = await self._asked((question, arguments))
            except (OSError, EOFError) as exc:
                self.kill()
                await asyncio.sleep(RESTART_SEC)
                raise StoreUnavailable("the process that reads the files has ended; another one is started") from exc
            except BaseException:  # cancelled: its answer would be the next question's
                self.kill()
                raise
        if not is_good:
            raise answer
        return answer

    async def _start(self) -> None:
        self.starts += 1
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "hk_tick_collector.serve.live.worker", *self._arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_STREAM_BYTES,
        )  # fmt: skip

    async def _asked(self, question: Any) -> tuple[bool, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(_packed(question))
        (length,) = _LENGTH.unpack(await self._process.stdout.readexactly(_LENGTH.size))
        answer: tuple[bool, Any] = pickle.loads(await self._process.stdout.readexactly(length))  # noqa: S301 - our own process
        return answer

    def kill(self) -> None:
        """End the process; the next question starts another one."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        self._process = None

    async def close(self) -> None:
        """End the process, and wait for it."""
        process = self._process
        self.kill()
        if process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await process.communicate()


def _packed(value: Any) -> bytes:
    payload = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(payload)) + payload


# In the process


def main() -> int:
    """Until standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they are for the server, which says bye first
        signal.signal(number, signal.SIG_IGN)
    if sys.argv[1:] == ["nice"]:
        with contextlib.suppress(PermissionError):  # a unit may forbid it
            os.nice(NICE)
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD_OBJECTS, 20, 20)  # thousands of rows at a time, and none of them in a cycle
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    questions = os.fdopen(os.dup(0), "rb", buffering=0)

    def is_asked(within_sec: float) -> bool:
        return bool(select.select([questions], [], [], within_sec)[0])

    files = Files(pause=is_asked)
    with contextlib.closing(files), contextlib.suppress(BrokenPipeError):
        while (question := _read(questions)) is not None:
            answers.write(_packed(_answer(files, *question)))
            answers.flush()
            if not is_asked(0):
                files.read_ahead()
    return 0


def _read(questions: BinaryIO | Any) -> tuple[str, tuple[Any, ...]] | None:
    head = _exactly(questions, _LENGTH.size)
    if head is None:
        return None
    payload = _exactly(questions, _LENGTH.unpack(head)[0])
    return None if payload is None else pickle.loads(payload)  # noqa: S301 - our own server


def _exactly(questions: BinaryIO | Any, size: int) -> bytes | None:
    content = b""
    while len(content) < size:
        piece = questions.read(size - len(content))
        if not piece:
            return None
        content += piece
    return content


def _answer(files: Files, question: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, getattr(files, question)(*arguments)
    except StoreError as exc:
        return False, exc
    except OSError as exc:
        return False, StoreUnavailable(str(exc))


if __name__ == "__main__":
    sys.exit(main())
