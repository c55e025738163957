"""Work that may wait for a disk, done aside, so that the loop never does.

The thread is a daemon thread and not one of the loop's executor, which is waited for when the process ends: a disk that
hangs must not keep a process alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(name: str, call: Callable[[], T]) -> T:
    """The result of ``call``, run on a thread of its own; what it raises is raised here.

    Cancelling ends the waiting, not the thread.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def answer(settle: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(lambda: None if future.done() else settle())

    def work() -> None:
        try:
            result = call()
        except BaseException as exc:  # noqa: BLE001 (edge: whatever it is belongs to the waiting loop)
            error = exc
            answer(lambda: future.set_exception(error))
        else:
            answer(lambda: future.set_result(result))

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future
