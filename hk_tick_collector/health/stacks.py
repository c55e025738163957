"""The stacks of all threads on standard error, when somebody asks with SIGUSR1.

A handler that the C library runs walks the frames of threads that run on meanwhile: under load that reads freed memory
and ends the process with SIGSEGV. So the signal is blocked in every thread, and one of its own waits for it and writes
with the interpreter's lock in hand, while every other thread stands still. The loop may be stuck as long as it likes;
code that never gives the lock back leaves the request unanswered, and the process alive.
"""

from __future__ import annotations

import faulthandler
import signal
import threading

_ASKING = {signal.SIGUSR1}


def hold_requests() -> None:
    """From now on a request waits, and ends the process no more. Before the first thread: they take it over."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ASKING)


def answer_requests() -> None:
    """Answer what was asked since ``hold_requests`` and what will be, from a thread of its own."""
    threading.Thread(target=_answer, name="stacks", daemon=True).start()


def _answer() -> None:
    while True:
        signal.sigwait(_ASKING)
        faulthandler.dump_traceback(all_threads=True)
