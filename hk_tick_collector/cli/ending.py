"""Being told to stop while files are written: clean up first, then end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hk_tick_collector.cli.common import say

NOTHING_LEFT = "nothing half done is left"


@contextmanager
def clean_ending(left: str = NOTHING_LEFT) -> Iterator[None]:
    """Inside the block SIGTERM and SIGHUP end the program as Ctrl-C does, through every ``finally``, with 128 plus the
    signal's number as a shell reports it. ``left``: what is there then, for the person who stopped it."""

    def stop(number: int, _frame: FrameType | None) -> None:
        say(f"hk-tickctl: told to stop; {left}")
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        if left != NOTHING_LEFT:
            say(left)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
