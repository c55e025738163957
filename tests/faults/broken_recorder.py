"""The recorder with a fault built in, run by tests only: one function is replaced before ``main`` is called.

python broken_recorder.py writer-bug      the 20th batch raises what nobody expects
python broken_recorder.py writer-bug-stays  so does every batch from the 20th on
python broken_recorder.py poison          ticks whose counter ends in 00 carry a volume that SQLite cannot hold
python broken_recorder.py stuck-writer    from the 20th batch on, the first writer hangs and hears nothing
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from hk_tick_collector.main import main
from hk_tick_collector.records.tick import Tick, seq_counter
from hk_tick_collector.sources.futu.mapping import TickMapper
from hk_tick_collector.store.writer import DayFileWriter

BATCHES_BEFORE = 20
POISON_EVERY = 100
TOO_LARGE = 1 << 70  # an SQLite integer has 64 bits


def writer_bug() -> None:
    """A fault of our own code, once."""
    _replace_write(_raise)


def writer_bug_stays() -> None:
    """A fault of our own code that every row meets."""
    _replace_write(_raise, for_good=True)


def stuck_writer() -> None:
    """As a file system that never answers: the thread cannot be interrupted, only replaced."""
    _replace_write(lambda: threading.Event().wait())


def poison() -> None:
    """Pushed or pulled, the tick is always the same."""
    genuine = TickMapper.map_all

    def poisoned(tick: Tick) -> Tick:
        chosen = tick.seq is not None and seq_counter(tick.seq) % POISON_EVERY == 0
        return tick._replace(volume=TOO_LARGE) if chosen else tick

    def map_all(self: TickMapper, *arguments: Any) -> list[Tick]:
        return [poisoned(tick) for tick in genuine(self, *arguments)]

    TickMapper.map_all = map_all  # type: ignore[method-assign]


def _raise() -> None:
    raise ZeroDivisionError("a bug that nobody expects")


def _replace_write(fail: Callable[[], object], *, for_good: bool = False) -> None:
    genuine = DayFileWriter.write
    batches = 0

    def write(self: DayFileWriter, ticks: Sequence[Tick], *arguments: Any, **named: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches == BATCHES_BEFORE or (for_good and batches > BATCHES_BEFORE):
            fail()
        return genuine(self, ticks, *arguments, **named)

    DayFileWriter.write = write  # type: ignore[method-assign]


if __name__ == "__main__":
    {"writer-bug": writer_bug, "writer-bug-stays": writer_bug_stays, "poison": poison, "stuck-writer": stuck_writer}[
        sys.argv.pop(1)
    ]()
    sys.exit(main())
