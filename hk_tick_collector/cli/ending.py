"""Being told to stop while files are written: clean up first, then end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hk_tick_collector.cli.common import say


@contextmanager
def clean_ending() -> Iterator[None]:
    """Inside the block SIGTERM and SIGHUP end the program as Ctrl-C does, through every ``finally``, with 128 plus the
    signal's number as a shell reports it."""

    def stop(number: int, _frame: FrameType | None) -> None:
        say("hk-tickctl: told to stop; nothing half done is left")
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
